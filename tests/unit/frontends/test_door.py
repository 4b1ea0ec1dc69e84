"""One connection on a transport of paper: when it reads, writes, waits and closes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from batchproxy.frontends.door import Door, Wire
from batchproxy.wire.base import Limits
from batchproxy.wire.budget import Budget
from batchproxy.wire.http1 import Http1Connection
from batchproxy.wire.http1_answers import Answers
from batchproxy.wire.http1_exchange import Http1Exchange
from batchproxy.wire.http1_head import Heads

LIMITS = Limits(pipelined=2, idle_s=75, head_s=20, write_s=50, linger_s=2)
REQUEST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Paper(asyncio.Transport):
    """A transport that writes down what is asked of it; as strict as uvloop's, which raises once it is closed."""

    def __init__(self, *, half_closes: bool = True) -> None:
        super().__init__()
        self.log: list[str] = []
        self.written = b""
        self.backlog = 0
        self.half_closes = half_closes

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.log.append("write")
        self.written += data

    def can_write_eof(self) -> bool:
        return self.half_closes

    def is_closing(self) -> bool:
        return "close" in self.log or "abort" in self.log

    def get_write_buffer_size(self) -> int:
        return self.backlog

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def _note(self, word: str) -> None:
        assert not self.is_closing()
        self.log.append(word)

    def write_eof(self) -> None:
        self._note("eof")

    def pause_reading(self) -> None:
        self._note("pause")

    def resume_reading(self) -> None:
        self._note("resume")

    def close(self) -> None:
        self.log.append("close")

    def abort(self) -> None:
        self.log.append("abort")


class Loop:
    """Keeps what it is asked to call soon."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], object]] = []

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> None:
        self.soon.append(partial(callback, *arguments))

    def turn(self) -> None:
        """Call what was to be called."""
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()


class Home:
    """A listener with one kind of wire, and a time of its own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.clock = lambda: self.now
        self.limits = LIMITS
        self.budget = Budget()
        self.loop: asyncio.AbstractEventLoop = Loop()  # type: ignore[assignment]
        self.draining = False
        self.room = True
        self.doors: set[Door] = set()
        self.marked: list[Door] = []
        self.exchanges: list[Http1Exchange] = []
        self.wire: Wire | None = Wire(
            lambda now: Http1Connection(LIMITS, Heads(LIMITS), Answers(), now),
            lambda door, exchange: self.exchanges.append(exchange),
        )

    def enter(self, door: Door) -> bool:
        self.doors.add(door)
        return self.room

    def leave(self, door: Door) -> None:
        self.doors.discard(door)

    def wire_for(self, data: bytes, alpn: str | None) -> Wire | None:
        return self.wire

    def mark(self, door: Door) -> None:
        self.marked.append(door)

    def speaks_first(self) -> bool:
        return True

    def answer(self, door: Door, number: int = 0, headers: dict[str, str] | None = None) -> None:
        """Answer a request, as the routes do, later."""
        self.exchanges[number].answer(200, b"ok", headers or {})
        if not door.dirty:
            door.mark()


def opened(paper: Paper | None = None) -> tuple[Home, Paper, Door]:
    """A connection just made."""
    home, paper = Home(), paper or Paper()
    door = Door(home)
    door.connection_made(paper)
    return home, paper, door


def test_an_answer_given_at_once_is_written_with_the_read() -> None:
    """No mark, no other turn of the loop."""
    home, paper, door = opened()
    home.wire = Wire(home.wire.connect, lambda door, exchange: exchange.answer(200, b"ok", {}))  # type: ignore[union-attr]
    door.data_received(REQUEST + REQUEST)

    assert OK * 2 == paper.written
    assert ["write"] == paper.log
    assert [] == home.marked


def test_answers_given_later_are_written_together() -> None:
    """One mark and one write for all of a turn."""
    home, paper, door = opened()
    door.data_received(REQUEST + REQUEST)
    home.answer(door, 0)
    home.answer(door, 1)
    silent = paper.written
    door.flush()
    door.flush()

    assert b"" == silent
    assert [door] == home.marked
    assert ["write"] == paper.log
    assert OK * 2 == paper.written


def test_first_bytes_that_say_too_little_are_kept() -> None:
    """Until it is clear what is spoken."""
    home, paper, door = opened()
    wire, home.wire = home.wire, None
    door.data_received(REQUEST[:1])
    home.wire = wire
    door.data_received(REQUEST[1:])

    assert [b"x"] == [exchange.body for exchange in home.exchanges]
    assert [] == paper.log


def test_reading_stops_while_the_wire_is_full() -> None:
    """And what was held back is taken in afterwards."""
    home, paper, door = opened()
    door.data_received(REQUEST * 3)
    taken = [len(home.exchanges)]
    home.answer(door, 0)
    door.flush()
    home.loop.turn()  # type: ignore[attr-defined]
    taken.append(len(home.exchanges))

    assert [2, 3] == taken
    assert ["pause", "write", "resume"] == paper.log


def test_a_slow_reader_is_not_read_from() -> None:
    """From ``pause_writing`` to ``resume_writing``."""
    home, paper, door = opened()
    door.data_received(REQUEST)
    door.pause_writing()
    home.answer(door, 0)
    door.flush()
    paused = list(paper.log)
    door.resume_writing()
    home.loop.turn()  # type: ignore[attr-defined]

    assert ["write", "pause"] == paused
    assert ["write", "pause", "resume"] == paper.log


def test_a_wire_that_is_found_while_writing_is_paused_learns_of_nothing() -> None:
    """Before the first bytes there is no wire to tell."""
    _home, paper, door = opened()
    door.pause_writing()
    door.resume_writing()

    assert [] == paper.log


def test_a_reader_that_takes_nothing_is_cut_off() -> None:
    """After ``write_s`` in which not a byte left; any progress starts it anew."""
    home, paper, door = opened()
    door.data_received(REQUEST)
    door.pause_writing()
    logs = []
    for now, backlog in ((101, 900), (150, 900), (150.5, 899), (200, 899), (200.5, 899)):
        paper.backlog = backlog
        door.look_after(now)
        logs.append(list(paper.log))

    assert [[], [], [], [], ["abort"]] == logs
    assert home.doors


@pytest.mark.parametrize(("first", "seconds"), [(b"", 75), (b"P", 20)])
def test_a_connection_that_says_nothing_is_cut_off(first: bytes, seconds: float) -> None:
    """A beginning that is no protocol yet has as long as a head."""
    home, paper, door = opened()
    home.wire = None
    if first:
        door.data_received(first)
    door.look_after(100 + seconds - 0.1)
    kept = list(paper.log)
    door.look_after(100 + seconds)

    assert [] == kept
    assert ["abort"] == paper.log


def test_the_wires_own_times_are_kept() -> None:
    """A head that is not whole is told so after ``head_s``."""
    _home, paper, door = opened()
    door.data_received(b"POST")
    door.look_after(119.9)
    kept = list(paper.log)
    door.look_after(120.0)

    assert [] == kept
    assert paper.written.startswith(b"HTTP/1.1 408 Request Time-out\r\n")
    assert ["write", "eof"] == paper.log


def test_after_the_last_answer_the_peers_bytes_are_discarded_for_a_while() -> None:
    """Closing at once would reset the connection and destroy the answer on its way."""
    home, paper, door = opened()
    door.data_received(b"\0")
    log = list(paper.log)
    door.data_received(REQUEST)
    paper.backlog = 10
    door.look_after(101)
    door.look_after(104)  # it is still being written
    paper.backlog = 0
    door.look_after(105)
    door.look_after(106.9)
    kept = list(paper.log)
    door.look_after(107)

    assert ["write", "eof"] == log == kept
    assert ["write", "eof", "abort"] == paper.log
    assert [] == home.exchanges


def test_where_a_transport_cannot_half_close_it_closes() -> None:
    """TLS cannot."""
    _home, paper, door = opened(Paper(half_closes=False))
    door.data_received(b"\0")

    assert ["write", "close"] == paper.log


def test_a_full_connection_that_ends_reads_again() -> None:
    """To discard, and to see the peer leave."""
    home, paper, door = opened()
    door.data_received(REQUEST * 3)
    home.answer(door, 0, {"Connection": "close"})
    door.flush()

    assert ["pause", "write", "resume", "eof"] == paper.log


def test_a_peer_that_leaves_is_not_worked_for() -> None:
    """Neither after its end of file, nor after a reset; a late answer goes nowhere."""
    for leaving in ("eof", "reset"):
        home, paper, door = opened()
        cancelled: list[str] = []
        door.data_received(REQUEST)
        home.exchanges[0].on_cancel = lambda cancelled=cancelled: cancelled.append("gone")
        if leaving == "eof":
            door.eof_received()
        door.connection_lost(None)
        home.answer(door)
        door.flush()
        door.data_received(REQUEST)
        door.look_after(1000)
        door.close()
        door.abort()

        assert ["gone"] == cancelled
        assert b"" == paper.written
        assert set() == home.doors


def test_a_peer_that_leaves_before_it_said_anything_just_leaves() -> None:
    """No wire was made for it."""
    home, paper, door = opened()
    door.eof_received()
    door.flush()
    door.connection_lost(None)

    assert [] == paper.log
    assert set() == home.doors


def test_what_was_answered_before_the_end_of_file_is_written() -> None:
    """It may only have closed its sending side."""
    home, paper, door = opened()
    door.data_received(REQUEST)
    home.answer(door)
    door.eof_received()

    assert OK == paper.written
    assert ["write", "eof"] == paper.log


def test_draining_ends_with_the_answer_under_way() -> None:
    """``Connection: close`` is in it. A connection that said nothing is left alone, until it says something."""
    home, paper, door = opened()
    door.drain(101)
    door.data_received(REQUEST)
    door.drain(101)
    home.answer(door)
    door.flush()

    assert b"Connection: close" in paper.written
    assert ["write", "eof"] == paper.log


def test_a_connection_made_before_and_begun_after_draining_is_drained() -> None:
    """Its request was on the way."""
    home, paper, door = opened()
    home.draining = True
    door.data_received(REQUEST)
    home.answer(door)
    door.flush()

    assert b"Connection: close" in paper.written


def test_one_connection_too_many_is_told_to_come_back() -> None:
    """503, and closed."""
    home, paper = Home(), Paper()
    home.room = False
    Door(home).connection_made(paper)

    assert paper.written.startswith(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n")
    assert ["write", "close"] == paper.log


def test_closing_and_aborting_are_the_transports() -> None:
    """What is written leaves, or does not."""
    _home, paper, door = opened()
    door.close()
    door.abort()

    assert ["close", "abort"] == paper.log
