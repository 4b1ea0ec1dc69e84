"""Versions that come and go while requests are under way: scenes with a real engine and made models."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from batchproxy.backends.onnx_versions import OnnxVersions, VersionPolicy
from batchproxy.codecs.tfs_grpc import State
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import ConfigError, UnknownModel
from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry, Reply, build_request
from batchproxy.core.shapes import DEFAULT_SIGNATURE
from batchproxy.engine import Engine, build_engine
from batchproxy.frontends.directory import Directory, Served
from batchproxy.versions import MOST_ENDED, VersionWatch
from tests.onnx_models import adding, write


class Scene:
    """A watched folder."""

    def __init__(self, folder: Path, watch: VersionWatch, engine: Engine, directory: Directory) -> None:
        self.folder = folder
        self.watch = watch
        self.engine = engine
        self.directory = directory

    async def look(self) -> None:
        """Twice: what is new is loaded once it has stayed the same for as long."""
        await self.watch.look()
        await self.watch.look()

    def begin(self, served: Served, number: float) -> tuple[Entry, asyncio.Future[Reply]]:
        """A call that was told its version."""
        info = served.info
        columns = {"x": ArrayColumn(np.array([number], np.float32))}
        target = (info.name, info.version, DEFAULT_SIGNATURE)
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        request = build_request(target, info.signatures[DEFAULT_SIGNATURE], columns)
        return served.engine.submit(request, answered), answered

    async def ask(self, number: float, version: int | None = None, label: str | None = None) -> float:
        """The answer to a call."""
        _, answered = self.begin(self.directory.find("m", version, label), number)
        return value_of(await answered)

    def states(self) -> dict[int, str]:
        """Version to state."""
        return {line.version: line.state.name for line in self.directory.find_status("m", None)}


def value_of(reply: Reply) -> float:
    """The one number of an answer."""
    column = reply.columns["y"]
    assert isinstance(column, ArrayColumn)
    return float(column.array[0])


@asynccontextmanager
async def scene(
    folder: Path,
    policy: VersionPolicy | None = None,
    labels: Mapping[str, int] | None = None,
    *,
    copies: int = 1,
    names: tuple[str, ...] = ("m",),
) -> AsyncIterator[Scene]:
    """A watch over a folder that holds something."""
    backends = {f"e{number}": OnnxVersions(folder, policy=policy, threads=1) for number in range(copies)}
    engine = build_engine("p", backends, dict.fromkeys(names, Policy(canary_every=0)))
    await engine.probe()
    directory = Directory([])
    watch = VersionWatch(names, list(backends.values()), engine, directory, labels or {})
    try:
        yield Scene(folder, watch, engine, directory)
    finally:
        await watch.aclose()
        await engine.aclose()


async def test_a_new_version_is_switched_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Loaded, switched to, the old one unloaded; a call that names that is refused in TF Serving's words."""
    async with scene(write(tmp_path, 1, adding(1))) as it:
        assert it.watch.watched
        assert 11.0 == await it.ask(10)

        write(tmp_path, 2, adding(2))
        with caplog.at_level(logging.INFO, "batchproxy.versions"):
            await it.look()

        assert 12.0 == await it.ask(10)
        assert {1: "END", 2: "AVAILABLE"} == it.states()
        with pytest.raises(UnknownModel, match=r"^Servable not found for request: Specific\(m, 1\)$"):
            await it.ask(10, version=1)
        assert 3 == len(caplog.messages)


async def test_who_was_told_the_old_version_is_answered_by_it(tmp_path: Path) -> None:
    """It is unloaded when nobody waits for it any more, and not before."""
    async with scene(write(tmp_path, 1, adding(1))) as it:
        old = it.directory.find("m", None, None)
        entry, answered = it.begin(old, 10)  # nothing has run yet: it leaves at the end of this turn
        write(tmp_path, 2, adding(2))
        it.engine.scheduler.wants = lambda version: version == 1  # type: ignore[method-assign]
        await it.look()

        assert {1: "UNLOADING", 2: "AVAILABLE"} == it.states()
        assert 11.0 == value_of(await answered)
        assert entry.request.key.version == 1

        late = it.begin(old, 20)[1]

        assert 21.0 == value_of(await late)

        del it.engine.scheduler.wants
        await it.watch.look()

        assert {1: "END", 2: "AVAILABLE"} == it.states()


async def test_a_broken_version_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line, the old one goes on; it is tried again when its files change, and only then."""
    async with scene(write(tmp_path, 1, adding(1))) as it:
        folder = tmp_path / "2"
        folder.mkdir()
        (folder / "model.onnx").write_bytes(b"half a model")
        with caplog.at_level(logging.WARNING, "batchproxy.versions"):
            for _ in range(4):
                await it.look()

        assert 1 == len(caplog.messages)
        assert "model 'm': version 2 cannot be loaded: " in caplog.messages[0]
        assert caplog.messages[0].endswith("It is tried again when its files change; served on: [1]")
        assert {1: "AVAILABLE", 2: "END"} == it.states()
        assert "cannot load this model" in it.directory.find_status("m", 2)[0].message
        assert 11.0 == await it.ask(10)

        (folder / "model.onnx").write_bytes(adding(2).SerializeToString())
        await it.look()

        assert {1: "END", 2: "AVAILABLE"} == it.states()


async def test_what_is_still_written_is_left_alone(tmp_path: Path) -> None:
    """A version is loaded once its files were the same at two looks."""
    async with scene(write(tmp_path, 1, adding(1))) as it:
        folder = tmp_path / "2"
        folder.mkdir()
        whole = adding(2).SerializeToString()
        for size in range(1, 4):
            (folder / "model.onnx").write_bytes(whole[:size])
            await it.watch.look()

            assert {1: "AVAILABLE"} == it.states()

        (folder / "model.onnx").write_bytes(whole)
        await it.look()

        assert "AVAILABLE" == it.states()[2]


async def test_going_back(tmp_path: Path) -> None:
    """Where the newest folder goes, the one before serves again; where all go, what is loaded stays."""
    write(tmp_path, 1, adding(1))
    async with scene(write(tmp_path, 2, adding(2))) as it:
        shutil.rmtree(tmp_path / "2")
        await it.look()

        assert {1: "AVAILABLE", 2: "END"} == it.states()

        shutil.rmtree(tmp_path / "1")
        await it.look()

        assert 11.0 == await it.ask(10)


async def test_the_folder_goes_for_a_while(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Said once; nothing changes."""
    async with scene(write(tmp_path / "models", 1, adding(1))) as it:
        (tmp_path / "models").rename(tmp_path / "away")
        await it.watch.look()

        assert "put the folder back; what is loaded is served on" in caplog.text
        assert 11.0 == await it.ask(10)


async def test_several_at_once_and_labels(tmp_path: Path) -> None:
    """The latest two; a label means one of them, or none any longer."""
    write(tmp_path, 1, adding(1))
    write(tmp_path, 2, adding(2))
    async with scene(tmp_path, VersionPolicy(latest=2), {"stable": 1, "canary": 2}) as it:
        assert [11.0, 12.0, 12.0] == [
            await it.ask(10, label="stable"),
            await it.ask(10, label="canary"),
            await it.ask(10),
        ]
        assert 11.0 == await it.ask(10, version=1)

        write(tmp_path, 3, adding(3))
        await it.look()

        assert {1: "END", 2: "AVAILABLE", 3: "AVAILABLE"} == it.states()
        with pytest.raises(UnknownModel, match=r"Specific\(m, 1\)"):
            await it.ask(10, label="stable")


async def test_a_label_without_a_version(tmp_path: Path) -> None:
    """Refused at the start, as TF Serving does."""
    with pytest.raises(ConfigError) as caught:
        async with scene(write(tmp_path, 1, adding(1)), labels={"stable": 4}):
            raise AssertionError("it was taken")

    assert caught.value.message.startswith(
        "Request to assign label to version 4 of model m, which is not currently available for inference"
    )


async def test_copies_and_names(tmp_path: Path) -> None:
    """Two endpoints have the same versions or none; two names mean the same model."""
    async with scene(write(tmp_path, 1, adding(1)), copies=2, names=("m", "n")) as it:
        write(tmp_path, 2, adding(2))
        await it.look()

        assert [{2}, {2}] == [set(copy.loaded()) for copy in it.engine.backends.values()]  # type: ignore[attr-defined]
        assert 2 == it.directory.find("n", None, None).info.version
        assert 12.0 == await it.ask(10)


async def test_one_copy_that_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then none has it."""
    async with scene(write(tmp_path, 1, adding(1)), copies=2) as it:
        write(tmp_path, 2, adding(2))
        _, second = it.engine.backends.values()

        def refuse(version: int) -> None:
            raise ConfigError(f"no room for {version}")

        monkeypatch.setattr(second, "load", refuse)
        await it.look()

        assert [{1}, {1}] == [set(copy.loaded()) for copy in it.engine.backends.values()]  # type: ignore[attr-defined]
        assert {1: "AVAILABLE", 2: "END"} == it.states()


async def test_a_broken_version_at_the_start(tmp_path: Path) -> None:
    """Told in the status, while others serve."""
    write(tmp_path, 1, adding(1))
    (tmp_path / "2").mkdir()
    async with scene(tmp_path, VersionPolicy(every=True)) as it:
        assert {1: "AVAILABLE", 2: "END"} == it.states()


async def test_the_list_of_what_has_ended_is_short(tmp_path: Path) -> None:
    """A model that gets a version an hour does not grow its status for ever."""
    async with scene(write(tmp_path, 1, adding(1))) as it:
        for version in range(2, MOST_ENDED + 5):
            write(tmp_path, version, adding(version))
            await it.look()

        assert MOST_ENDED == sum(state == State.END.name for state in it.states().values())


async def test_looking_goes_on_until_cancelled(tmp_path: Path) -> None:
    """Without anybody asking for it."""
    async with scene(write(tmp_path, 1, adding(1))) as it:
        looking = asyncio.get_running_loop().create_task(it.watch.keep_looking(0.001))
        switched = asyncio.Event()
        it.directory.on_change(switched.set)
        write(tmp_path, 2, adding(2))
        await switched.wait()

        assert 12.0 == await it.ask(10)
        assert not looking.done()

        looking.cancel()
        await asyncio.wait([looking])
