"""Tests of ``batchproxy.backends.onnx``, with models made on the spot."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from batchproxy.backends import onnx as backend_module
from batchproxy.backends.onnx import OnnxBackend, find_model
from batchproxy.backends.onnx_versions import OnnxVersions
from batchproxy.core.columns import ArrayColumn, ListColumn
from batchproxy.core.errors import BackendProtocolError, BackendRejected, Code, ConfigError
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import DEFAULT_SIGNATURE, TensorSpec

KEY = BatchKey("m", 1, DEFAULT_SIGNATURE)
Dims = Sequence[int | str | None] | None


def save(
    path: Path, nodes: list[Any], inputs: dict[str, tuple[int, Dims]], outputs: dict[str, tuple[int, Dims]]
) -> Path:
    """Write a model of ``nodes``; IR 8 and opset 17 are read by every onnxruntime since 1.12."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, dtype, shape) for name, (dtype, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, dtype, shape) for name, (dtype, shape) in outputs.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    return path


def identity(path: Path, dtype: int = TensorProto.FLOAT, shape: Dims = ("N",)) -> Path:
    """A model that gives back its input ``x`` as ``y``."""
    return save(path, [helper.make_node("Identity", ["x"], ["y"])], {"x": (dtype, shape)}, {"y": (dtype, shape)})


async def run(backend: OnnxBackend, key: BatchKey = KEY, **inputs: Any) -> dict[str, Any]:
    """One call, arrays in and out."""
    columns = {name: ArrayColumn(np.asarray(value)) for name, value in inputs.items()}
    answer = (await backend.infer(key, columns)).columns
    return {name: column.array for name, column in answer.items() if isinstance(column, ArrayColumn)}


@pytest.mark.parametrize(
    "name",
    ["float32", "float64", "float16", "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"],
)
async def test_numbers_pass_unchanged(tmp_path: Path, name: str) -> None:
    """Every dtype of numbers that numpy and onnxruntime share, up to its extremes."""
    dtype = np.dtype(name)
    limits = [False, True] if name == "bool" else [0, 1]
    if dtype.kind in "iu":
        limits = [np.iinfo(dtype).min, np.iinfo(dtype).max]
    backend = OnnxBackend(identity(tmp_path / "m.onnx", helper.np_dtype_to_tensor_dtype(dtype)))
    sent = np.array(limits, dtype)
    answer = await run(backend, x=sent)
    await backend.aclose()

    assert TensorSpec(name, (None,)) == backend.signatures[DEFAULT_SIGNATURE].inputs["x"]
    assert dtype == answer["y"].dtype
    assert sent.tolist() == answer["y"].tolist()


@pytest.mark.parametrize(
    "sent",
    [
        np.array([b"a", "é".encode(), b"", b"nul\x00inside"], dtype=object),
        np.array([[b"a"], [b"b"]], dtype=object)[::-1],
        np.array([b"abc", b"d"]),
        np.array(["abc", "é"]),
        np.empty(0, dtype=object),
    ],
)
async def test_strings(tmp_path: Path, sent: np.ndarray[Any, Any]) -> None:
    """Bytes go in as text and come out as bytes again, whatever numpy calls them."""
    backend = OnnxBackend(identity(tmp_path / "m.onnx", TensorProto.STRING, None))
    answer = await run(backend, x=sent)
    await backend.aclose()

    assert "string" == backend.signatures[DEFAULT_SIGNATURE].inputs["x"].dtype
    assert [item.encode() if isinstance(item, str) else item for item in sent.ravel()] == answer["y"].ravel().tolist()
    assert sent.shape == answer["y"].shape


async def test_strings_that_are_not_text(tmp_path: Path) -> None:
    """ONNX strings are UTF-8: other bytes are refused before the model sees them."""
    backend = OnnxBackend(identity(tmp_path / "m.onnx", TensorProto.STRING))
    for value in (b"\xff", "\ud800"):
        with pytest.raises(BackendRejected) as caught:
            await run(backend, x=np.array([value], dtype=object))

        assert Code.INVALID_ARGUMENT == caught.value.code
        assert "UTF-8" in caught.value.message or "utf-8" in caught.value.message
    await backend.aclose()


@pytest.mark.parametrize(
    "sent",
    [
        np.frombuffer(np.arange(4, dtype="f4").tobytes(), dtype="f4"),
        np.arange(8, dtype="f4")[::2],
        np.arange(4, dtype="f4")[::-1],
        np.frombuffer(b"\0" + np.arange(4, dtype="f4").tobytes(), dtype="u1")[1:].view("f4"),
        np.arange(4, dtype=">f4"),
        np.broadcast_to(np.float32(3), (4,)),
        np.empty(0, dtype="f4"),
    ],
    ids=["read-only", "strided", "reversed", "unaligned", "big-endian", "broadcast", "empty"],
)
async def test_unusual_views(tmp_path: Path, sent: np.ndarray[Any, Any]) -> None:
    """Inputs may be any view: they are slices of other people's buffers."""
    backend = OnnxBackend(identity(tmp_path / "m.onnx"))
    answer = await run(backend, x=sent)
    await backend.aclose()

    assert sent.tolist() == answer["y"].tolist()


async def test_only_the_outputs_asked_for(tmp_path: Path) -> None:
    """The filter of the key decides what is computed; an unknown name is the caller's fault."""
    nodes = [helper.make_node("Neg", ["x"], ["minus"]), helper.make_node("Abs", ["x"], ["plus"])]
    vector = (TensorProto.FLOAT, ("N",))
    backend = OnnxBackend(save(tmp_path / "m.onnx", nodes, {"x": vector}, {"minus": vector, "plus": vector}))
    x = np.array([-1, 2], "f4")

    assert {"plus": [1, 2]} == {
        k: v.tolist() for k, v in (await run(backend, KEY._replace(outputs=("plus",)), x=x)).items()
    }
    assert ["minus", "plus"] == list(await run(backend, x=x))
    with pytest.raises(BackendRejected, match="output tensor alias not found in signature: z"):
        await run(backend, KEY._replace(outputs=("z",)), x=x)
    with pytest.raises(BackendRejected, match='Serving signature key "other" not found.'):
        await run(backend, KEY._replace(signature="other"), x=x)
    await backend.aclose()


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"x": np.zeros((2, 2), "f4")}, "Invalid rank for input: x"),
        ({"x": np.zeros(2, "f8")}, "Unexpected input data type"),
        ({"x": np.zeros(2, "f4"), "z": np.zeros(2, "f4")}, "z"),
        ({}, "x"),
    ],
)
async def test_bad_input(tmp_path: Path, inputs: dict[str, Any], text: str, capfd: pytest.CaptureFixture[str]) -> None:
    """What onnxruntime refuses is INVALID_ARGUMENT with the model's name, and nothing is printed."""
    backend = OnnxBackend(identity(tmp_path / "m.onnx"))
    with pytest.raises(BackendRejected, match="model 'm'") as caught:
        await run(backend, **inputs)
    await backend.aclose()

    assert Code.INVALID_ARGUMENT == caught.value.code
    assert text in caught.value.message
    assert ("", "") == capfd.readouterr()


async def test_fault_inside_the_model(tmp_path: Path) -> None:
    """Shapes that clash within the graph are INTERNAL: onnxruntime does not blame the caller."""
    vector = (TensorProto.FLOAT, ("N",))
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    backend = OnnxBackend(
        save(tmp_path / "m.onnx", nodes, {"a": vector, "b": (TensorProto.FLOAT, ("M",))}, {"y": vector})
    )
    with pytest.raises(BackendRejected) as caught:
        await run(backend, a=np.zeros(2, "f4"), b=np.zeros(3, "f4"))
    await backend.aclose()

    assert Code.INTERNAL == caught.value.code


async def test_lists_are_refused(tmp_path: Path) -> None:
    """Columns of Python objects belong to functions over lists."""
    backend = OnnxBackend(identity(tmp_path / "m.onnx"))
    with pytest.raises(BackendRejected, match="input 'x' is no array"):
        await backend.infer(KEY, {"x": ListColumn([1])})
    await backend.aclose()


def _drained(backend: OnnxBackend) -> None:
    """Return once one call runs and one waits."""
    while backend._pool._work_queue.qsize() != 1:
        pass


async def test_cancelled_call_is_terminated(tmp_path: Path) -> None:
    """A cancelled call stops the model between two operators, and ends only then."""
    flag: tuple[int, Dims] = (TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Neg", ["v"], ["w"])],
        "body",
        [helper.make_tensor_value_info(n, d, s) for n, d, s in (("i", 7, []), ("go", *flag), ("v", 1, None))],
        [helper.make_tensor_value_info(n, d, s) for n, d, s in (("on", *flag), ("w", 1, None))],
    )
    nodes = [
        helper.make_node("Constant", [], ["count"], value=helper.make_tensor("c", TensorProto.INT64, [], [2**62])),
        helper.make_node("Constant", [], ["true"], value=helper.make_tensor("t", TensorProto.BOOL, [], [True])),
        helper.make_node("Loop", ["count", "true", "x"], ["y"], body=body),
    ]
    vector = (TensorProto.FLOAT, ("N",))
    backend = OnnxBackend(save(tmp_path / "m.onnx", nodes, {"x": vector}, {"y": vector}), threads=1)
    endless = asyncio.create_task(run(backend, x=np.zeros(1, "f4")))
    waiting = asyncio.create_task(run(backend, x=np.zeros(1, "f4")))
    await asyncio.get_running_loop().run_in_executor(None, _drained, backend)
    for task in (waiting, endless):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await backend.aclose()

    assert endless.cancelled()
    assert waiting.cancelled()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [(("N", 3), (None, 3)), ((None, 3), (None, 3)), ((4, 3), (4, 3)), ((), ()), (None, ())],
)
def test_shapes(tmp_path: Path, shape: Dims, expected: tuple[int | None, ...]) -> None:
    """Symbolic and missing lengths are open; onnxruntime tells no unknown rank from rank 0."""
    backend = OnnxBackend(identity(tmp_path / "m.onnx", shape=shape))

    assert expected == backend.signatures[DEFAULT_SIGNATURE].inputs["x"].shape


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["net.onnx"], ("net.onnx", 1)),
        (["model.onnx"], ("model.onnx", 1)),
        (["1/model.onnx"], ("1/model.onnx", 1)),
        (["2/model.onnx", "10/model.onnx", "9/model.onnx", "old/model.onnx"], ("10/model.onnx", 10)),
        (["00000123/model.onnx"], ("00000123/model.onnx", 123)),
    ],
)
def test_find_model(tmp_path: Path, files: list[str], expected: tuple[str, int]) -> None:
    """A file, a folder with a model, or version folders of which the highest number serves."""
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    start = tmp_path / files[0] if files == ["net.onnx"] else tmp_path

    assert (tmp_path / expected[0], expected[1]) == find_model(start)


@pytest.mark.parametrize(
    ("folders", "text"),
    [
        (None, "no such file or folder"),
        ([], "neither model.onnx nor a version folder"),
        (["²"], "neither model.onnx nor a version folder"),
        (["1", "2"], "2: the highest version has no model.onnx"),
    ],
)
def test_no_model(tmp_path: Path, folders: list[str] | None, text: str) -> None:
    """A path without a model is named, with what should be there."""
    path = tmp_path / "models"
    if folders is not None:
        path.mkdir()
        for folder in folders:
            (path / folder).mkdir()
    with pytest.raises(ConfigError, match=text) as caught:
        OnnxBackend(path)

    assert str(path) in caught.value.message


def test_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own words, and what to do."""

    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(ConfigError, match=r"Permission denied.*readable"):
        find_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08"])
def test_broken_file(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """A file that is no model is named with onnxruntime's reason, which it does not print itself."""
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot load this model") as caught:
        OnnxBackend(path)

    assert str(path) in caught.value.message
    assert ("", "") == capfd.readouterr()


def test_types_that_cannot_be_served(tmp_path: Path) -> None:
    """A ZipMap's dictionaries and bfloat16 are refused at start, with the way out."""
    zipmap = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    )
    path = save(tmp_path / "zipmap.onnx", [zipmap], {"x": (TensorProto.FLOAT, ("N", 2))}, {})
    model = onnx.load(path)
    model.graph.output.append(helper.make_value_info("y", kind))
    onnx.save(model, path)

    with pytest.raises(ConfigError, match=r"output 'y' is of type seq.*export it without ZipMap"):
        OnnxBackend(path)
    with pytest.raises(ConfigError, match=r"input 'x' is of type tensor\(bfloat16\).*cast it"):
        OnnxBackend(identity(tmp_path / "bf16.onnx", TensorProto.BFLOAT16))


def test_output_that_is_no_tensor() -> None:
    """Should onnxruntime give something else all the same, it is called no answer."""
    with pytest.raises(BackendProtocolError, match="gave list where its signature has a tensor"):
        backend_module._from_onnx([])


async def test_threads_probe_and_repr(tmp_path: Path) -> None:
    """The number of threads is what was asked for, else the cores there are."""
    path = identity(tmp_path / "3" / "model.onnx")
    backend = OnnxBackend(tmp_path, threads=3)
    await backend.probe()
    await backend.aclose()

    assert f"OnnxBackend({str(path)!r}, version=3, threads=3)" == repr(backend)
    assert OnnxBackend(path).threads >= 1


@pytest.mark.parametrize(
    ("threads", "per_call", "found"), [(3, None, 3), (3, 1, 1), (3, 2, 2), (2, 8, 2)], ids=["all", "one", "two", "more"]
)
async def test_threads_of_one_call(tmp_path: Path, threads: int, per_call: int | None, found: int) -> None:
    """All that the model has, or fewer; either way as many calls run at once as it has threads."""
    identity(tmp_path / "1" / "model.onnx")
    versions = OnnxVersions(tmp_path, threads=threads, threads_per_call=per_call)
    backend = versions.load(1)
    answers = await asyncio.gather(*(run(backend, x=np.array([number], "f4")) for number in range(4)))
    await versions.aclose()
    await backend.aclose()

    assert found == backend._session.get_session_options().intra_op_num_threads
    assert threads == backend.threads
    assert [[0], [1], [2], [3]] == [answer["y"].tolist() for answer in answers]


def test_without_onnxruntime() -> None:
    """Importing the package needs no onnxruntime; opening a model then says what to install."""
    program = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "import batchproxy.backends as b\n"
        "try: b.open_backend('onnx:x')\n"
        "except b.onnx.ConfigError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "pip install 'batchproxy[onnx]'" in done.stdout
