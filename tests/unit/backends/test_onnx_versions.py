"""Several versions of one model: which are there, which are loaded, what they are warmed with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from batchproxy.backends.onnx_versions import MOST_SHAPES, OnnxVersions, VersionPolicy
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import BackendRejected, Code, ConfigError
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import DEFAULT_SIGNATURE
from tests import onnx_models
from tests.onnx_models import adding, write


def key(version: int | None) -> BatchKey:
    """A call of a version."""
    return BatchKey("m", version, DEFAULT_SIGNATURE)


async def ask(versions: OnnxVersions, version: int | None, *numbers: float) -> list[float]:
    """What a version makes of some rows."""
    columns = {"x": ArrayColumn(np.array(numbers, np.float32))}
    column = (await versions.infer(key(version), columns)).columns["y"]
    assert isinstance(column, ArrayColumn)
    return column.array.tolist()  # type: ignore[no-any-return]


@given(
    found=st.sets(st.integers(0, 50)),
    latest=st.integers(1, 5),
    specific=st.sets(st.integers(0, 50)),
    every=st.booleans(),
)
def test_what_a_policy_wants(found: set[int], latest: int, specific: set[int], every: bool) -> None:
    """Never what is not there; of the latest none that is lower than one left out."""
    wanted = VersionPolicy(latest, tuple(specific), every).wanted(found)

    assert wanted <= found
    if every:
        assert found == wanted
    elif specific:
        assert found & specific == wanted
    else:
        assert min(latest, len(found)) == len(wanted)
        assert all(high > low for high in wanted for low in found - wanted)


async def test_each_version_answers_for_itself(tmp_path: Path) -> None:
    """The number is part of the call; one that is not loaded is refused as TF Serving does."""
    for version in (1, 2, 10):
        write(tmp_path, version, adding(version))
    versions = OnnxVersions(tmp_path, policy=VersionPolicy(latest=2), threads=1)

    assert [3.0, 4.0] == await ask(versions, 2, 1, 2)
    assert [11.0] == await ask(versions, 10, 1)
    assert (10, {2, 10}) == (versions.version, set(versions.loaded()))
    assert versions.watched
    assert {1, 2, 10} == set(versions.find())
    assert f"OnnxVersions({str(tmp_path)!r}, loaded=[2, 10])" == repr(versions)
    for absent in (1, None):
        with pytest.raises(BackendRejected) as caught:
            await ask(versions, absent, 1)

        assert (Code.NOT_FOUND, f"Servable not found for request: Specific(m, {absent})") == (
            caught.value.code,
            caught.value.message,
        )
    await versions.probe()
    await versions.aclose()


async def test_versions_come_and_go(tmp_path: Path) -> None:
    """Loaded, added, called, taken out."""
    write(tmp_path, 1, adding(1))
    versions = OnnxVersions(tmp_path, threads=1)
    write(tmp_path, 2, adding(2))
    versions.add(2, versions.load(2))

    assert [2.0] == await ask(versions, 2, 0)
    assert 0 == versions.calls(1)

    gone = versions.take_out(1)
    await gone.aclose()
    gone.release()

    assert {2} == set(versions.loaded())
    with pytest.raises(BackendRejected):
        await ask(versions, 1, 0)
    await versions.aclose()


def test_a_file_is_version_1_for_ever(tmp_path: Path) -> None:
    """As is a folder with a model in it."""
    write(tmp_path, 7, adding(7))
    for place in (tmp_path / "7", tmp_path / "7" / "model.onnx"):
        versions = OnnxVersions(place)

        assert ({1}, False, {1: ()}) == (set(versions.loaded()), versions.watched, versions.find())


def test_a_change_of_a_file_can_be_told(tmp_path: Path) -> None:
    """And a folder that goes while it is looked at has no files."""
    write(tmp_path, 1, adding(1))
    versions = OnnxVersions(tmp_path)
    before = versions.find()
    (tmp_path / "1" / "more").write_bytes(b"x")
    (tmp_path / "2").mkdir()

    assert before[1] != versions.find()[1]
    assert () == versions.find()[2]


def test_a_broken_version_leaves_the_others(tmp_path: Path) -> None:
    """What can be loaded is; why the other one cannot is kept."""
    write(tmp_path, 1, adding(1))
    (tmp_path / "2").mkdir()
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "model.onnx").write_bytes(b"no model")
    versions = OnnxVersions(tmp_path, policy=VersionPolicy(every=True))

    assert {1} == set(versions.loaded())
    assert {2, 3} == set(versions.failures)
    assert "this version has no model.onnx; put it there or remove the folder" in versions.failures[2].message
    assert "cannot load this model" in versions.failures[3].message


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (VersionPolicy(), "2: this version has no model.onnx"),
        (VersionPolicy(specific=(5,)), "none of the versions wanted is there; there are: [1, 2]"),
    ],
)
def test_nothing_to_begin_with(tmp_path: Path, policy: VersionPolicy, text: str) -> None:
    """At the start this is an error: there is nothing that could be served instead."""
    write(tmp_path, 1, adding(1))
    (tmp_path / "2").mkdir()
    with pytest.raises(ConfigError) as caught:
        OnnxVersions(tmp_path, policy=policy)

    assert text in caught.value.message


def test_nothing_there_at_all(tmp_path: Path) -> None:
    """A path that leads nowhere, and a folder without a model."""
    for place, text in ((tmp_path / "none", "no such file or folder"), (tmp_path, "neither model.onnx nor a version")):
        with pytest.raises(ConfigError) as caught:
            OnnxVersions(place)

        assert text in caught.value.message


def test_what_goes_while_it_is_wanted(tmp_path: Path) -> None:
    """The folder of a version, or all of it."""
    write(tmp_path, 1, adding(1))
    versions = OnnxVersions(tmp_path)
    with pytest.raises(ConfigError, match="version 2 has gone before it was loaded"):
        versions.load(2)

    (tmp_path / "1" / "model.onnx").unlink()
    (tmp_path / "1").rmdir()
    tmp_path.rmdir()
    with pytest.raises(ConfigError, match="put the folder back"):
        versions.find()


def test_an_unknown_provider(tmp_path: Path) -> None:
    """onnxruntime would use another one and say so to nobody."""
    write(tmp_path, 1, adding(1))
    with pytest.raises(ConfigError, match=r"has no execution provider 'Fast' here, but .*CPUExecutionProvider"):
        OnnxVersions(tmp_path, providers=("Fast",))


async def test_a_new_version_is_warmed_with_what_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each shape of the latest calls once, as zeros; whether it works out is not asked."""
    write(tmp_path, 1, adding(1))
    versions = OnnxVersions(tmp_path, threads=1)
    for rows in (1, 3, 3, *range(4, 4 + MOST_SHAPES - 2), 50):
        await ask(versions, 1, *range(rows))
    write(tmp_path, 2, adding(2))
    write(tmp_path, 3, onnx_models.whole())  # has another input
    write(tmp_path, 4, onnx_models.model(*_rank_two()))
    seen: list[tuple[int, ...]] = []
    real = versions.load(2).run
    kind = type(versions.load(2))

    def run(self: object, key: BatchKey, columns: dict[str, ArrayColumn], options: object = None) -> object:
        seen.append(columns["x"].array.shape)
        return real(key, columns, options)

    monkeypatch.setattr(kind, "run", run)
    versions.load(2)

    assert [(3,), *((rows,) for rows in range(4, 4 + MOST_SHAPES - 2)), (50,)] == seen

    monkeypatch.undo()
    for version in (3, 4):
        versions.load(version)
    await versions.aclose()


def _rank_two() -> tuple[list[Any], onnx_models.Values, onnx_models.Values]:
    node = helper.make_node("Neg", ["x"], ["y"])
    shape: tuple[int, onnx_models.Dims] = (onnx_models.FLOAT, ["N", 3])
    return [node], {"x": shape}, {"y": shape}


async def test_text_and_scalars_warm_up_too(tmp_path: Path) -> None:
    """Empty texts; inputs of rank 0 stay so."""
    node = helper.make_node("Add", ["x", "by"], ["y"])
    inputs = {"x": (onnx_models.FLOAT, ["N"]), "by": (onnx_models.FLOAT, [])}
    plain = onnx_models.model([node], inputs, {"y": (onnx_models.FLOAT, ["N"])})
    for name, made, columns in (
        ("text", onnx_models.text(), {"words": np.array([b"a"], object)}),
        ("plain", plain, {"x": np.ones(2, np.float32), "by": np.array(1, np.float32)}),
    ):
        folder = write(tmp_path / name, 1, made)
        versions = OnnxVersions(folder, threads=1)
        await versions.infer(key(1), {alias: ArrayColumn(array) for alias, array in columns.items()})
        write(folder, 2, made)
        backend = versions.load(2)

        assert 2 == backend.version

        await backend.aclose()
        await versions.aclose()
