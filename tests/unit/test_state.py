"""The file in which what was learned outlives a restart."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from batchproxy.core.balancer import Endpoint
from batchproxy.core.policy import Policy
from batchproxy.core.request import BatchKey
from batchproxy.engine import Engine, build_engine
from batchproxy.state import AT_ONCE, NAME, StateFile, recall, remember
from batchproxy.testing import FakeBackend
from tests.listening import until

GOOD: dict[str, Any] = {"ceiling": 4.0, "partial": 4, "full": 9, "starting": 0, "turn": 5}
KEY = BatchKey("m", None, "s", (("x", ("float32", (3,))),))


def names_in(folder: Path) -> list[str]:
    """What is in a folder."""
    return [path.name for path in folder.iterdir()]


@asynccontextmanager
async def an_engine(
    endpoints: Sequence[str] = ("e",), name: str = "p", max_inflight: int | None = None
) -> AsyncIterator[Engine]:
    """One over endpoints that nobody calls."""
    backends = {endpoint: FakeBackend() for endpoint in endpoints}
    engine = build_engine(name, backends, {"m": Policy()}, max_inflight=max_inflight)
    yield engine
    await engine.aclose()


def teach(endpoint: Endpoint, key: BatchKey = KEY, batches: int = 20) -> None:
    """So many lone batches of four rows, 10 ms each."""
    for number in range(batches):
        endpoint.limit.arrive(endpoint.limit.depart(number), endpoint.cost(key), 4, 64, number + 0.01)


def of(engine: Engine, number: int = 0) -> Endpoint:
    """An endpoint of an engine."""
    return engine.scheduler.balancer.endpoints[number]


async def test_what_was_learned_is_there_after_a_restart(tmp_path: Path) -> None:
    """Costs under their kinds, and the limit; the folder is made where it is not there."""
    folder = tmp_path / "a" / "b"
    async with an_engine() as engine:
        teach(of(engine))
        known = of(engine).cost(KEY).state()
        limit = of(engine).limit.state()
        await StateFile(str(folder), [engine]).save()
    async with an_engine() as engine:
        StateFile(str(folder), [engine]).restore()
        restored = of(engine)

    assert [NAME] == names_in(folder)
    assert limit == restored.limit.state()
    assert known == restored.cost(KEY).state()
    assert not restored.cost(KEY._replace(shapes=())).known


async def test_nothing_that_a_caller_sent_is_in_the_file(tmp_path: Path) -> None:
    """Shapes may hold a context that came with examples; names of models are those of served ones."""
    async with an_engine() as engine:
        teach(of(engine), KEY._replace(shapes=(("inputs", ("classify", b"secret")),)))
        await StateFile(str(tmp_path), [engine]).save()

    assert "secret" not in (tmp_path / NAME).read_text()


async def test_what_no_batch_asked_for_since_the_start_is_kept(tmp_path: Path) -> None:
    """A model without traffic between two restarts is still known after the second."""
    async with an_engine() as engine:
        teach(of(engine))
        await StateFile(str(tmp_path), [engine]).save()
    before = json.loads((tmp_path / NAME).read_text())
    async with an_engine() as engine:
        file = StateFile(str(tmp_path), [engine])
        file.restore()
        (tmp_path / NAME).unlink()
        await file.save()

    assert before == json.loads((tmp_path / NAME).read_text())


async def test_pools_and_endpoints_are_told_apart(tmp_path: Path) -> None:
    """An address of two pools is two endpoints, and one that is not configured any more is left out."""
    async with an_engine(["e", "gone"]) as one, an_engine(name="q") as other:
        teach(of(one, 0))
        teach(of(one, 1))
        await StateFile(str(tmp_path), [one, other]).save()
    async with an_engine(["new", "e"]) as one, an_engine(name="q") as other:
        file = StateFile(str(tmp_path), [one, other])
        file.restore()
        known = [len(of(one, 0).recalled), len(of(one, 1).recalled), len(of(other).recalled)]
        await file.save()

    assert [0, 1, 0] == known
    document = json.loads((tmp_path / NAME).read_text())
    assert {"p": ["new", "e"], "q": ["e"]} == {
        pool: list(places["endpoints"]) for pool, places in document["pools"].items()
    }


async def test_an_endpoint_that_is_added_later_knows_what_it_knew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By its name, once: addresses are looked up after the start, and come with other configurations."""
    async with an_engine(["e", "f", "g"]) as engine:
        for number in range(3):
            teach(of(engine, number))
        await StateFile(str(tmp_path), [engine]).save()
    document = json.loads((tmp_path / NAME).read_text())
    document["pools"]["p"]["endpoints"]["g"]["limit"] = {**GOOD, "ceiling": "x"}
    (tmp_path / NAME).write_text(json.dumps(document))
    async with an_engine(["e"]) as engine:
        StateFile(str(tmp_path), [engine]).restore()
        for name in ("f", "new", "g"):
            engine.fleet.add(name, FakeBackend())
        engine.fleet.remove("f")
        engine.fleet.add("f", FakeBackend())
        known = {endpoint.name: endpoint.cost(KEY).known for endpoint in engine.scheduler.balancer.endpoints}

    assert {"e": True, "new": False, "g": True, "f": False} == known
    assert "1 entries are ignored, the first: endpoint g: limit: ceiling" in caplog.text


async def test_a_pool_that_is_opened_later_knows_what_it_knew(tmp_path: Path) -> None:
    """Of another configuration, read while the server runs."""
    async with an_engine() as engine:
        teach(of(engine))
        await StateFile(str(tmp_path), [engine]).save()
    file = StateFile(str(tmp_path), [])
    file.restore()
    async with an_engine() as engine:
        file.adopt(engine)
        known = of(engine).cost(KEY).known

    assert known


async def test_a_limit_that_a_user_fixed_is_neither_saved_nor_restored(tmp_path: Path) -> None:
    """Costs are, all the same."""
    async with an_engine() as engine:
        teach(of(engine))
        await StateFile(str(tmp_path), [engine]).save()
    async with an_engine(max_inflight=7) as engine:
        file = StateFile(str(tmp_path), [engine])
        file.restore()
        limit = of(engine).limit.partial
        await file.save()

    assert 7 == limit
    entry = json.loads((tmp_path / NAME).read_text())["pools"]["p"]["endpoints"]["e"]
    assert entry["limit"] is None
    assert 1 == len(entry["costs"])


async def test_it_is_written_only_where_anything_changed(tmp_path: Path) -> None:
    """A file that is removed meanwhile stays removed until there is news."""
    async with an_engine() as engine:
        file = StateFile(str(tmp_path), [engine])
        teach(of(engine))
        await file.save()
        (tmp_path / NAME).unlink()
        await file.save()
        unchanged = names_in(tmp_path)
        teach(of(engine))
        await file.save()

    assert [] == unchanged
    assert [NAME] == names_in(tmp_path)


async def test_it_is_saved_every_so_often(tmp_path: Path) -> None:
    """Until the task is cancelled."""
    async with an_engine() as engine:
        file = StateFile(str(tmp_path), [engine])
        saving = asyncio.ensure_future(file.keep_saving(0.001))
        await until(file.path.exists)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving


async def test_many_costs_do_not_hold_the_loop() -> None:
    """Others run between them."""
    endpoint, turns = Endpoint("e"), 0
    for number in range(3 * AT_ONCE):
        teach(endpoint, KEY._replace(signature=str(number)), batches=1)
    endpoint.cost(KEY._replace(signature="asked for, and not known"))
    remembering = asyncio.ensure_future(remember(endpoint))
    while not remembering.done():
        await asyncio.sleep(0)
        turns += 1

    assert turns >= 3
    assert 3 * AT_ONCE == len(remembering.result()["costs"])


# ---------------------------------------------------------------- what can be wrong


async def test_without_a_file_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first start is nothing special."""
    async with an_engine() as engine:
        StateFile(str(tmp_path), [engine]).restore()

    assert [] == caplog.messages


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "anything is learned"),
        (b"\xff{", "anything is learned"),
        (b"[1]", "its format is None, and this version reads 2"),
        (b"{}", "its format is None, and this version reads 2"),
        (b'{"format": 1, "pools": {}}', "its format is 1, and this version reads 2"),
    ],
)
async def test_a_file_that_cannot_be_used_is_ignored_with_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: bytes, why: str
) -> None:
    """Cut off, not JSON, of another format."""
    (tmp_path / NAME).write_bytes(text)
    async with an_engine() as engine:
        StateFile(str(tmp_path), [engine]).restore()

    [line] = caplog.messages
    assert f"{tmp_path / NAME}: ignored, and everything is learned anew: " in line
    assert why in line or why == "anything is learned"


async def test_a_folder_in_its_place_is_ignored_with_a_line_and_writing_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Serving goes on, and nothing is left behind."""
    (tmp_path / NAME).mkdir()
    async with an_engine() as engine:
        file = StateFile(str(tmp_path), [engine])
        file.restore()
        for _ in range(3):
            teach(of(engine))
            await file.save()

    assert "ignored, and everything is learned anew: " in caplog.messages[0]
    assert f"{tmp_path / NAME}: cannot be written, so a restart would learn everything anew: " in caplog.messages[1]
    assert "(2 times so far)" in caplog.messages[2]
    assert [NAME] == names_in(tmp_path)


@pytest.mark.parametrize("entry", [{}, [], None, 1, "x", {"limit": None, "costs": {}}, {"costs": None}])
def test_an_entry_without_anything_teaches_nothing(entry: object) -> None:
    """And is no fault."""
    endpoint = Endpoint("e")

    assert [] == recall(endpoint, entry)
    assert {} == endpoint.recalled


async def test_parts_that_make_no_sense_are_ignored_and_the_others_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With one line that counts them and names the first."""
    endpoint = Endpoint("e")
    teach(endpoint)
    good = (await remember(endpoint))["costs"][0]
    costs = [
        good, 1, {**good, "model": None}, {**good, "version": 1.5}, {**good, "version": True}, {**good, "cost": None},
        {**good, "signature": "t", "version": "stable"},
    ]  # fmt: skip
    document = {
        "format": 2,
        "pools": {"p": {"endpoints": {"e": {"limit": {**GOOD, "ceiling": "x"}, "costs": costs}}}, "q": 1},
    }
    (tmp_path / NAME).write_text(json.dumps(document))
    with caplog.at_level(logging.INFO, "batchproxy"):
        async with an_engine() as engine:
            StateFile(str(tmp_path), [engine]).restore()
            names = [(name.version, name.signature) for name in of(engine).recalled]
            limit = of(engine).limit.state()

    assert [(None, "s"), ("stable", "t")] == names
    assert limit is None
    fault = "endpoint e: limit: ceiling is no number from 1 to 64: 'x'"
    assert [
        f"{tmp_path / NAME}: 6 entries are ignored, the first: {fault}",
        f"goes on with what was learned before: {tmp_path / NAME}",
    ] == caplog.messages


async def test_sizes_of_batches_outlive_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Rounding, and caps as far as the policy allows them; of nonsense the log says so."""
    async with an_engine() as engine:
        assert [] == engine.scheduler.sizes.restore({"m": {"rows": 32, "most": 64, "rounded": 1}})
        await StateFile(str(tmp_path), [engine]).save()
    async with an_engine() as engine:
        StateFile(str(tmp_path), [engine]).restore()
        found = engine.scheduler.sizes.rows("m"), engine.scheduler.sizes.rounded("m")
    document = json.loads((tmp_path / NAME).read_text())
    document["pools"]["p"]["models"]["m"]["rounded"] = 7
    (tmp_path / NAME).write_text(json.dumps(document))
    async with an_engine() as engine:
        StateFile(str(tmp_path), [engine]).restore()

    assert (32, True) == found
    assert "model 'm': rounded is no whole number from 0 to 1: 7" in caplog.text
