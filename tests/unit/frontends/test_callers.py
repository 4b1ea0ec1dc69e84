"""Callers who are answered together are answered as each by itself would be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.errors import Code
from batchproxy.frontends.callers import GrpcCaller, Http1Caller
from batchproxy.frontends.grpc_answers import GrpcAnswer
from batchproxy.frontends.rest_answers import RestAnswer, RestAnswers
from batchproxy.wire import frames
from batchproxy.wire.base import Limits
from batchproxy.wire.http1 import Http1Connection
from batchproxy.wire.http1_answers import Answers
from batchproxy.wire.http1_head import Heads
from tests.http2_peer import Peer

HEADS = Heads(Limits())
JSON = {"Content-Type": "application/json"}


@dataclass
class Door:
    """A connection that remembers what was written, and when all of it was asked for."""

    wire: Any
    dirty: bool = False
    written: list[bytes] = field(default_factory=list)
    crowds: list[int] = field(default_factory=list)

    def write(self, data: bytes) -> None:
        """As a transport does."""
        self.written.append(data)

    def mark(self) -> None:
        """To be flushed later."""
        self.dirty = True

    def speak(self) -> None:
        """It is the first one of its turn."""
        self.flush()

    def expect_crowd(self, count: int) -> None:
        """So many were told together."""
        self.crowds.append(count)

    def flush(self) -> None:
        """Now."""
        self.dirty = False
        if data := self.wire.output():
            self.write(data)


def request(method: str = "POST", version: str = "1.1", fields: str = "", body: str = "{}") -> bytes:
    """One in HTTP/1."""
    return f"{method} /v1/x HTTP/{version}\r\nHost: h\r\n{fields}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def _lost(door: Door, _: list[Http1Caller]) -> None:
    door.wire.lost()


def _paused(door: Door, _: list[Http1Caller]) -> None:
    door.wire.paused(True)


def _behind_another(door: Door, callers: list[Http1Caller]) -> None:
    """An earlier answer is in the output, which is to be written at the end of the turn."""
    callers.pop(0).answer(200, b"earlier", JSON)
    door.mark()


def _nothing(door: Door, callers: list[Http1Caller]) -> None:
    pass


Happening = Callable[[Door, list[Http1Caller]], None]
SCENES: dict[str, tuple[bytes, Happening]] = {
    "alone": (request(), _nothing),
    "two": (request() * 2, _nothing),
    "closing": (request(fields="Connection: close\r\n"), _nothing),
    "old": (request(version="1.0", fields="Connection: keep-alive\r\n"), _nothing),
    "head": (request("HEAD", body=""), _nothing),
    "lost": (request(), _lost),
    "paused": (request(), _paused),
    "behind": (request() * 2, _behind_another),
    "continued": (request() + request(fields="Expect: 100-continue\r\n")[:-2], _nothing),
}


def connected(scenes: Sequence[str], answers: Answers) -> tuple[list[Door], list[Http1Caller]]:
    """Connections on which that has happened, and who waits there for an answer."""
    doors, callers = [], []
    for scene in scenes:
        data, happening = SCENES[scene]
        wire = Http1Connection(Limits(), HEADS, answers, 0.0, None, Http1Caller)
        wire.owner = door = Door(wire)
        asked: list[Any] = wire.feed(data, 0.0)
        happening(door, asked)
        doors.append(door)
        callers += asked
    return doors, callers


@given(
    st.lists(st.tuples(st.sampled_from(sorted(SCENES)), st.sampled_from([b"", b"[1.0]", b"[2.0]", b"[3.25]"]))),
    st.sampled_from([RestAnswer(200, b"", JSON), RestAnswer(404, b"", {"A": "b"}, "Gone"), RestAnswer(204, b"", JSON)]),
)
def test_told_together_is_told_one_by_one(scenes: list[tuple[str, bytes]], like: RestAnswer) -> None:
    """On any connections, whatever else is asked there; and who tells is told of no error."""
    told = []
    for together in (True, False):
        answers = Answers()
        answers.set_date("then")
        doors, callers = connected([scene for scene, _ in scenes], answers)
        bodies = [scenes[number % len(scenes)][1] for number in range(len(callers))]
        if together:
            Http1Caller.respond_all(callers, RestAnswers(like, bodies))
            Http1Caller.respond_all(callers, RestAnswers(like, bodies))  # they know already
        else:
            for caller, body in zip(callers, bodies, strict=True):
                caller(like._replace(body=body))
        for door in doors:
            door.flush()
        told.append([(b"".join(door.written), door.wire.closing, len(door.wire.open)) for door in doors])

    assert told[1] == told[0]


def test_the_head_of_equal_answers_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all bodies of one length in a row."""
    answers = Answers()
    looked_up: list[int] = []
    plain = answers.plain

    def looked(status: int, size: int, headers: Mapping[str, str], reason: str | None) -> bytes:
        looked_up.append(size)
        return plain(status, size, headers, reason)

    monkeypatch.setattr(answers, "plain", looked)
    doors, callers = connected(["alone"] * 8, answers)
    callers[0](RestAnswer(200, b"12", JSON))
    looked_up.clear()
    Http1Caller.respond_all(callers[1:], RestAnswers(RestAnswer(200, b"", JSON), [b"12"] * 7))

    assert [2] == looked_up
    assert [1] * 8 == [len(door.written) for door in doors]
    assert {doors[0].written[0]} == {door.written[0] for door in doors}
    assert [[7]] == [door.crowds for door in doors if door.crowds]


@pytest.mark.parametrize("window", [65_535, 12])
def test_calls_that_are_told_together_are_told_the_same(window: int) -> None:
    """Also where the caller's window is too small, and where it is gone."""
    told = []
    for together in (True, False):
        peer = Peer(call=GrpcCaller)
        peer.server.owner = door = Door(peer.server)
        peer.send(frames.settings((frames.INITIAL_WINDOW_SIZE, window)))
        callers: list[Any] = [peer.ask() for _ in range(3)]
        peer.send(frames.rst_stream(callers[1].id, frames.ErrorCode.CANCEL))
        bodies = [b"a", b"b", b"c" * 20]
        if together:
            GrpcCaller.respond_all(callers, bodies)
        else:
            for caller, body in zip(callers, bodies, strict=True):
                caller(GrpcAnswer(Code.OK, "", body))
        assert door.dirty
        told.append(peer.server.output())

    assert told[1] == told[0]
    assert b"\1a" in told[0]
