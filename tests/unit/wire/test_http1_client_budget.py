"""Answers of HTTP/1.1 servers and what the process may hold: charged while they come, refused above the limit."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.wire.budget import LARGE_BYTES, Budget
from batchproxy.wire.http1_client import Answer, AnswerHeads, BadAnswer, NoRoom

KIB = 1 << 10
ENDINGS = ("length", "chunks", "close")


def head(ending: str, size: int) -> bytes:
    """Of an answer whose end is told in one of three ways."""
    line = {"length": b"Content-Length: %d\r\n" % size, "chunks": b"Transfer-Encoding: chunked\r\n", "close": b""}
    return b"HTTP/1.1 200 OK\r\n%b\r\n" % line[ending]


def framed(ending: str, piece: bytes) -> bytes:
    """A piece of its body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece) if ending == "chunks" and piece else piece


def end(answer: Answer, ending: str) -> None:
    """Say that this was all."""
    if ending == "chunks":
        answer.feed(b"0\r\n\r\n")
    elif ending == "close":
        answer.eof()


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_large_answer_is_charged_while_it_comes(ending: str) -> None:
    """And no longer once it is handed over."""
    budget = Budget(1 << 20)
    answer = Answer("POST", budget=budget)
    answer.feed(head(ending, 200 * KIB))
    held = []
    for _ in range(4):
        answer.feed(framed(ending, bytes(50 * KIB)))
        held.append(budget.held)
    end(answer, ending)

    last = 0 if ending == "length" else 200 * KIB
    assert [0, 100 * KIB, 150 * KIB, last] == held
    assert (True, 200 * KIB, 0) == (answer.done, len(answer.body), budget.held)


@pytest.mark.parametrize("ending", ENDINGS)
def test_above_the_limit_an_answer_is_refused(ending: str) -> None:
    """What came of it is free at once."""
    budget = Budget(250 * KIB)
    answer = Answer("POST", budget=budget)
    answer.feed(head(ending, 300 * KIB))
    answer.feed(framed(ending, bytes(200 * KIB)))
    before = budget.held
    with pytest.raises(NoRoom, match="as many bytes as it may"):
        answer.feed(framed(ending, bytes(60 * KIB)))

    assert (200 * KIB, 0, False, b"") == (before, budget.held, answer.done, answer.body)


def test_it_counts_who_else_holds_something() -> None:
    """The limit is the process's; small answers pass all the same."""
    budget = Budget(1 << 20)
    budget.charge(1 << 20)
    small, large = (Answer("POST", budget=budget) for _ in range(2))
    for answer, size in ((small, LARGE_BYTES), (large, LARGE_BYTES + 2)):
        answer.feed(head("length", size) + bytes(size - 1 if answer is small else 0))
    small.feed(b"x")
    with pytest.raises(NoRoom):
        large.feed(bytes(LARGE_BYTES + 1))

    assert (True, False, 1 << 20) == (small.done, large.done, budget.held)


def test_what_comes_in_one_piece_is_never_charged() -> None:
    """Nor is it refused: it is handed on before anybody could ask."""
    budget = Budget(1)
    heads = AnswerHeads()
    raw = head("length", 200 * KIB) + bytes(200 * KIB)
    for _ in range(2):
        answer = Answer("POST", heads=heads, budget=budget)
        answer.feed(raw)

        assert (True, 0) == (answer.done, budget.held)


def test_an_answer_that_nobody_waits_for_holds_nothing() -> None:
    """Its connection broke, or its caller left."""
    budget = Budget(1 << 20)
    answer = Answer("POST", budget=budget)
    answer.feed(head("length", 200 * KIB) + bytes(100 * KIB))
    before = budget.held
    answer.drop()

    assert (100 * KIB, 0) == (before, budget.held)


@pytest.mark.parametrize("raw", [b"", head("length", 1) + b"x"])
def test_nothing_is_dropped_of_what_has_not_begun_or_is_whole(raw: bytes) -> None:
    """There is nothing to be freed."""
    answer = Answer("POST", budget=Budget(1))
    answer.feed(raw)
    answer.drop()

    assert (bool(raw), raw[-1:]) == (answer.done, answer.body)


def test_a_broken_answer_holds_nothing() -> None:
    """A chunk that has no size, after a long one."""
    budget = Budget(1 << 20)
    answer = Answer("POST", budget=budget)
    answer.feed(head("chunks", 0) + framed("chunks", bytes(100 * KIB)))
    with pytest.raises(BadAnswer):
        answer.feed(b"x\r\n")

    assert 0 == budget.held


@given(
    size=st.integers(0, 300 * KIB),
    cuts=st.sets(st.integers(0, 300 * KIB), max_size=6),
    ending=st.sampled_from(ENDINGS),
    limit=st.integers(1, 400 * KIB),
)
def test_however_it_is_cut_it_ends_with_nothing_held(size: int, cuts: set[int], ending: str, limit: int) -> None:
    """Whole or refused; and what is charged never passes the limit by more than one piece."""
    budget = Budget(limit)
    answer = Answer("POST", budget=budget)
    edges = sorted({0, size, *(cut for cut in cuts if cut < size)})
    body = bytes(size)
    refused = False
    try:
        answer.feed(head(ending, size))
        for start, stop in pairwise(edges):
            answer.feed(framed(ending, body[start:stop]))
            assert budget.held < limit
        end(answer, ending)
    except NoRoom:
        refused = True

    assert 0 == budget.held
    assert (not refused, b"" if refused else body) == (answer.done, answer.body)
    assert not (refused and size < limit)
