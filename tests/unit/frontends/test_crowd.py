"""Crowds: what is kept until a turn ends is answered as if it had been read at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.backends.callable import signature
from batchproxy.core.columns import Array
from batchproxy.engine import CROWD
from batchproxy.frontends.callers import Http1Caller
from batchproxy.frontends.crowd import Crowd
from batchproxy.frontends.door import Door
from batchproxy.frontends.listener import Listener
from batchproxy.frontends.rest_again import Again
from batchproxy.frontends.rest_routes import RestRoutes
from tests.serving import Recorder, a_directory
from tests.unit.frontends.test_door import Paper

TURNS = 12  # of the loop, that an answer takes at most


@signature(inputs={"x": ("float32", (None, None))}, outputs={"y": ("float32", (None, None))})
async def identity(inputs: dict[str, Array]) -> dict[str, Array]:
    """Answers in the turn in which it is asked."""
    return {"y": inputs["x"]}


def post(body: bytes, fields: bytes = b"", path: bytes = b"/v1/models/m:predict") -> bytes:
    """A request."""
    return b"POST %b HTTP/1.1\r\nHost: h\r\n%bContent-Length: %d\r\n\r\n%b" % (path, fields, len(body), body)


def row(number: float) -> bytes:
    """The usual one."""
    return post(b'{"instances": [[%.2f, 2.25]]}' % number)


EVENTS: Mapping[str, Callable[[float], bytes]] = {
    "ask": row,
    "two": lambda number: row(number) + row(number + 50),
    "rows": lambda number: post(b'{"instances": [[%d.5, 1.5], [2.5, 3.5]]}' % number),
    "column": lambda number: post(b'{"inputs": [[%d.5, 1.5]]}' % number),
    "first": lambda number: row(number)[:30],
    "second": lambda number: row(number)[30:],
    "exponent": lambda number: post(b'{"instances": [[%d.5, 1e-3]]}' % number),
    "broken": lambda number: post(b'{"instances": [[%d.5, 2.25,]]}' % number),
    "other": lambda number: post(b'{"instances": [[%d.5, 2.25]]}' % number, b"", b"/v1/models/none:predict"),
    "status": lambda number: b"GET /v1/models/m HTTP/1.1\r\nHost: h\r\n\r\n",
    "late": lambda number: post(b'{"instances": [[%d.5, 2.25]]}' % number, b"x-ms: soon\r\n"),
    "close": lambda number: post(b'{"instances": [[%d.5, 2.25]]}' % number, b"Connection: close\r\n"),
    "garbage": lambda number: b"\0\1\2\r\n\r\n",
    "nothing": lambda number: b"",
}
DOINGS = ("eof", "lost", "slow", "quick", "drain")
DOORS = 4
Turn = list[tuple[int, str]]


class House(Listener):
    """A listener without a socket, whose date stands still."""

    def __init__(self, rest: RestRoutes) -> None:
        super().__init__(rest, None)
        self.loop = asyncio.get_running_loop()
        self._answers.set_date("then")

    def crowd(self) -> Crowd:
        """Of its connections."""
        found = self.http1.crowd
        assert found is not None
        return found


@asynccontextmanager
async def a_house() -> AsyncIterator[House]:
    """Which has met the usual requests."""
    async with a_directory(Recorder(), {"m": identity}) as directory:
        house = House(RestRoutes(directory, Recorder(), time.monotonic, timeout_s=30.0, deadline_header="x-ms"))
        door = enter(house)
        for _ in range(3):
            for name in ("ask", "status", "late", "other"):
                door.data_received(EVENTS[name](1.0))
                await settled()
        yield house


def enter(house: House) -> Door:
    """A new connection."""
    door = Door(house)
    door.connection_made(Paper())
    return door


async def settled() -> None:
    """All that was begun has ended."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


def do(door: Door, event: str, number: float) -> None:
    """What happens on a connection."""
    paper: Any = door._transport
    if event in EVENTS:
        if paper is not None and not paper.is_closing():
            door.data_received(EVENTS[event](number))
    elif event == "eof":
        door.eof_received()
    elif event == "lost":
        if paper is not None:
            door.connection_lost(None)
    elif event == "drain":
        door.drain(time.monotonic())
    else:
        (door.pause_writing if event == "slow" else door.resume_writing)()


async def told(turns: Sequence[Turn], *, gathers: bool) -> list[tuple[bytes, list[str]]]:
    """What is written to each connection, and what was asked of its transport beside that."""
    async with a_house() as house:
        doors = [enter(house) for _ in range(DOORS)]
        papers: list[Any] = [door._transport for door in doors]
        for door in doors:
            door.data_received(row(0))
        await settled()
        numbers = iter(range(1, 1000))
        for turn in turns:
            house.crowd().gathers = gathers
            for index, event in turn:
                do(doors[index], event, next(numbers))
            await settled()
        return [(paper.written, [word for word in paper.log if word != "write"]) for paper in papers]


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, DOORS - 1), st.sampled_from([*EVENTS, *DOINGS, *["ask"] * 6])), max_size=8),
        max_size=4,
    )
)
def test_nothing_is_different_without_it(turns: list[Turn]) -> None:
    """Whatever comes in one turn, and whatever becomes of the connections in it."""
    assert asyncio.run(told(turns, gathers=False)) == asyncio.run(told(turns, gathers=True))


async def test_a_crowd_that_was_answered_together_is_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no crowd is waited for once fewer come."""
    together: list[int] = []
    everybody = Again.all

    def counted(self: Again, callers: Sequence[Http1Caller], *more: Any) -> None:
        together.append(len(callers))
        everybody(self, callers, *more)

    monkeypatch.setattr(Again, "all", counted)
    async with a_house() as house:
        doors = [enter(house) for _ in range(CROWD)]
        gathers = []
        for count in (CROWD, CROWD, CROWD - 1, 1):
            for number, door in enumerate(doors[:count]):
                door.data_received(row(number))
            await settled()
            gathers.append(house.crowd().gathers)

    assert [CROWD, CROWD - 1] == together
    assert [True, True, False, False] == gathers
    papers: list[Any] = [door._transport for door in doors]
    assert [4] + [3] * (CROWD - 2) + [2] == [paper.written.count(b"200 OK") for paper in papers]


async def test_one_connection_that_breaks_strands_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends, and the log says why."""
    async with a_house() as house:
        doors = [enter(house) for _ in range(2)]
        for door in doors:
            door.data_received(row(0))
        await settled()
        house.crowd().gathers = True
        monkeypatch.setattr(Door, "read", None)
        doors[0].data_received(row(1)[:30])
        doors[1].data_received(row(2))
        await settled()
        papers: list[Any] = [door._transport for door in doors]

    assert "abort" in papers[0].log
    assert 2 == papers[1].written.count(b"200 OK")
    assert ["what came on a connection could not be read. This is a bug."] == [r.getMessage() for r in caplog.records]


async def test_who_is_looked_after_is_read_first() -> None:
    """A connection is not idle on which something came in this turn."""
    async with a_house() as house:
        door = enter(house)
        door.data_received(row(0))
        await settled()
        house.crowd().gathers = True
        door.data_received(row(1))
        door.look_after(time.monotonic() + 1000)
        await settled()
        paper: Any = door._transport

    assert 2 == paper.written.count(b"200 OK")


async def test_a_bug_in_beginning_together_strands_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is begun by itself, then, but for those that were."""
    everybody = Again.all

    def breaks(self: Again, callers: Sequence[Http1Caller], *more: Any) -> None:
        everybody(self, callers[:1], *more)
        raise RuntimeError("no")

    monkeypatch.setattr(Again, "all", breaks)
    async with a_house() as house:
        doors = [enter(house) for _ in range(3)]
        for door in doors:
            door.data_received(row(0))
        await settled()
        house.crowd().gathers = True
        for door in doors:
            door.data_received(row(1))
        await settled()
        papers: list[Any] = [door._transport for door in doors]

    assert [2] * 3 == [paper.written.count(b"200 OK") for paper in papers]
    assert ["requests could not be begun together. This is a bug."] == [r.getMessage() for r in caplog.records]
