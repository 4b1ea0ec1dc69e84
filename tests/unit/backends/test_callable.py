"""Tests of ``batchproxy.backends.callable``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from batchproxy.backends.callable import CallableBackend, Function, signature
from batchproxy.core.columns import ArrayColumn, Columns, ListColumn
from batchproxy.core.errors import BackendError, BackendProtocolError, BackendRejected, Code, ConfigError
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import DEFAULT_SIGNATURE, UNDECLARED, TensorSpec

KEY = BatchKey("m", 1, DEFAULT_SIGNATURE)
Infer = Callable[..., Any]


@pytest.fixture
async def infer() -> AsyncIterator[Infer]:
    """Calls a function through a backend of its own; ``x`` is [1, 2, 3] unless told."""
    backends: list[CallableBackend] = []

    async def infer(function: Any, key: BatchKey = KEY, **inputs: Any) -> Columns:
        backend = CallableBackend(function)
        backends.append(backend)
        arrays = inputs or {"x": [1, 2, 3]}
        columns = {name: ArrayColumn(np.asarray(value)) for name, value in arrays.items()}
        return (await backend.infer(key, columns)).columns

    yield infer
    for backend in backends:
        await backend.aclose()


def _raise(error: BaseException) -> Function:
    def function(inputs: dict[str, Any]) -> Any:
        raise error

    return function


def _raise_async(error: BaseException) -> Function:
    async def function(inputs: dict[str, Any]) -> Any:
        raise error

    return function


def _values(columns: Columns, name: str = "y") -> list[Any]:
    column = columns[name]
    assert isinstance(column, ArrayColumn)
    values: list[Any] = column.array.tolist()
    return values


async def test_function_runs_in_a_thread(infer: Infer) -> None:
    """A plain function leaves the loop's thread alone."""
    answer = await infer(lambda inputs: {"y": inputs["x"] * 2, "thread": [threading.current_thread().name] * 3})

    assert [2, 4, 6] == _values(answer)
    assert all(name.startswith(b"batchproxy-callable") for name in _values(answer, "thread"))


async def test_async_functions_run_on_the_loop(infer: Infer) -> None:
    """So do objects whose ``__call__`` is async."""

    async def function(inputs: dict[str, Any]) -> Any:
        await asyncio.sleep(0)
        return {"y": inputs["x"] + (threading.current_thread() is threading.main_thread())}

    class Model:
        async def __call__(self, inputs: dict[str, Any]) -> Any:
            return await function(inputs)

    assert [2, 3, 4] == _values(await infer(function))
    assert [2, 3, 4] == _values(await infer(Model()))


async def test_signatures_by_name(infer: Infer) -> None:
    """A mapping serves several signatures; another name is refused as TF Serving does."""
    functions = {"double": lambda inputs: {"y": inputs["x"] * 2}}

    assert [2, 4, 6] == _values(await infer(functions, KEY._replace(signature="double")))
    with pytest.raises(BackendRejected, match='Serving signature key "serving_default" not found.') as caught:
        await infer(functions)
    assert Code.FAILED_PRECONDITION == caught.value.code


def test_declared_signature() -> None:
    """The decorator's declaration is what the backend says of itself; without it nothing is declared."""

    @signature(inputs={"x": ("float32", (None, 2))}, outputs={"y": ("int64", (None,))})
    def declared(inputs: dict[str, Any]) -> Any: ...

    found = CallableBackend(declared, version=7)

    assert 7 == found.version
    assert {"x": TensorSpec("float32", (None, 2))} == found.signatures[DEFAULT_SIGNATURE].inputs
    assert {"y": TensorSpec("int64", (None,))} == found.signatures[DEFAULT_SIGNATURE].outputs
    assert {DEFAULT_SIGNATURE: UNDECLARED} == CallableBackend(lambda inputs: inputs).signatures


@pytest.mark.parametrize("raising", [_raise, _raise_async])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("bad"), Code.INVALID_ARGUMENT),
        (TypeError("bad"), Code.INVALID_ARGUMENT),
        (KeyError("bad"), Code.INVALID_ARGUMENT),
        (IndexError("bad"), Code.INVALID_ARGUMENT),
        (MemoryError("bad"), Code.RESOURCE_EXHAUSTED),
        (RuntimeError("bad"), Code.INTERNAL),
        (ConfigError("bad"), Code.INTERNAL),
        (SystemExit("bad"), Code.INTERNAL),
        (KeyboardInterrupt("bad"), Code.INTERNAL),
        (asyncio.CancelledError("bad"), Code.INTERNAL),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
async def test_what_functions_raise(
    infer: Infer, raising: Callable[[BaseException], Function], error: BaseException, code: Code
) -> None:
    """Whatever it is comes back as one of ours: not even ``sys.exit()`` in a model stops the proxy."""
    with pytest.raises(
        BackendRejected, match=rf"model 'm': the function raised {type(error).__name__}: .*bad"
    ) as caught:
        await infer(raising(error))

    assert code == caught.value.code


async def test_stop_iteration_does_not_hang(infer: Infer) -> None:
    """asyncio cannot carry StopIteration out of a thread: untranslated, the call would never end."""
    with pytest.raises(BackendRejected, match="raised StopIteration"):
        await infer(lambda inputs: {"y": next(iter([]))})


@pytest.mark.parametrize("raising", [_raise, _raise_async])
async def test_own_errors_pass(infer: Infer, raising: Callable[[BaseException], Function]) -> None:
    """A function may speak for itself with a BackendError."""
    error = BackendRejected("out of tokens", code=Code.OUT_OF_RANGE)
    with pytest.raises(BackendError) as caught:
        await infer(raising(error))

    assert error is caught.value


async def test_cancelled_async_function(infer: Infer) -> None:
    """Cancelling the call cancels the coroutine, and it is that cancellation that comes out."""
    entered = asyncio.Event()
    ended: list[bool] = []

    async def function(inputs: dict[str, Any]) -> Any:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    task = asyncio.create_task(infer(function))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [True] == ended


async def test_inputs_are_read_only(infer: Infer) -> None:
    """A lone caller's array is not the function's to change."""
    mine = np.array([1.0, 2.0])

    def function(inputs: dict[str, Any]) -> Any:
        inputs["x"] += 1
        return {"y": inputs["x"]}

    with pytest.raises(BackendRejected, match="read-only"):
        await infer(function, x=mine)
    assert [1.0, 2.0] == mine.tolist()
    assert mine.flags.writeable


async def test_lists_are_not_for_functions_over_arrays() -> None:
    """A column that is no array is refused by name."""
    backend = CallableBackend(lambda inputs: inputs)
    with pytest.raises(BackendRejected, match="input 'x' is no array"):
        await backend.infer(KEY, {"x": ListColumn([1])})
    await backend.aclose()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a", "é"], [b"a", "é".encode()]),
        ([b"a", b"\xff\x00"], [b"a", b"\xff"]),  # numpy's S type itself drops trailing zeros
        (np.array([b"\xff\x00", "é"], dtype=object), [b"\xff\x00", "é".encode()]),
        (np.array([["a"], ["b"]], dtype=object), [[b"a"], [b"b"]]),
        (np.array([1, 2], dtype=">i4"), [1, 2]),
        ([True, False], [True, False]),
        (3.5, 3.5),
    ],
)
async def test_what_outputs_become(infer: Infer, value: Any, expected: list[Any]) -> None:
    """Lists, text, bytes and foreign byte order become the arrays that codecs take."""
    answer = await infer(lambda inputs: {"y": value})
    column = answer["y"]
    assert isinstance(column, ArrayColumn)

    assert expected == column.array.tolist()
    assert column.array.dtype.kind in "bifO"
    assert column.array.dtype.isnative


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        (None, "returned NoneType, not a dict"),
        ([1], "returned list, not a dict"),
        ({1: [1]}, "named an output 1, which is no str"),
        ({"y": [[1], [1, 2]]}, "output 'y' .list. is no array"),
        ({"y": [None]}, "output 'y' holds a NoneType"),
        ({"y": {"a": 1}}, "output 'y' holds a dict"),
        ({"y": ["\ud800"]}, "output 'y' holds text that UTF-8 cannot carry"),
        ({"y": np.array(["2020-01-01"], dtype="M8[D]")}, "datetime64"),
    ],
)
async def test_wrong_outputs(infer: Infer, outputs: Any, text: str) -> None:
    """What is no answer is called so, with the output's name."""
    with pytest.raises(BackendProtocolError, match=text):
        await infer(lambda inputs: outputs)


async def test_output_filter(infer: Infer) -> None:
    """Only what was asked for comes back; an unknown name is the caller's fault."""

    def function(inputs: dict[str, Any]) -> Any:
        return {"y": inputs["x"], "z": inputs["x"]}

    assert ["z"] == list(await infer(function, KEY._replace(outputs=("z",))))
    assert ["y", "z"] == list(await infer(function))
    with pytest.raises(BackendRejected, match="output tensor alias not found in signature: w"):
        await infer(function, KEY._replace(outputs=("w",)))


async def test_declared_outputs_are_kept(infer: Infer) -> None:
    """A function that breaks its own declaration is told what it declared."""

    @signature(inputs={"x": ("int64", (None,))}, outputs={"y": ("float32", (None,))})
    def function(inputs: dict[str, Any]) -> Any:
        return {"z": inputs["x"]} if inputs["x"][0] else {"y": inputs["x"]}

    with pytest.raises(BackendProtocolError, match="left out 'y'"):
        await infer(function, x=[1])
    with pytest.raises(BackendProtocolError, match="output 'y' is of dtype int64, declared as float32"):
        await infer(function, x=[0])


async def test_probe() -> None:
    """A function is always there."""
    backend = CallableBackend(lambda inputs: inputs)
    await backend.probe()
    await backend.aclose()
