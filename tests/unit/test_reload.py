"""When a configuration is read again, and what is said of it; ``tests/integration`` does it to a process."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec
import pytest

from batchproxy.config import Config, Listen
from batchproxy.core.errors import ConfigError
from batchproxy.documents import fingerprint
from batchproxy.reload import FIXED, Reload

CONFIG = Config()


class Scene:
    """A reload whose files say what the test wants."""

    def __init__(self, *paths: str) -> None:
        self.wanted: Config | Exception = CONFIG
        self.served: list[Config] = []
        self.read = asyncio.Event()
        self.reload = Reload(CONFIG, self._read, self._apply, paths, fingerprint(paths))

    def _read(self) -> Config:
        if isinstance(self.wanted, Exception):
            raise self.wanted
        return self.wanted

    async def _apply(self, config: Config) -> None:
        self.read.set()
        self.served.append(config)


def changed(**values: object) -> Config:
    """The configuration with other values."""
    return msgspec.structs.replace(CONFIG, **values)


async def test_what_is_new_is_served_and_named(caplog: pytest.LogCaptureFixture) -> None:
    """Key by key, in a line; the same once more is as it was."""
    scene = Scene()
    scene.wanted = changed(drain_delay_s=3.0, probe_interval_s=2.0)
    with caplog.at_level(logging.INFO, "batchproxy"):
        await scene.reload.reload("SIGHUP")
        await scene.reload.reload("SIGHUP")

    assert [scene.wanted] * 2 == scene.served
    assert scene.wanted == scene.reload.config
    assert [
        "SIGHUP: the configuration is read again; new: probe_interval_s, drain_delay_s",
        "SIGHUP: the configuration is read again; as it was",
    ] == [record.getMessage() for record in caplog.records]
    assert {"applied": 2, "refused": 0, "fault": "", "needs_restart": []} == scene.reload.status()


@pytest.mark.parametrize("fault", [ConfigError("a.yaml: it is wrong"), KeyError("x")])
async def test_what_is_wrong_is_said_once(fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """The former configuration stays, whatever went wrong; a right one ends it."""
    scene = Scene()
    scene.wanted = fault
    for _ in range(3):
        await scene.reload.reload("SIGHUP")
    told = scene.reload.fault
    scene.wanted = CONFIG
    await scene.reload.reload("SIGHUP")
    refusals = [record for record in caplog.records if "is refused, the former one is served on" in record.getMessage()]

    assert told in {"a.yaml: it is wrong", "internal error: KeyError. This is a bug."}
    assert 1 == len(refusals)
    assert {"applied": 1, "refused": 3} == scene.reload.counts
    assert "" == scene.reload.fault
    assert [CONFIG] == scene.served


async def test_keys_that_need_a_restart_keep_their_values_and_are_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The rest is served; doors are named one by one."""
    scene = Scene()
    scene.wanted = changed(listen=Listen(rest=None, admin=None), max_buffered_bytes=1, drain_delay_s=1.0)
    for _ in range(2):
        await scene.reload.reload("SIGHUP")
    named = scene.reload.ignored
    scene.wanted = changed(drain_delay_s=1.0)
    await scene.reload.reload("SIGHUP")

    assert ("listen.rest", "listen.admin", "max_buffered_bytes") == named
    assert [changed(drain_delay_s=1.0)] * 3 == scene.served
    assert () == scene.reload.ignored
    assert 1 == sum("hold after a restart" in record.getMessage() for record in caplog.records)


def test_fixed_keys_are_keys() -> None:
    """And those that can change are the others."""
    assert set(FIXED) < set(Config.__struct_fields__)
    assert not {"pools", "models", "drain_timeout_s"} & set(FIXED)


async def test_a_file_is_read_once_it_stays_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was another already when the watch began is, too."""
    monkeypatch.setattr("batchproxy.reload.WATCH_S", 0.001)
    path = tmp_path / "a.yaml"
    path.write_text("one")
    scene = Scene(str(path))
    path.write_text("two, and longer")
    watching = asyncio.ensure_future(scene.reload.keep_watching())
    await scene.read.wait()
    scene.read.clear()
    path.unlink()
    await scene.read.wait()
    watching.cancel()
    await asyncio.wait([watching])

    assert 2 == len(scene.served)


async def test_without_files_nothing_is_watched() -> None:
    """Flags alone do not change."""
    scene = Scene()
    await scene.reload.keep_watching()

    assert [] == scene.served
