"""The budget: what is charged, who waits, who may go on and in which order; it always adds up."""

from __future__ import annotations

import gc

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from batchproxy.wire.budget import READ_BYTES, Budget, Claim, most_at_once

MIB = 1 << 20


class Reader:
    """A body that is read in pieces, as a connection reads it.

    Args:
        budget: what it is charged to.
        size: of the body.
        known: whether its length was announced.
    """

    def __init__(self, budget: Budget, size: int, *, known: bool = True) -> None:
        self.claim = Claim(budget)
        self.size = size
        self.known = known
        self.got = 0
        self.waits = False
        self.woken = 0

    def wake(self) -> None:
        self.waits = False
        self.woken += 1

    def read(self, count: int) -> bool:
        """Take a piece; returns whether to read on."""
        self.got = min(self.size, self.got + count)
        if self.got < self.size:
            self.waits = not self.claim.may_read(self.got, self.size - self.got if self.known else -1, self.wake)
        return not self.waits


def test_what_is_held() -> None:
    """Charges add up, and say when it is tight and when it is spent."""
    budget = Budget(100)
    said = []
    for charge in (75, 1, 24, -25):
        budget.charge(charge)
        said.append((budget.held, budget.tight, budget.spent))

    assert [(75, False, False), (76, True, False), (100, True, True), (75, False, False)] == said
    assert "<Budget 75 of 100, 0 waiting>" == repr(budget)
    assert 75 == most_at_once(100)


def test_samples() -> None:
    """Of small things a connection says what it holds now and then."""
    budget = Budget(100)
    first = budget.sample(0, 10)
    second = budget.sample(first, 10)
    third = budget.sample(second, 4)

    assert (10, 10, 4, 4) == (first, second, third, budget.held)


def test_a_claim_is_given_back_once() -> None:
    """By hand, or by whoever held it last: then when somebody looks, since that may be any thread."""
    budget = Budget(100)
    ended, dropped = Claim(budget), Claim(budget)
    ended.resize(30)
    dropped.resize(40)
    shown = repr(ended)
    ended.end()
    ended.end()
    del ended, dropped
    gc.collect()
    before = budget.held
    budget.collect()

    assert "<Claim 30>" == shown
    assert (40, 0) == (before, budget.held)


def test_a_body_is_read_while_there_is_room() -> None:
    """And waits above three quarters, where none of it was read on before; it goes on when there is room for a read."""
    budget = Budget(8 * MIB)
    first, second = Reader(budget, 7 * MIB), Reader(budget, 5 * MIB)
    went_on = first.read(MIB), first.read(MIB)
    budget.charge(5 * MIB)
    waited = second.read(MIB)
    budget.charge(-READ_BYTES)
    still = second.waits
    first.claim.end()

    assert ((True, True), False, True) == (went_on, waited, still)
    assert (False, 1) == (second.waits, second.woken)
    assert 6 * MIB - READ_BYTES == budget.held


def test_a_body_that_was_begun_is_charged_in_full() -> None:
    """Above three quarters, if the rest fits; else it waits, and others behind it whose rest fits go on."""
    budget = Budget(16 * MIB)
    long, short, unknown = Reader(budget, 12 * MIB), Reader(budget, 9 * MIB // 2), Reader(budget, 6 * MIB, known=False)
    for reader in (long, short, unknown):
        reader.read(MIB)
    budget.charge(19 * MIB // 2)
    went_on = [reader.read(READ_BYTES) for reader in (unknown, long, short)]
    held = budget.held
    budget.charge(-MIB // 2)
    waiting = [reader.waits for reader in (unknown, long, short)]
    charged = short.claim.size

    assert ([False, False, False], 53 * MIB // 4) == (went_on, held)
    assert ([True, True, False], short.size) == (waiting, charged)
    assert short.read(MIB)
    assert (short.size, budget.limit) == (short.claim.size, budget.held)


def test_those_that_wait_are_served_in_order() -> None:
    """As many as there is room for, by one read each; who comes while others wait is served after them."""
    budget = Budget(16 * MIB)
    budget.charge(13 * MIB)
    readers = [Reader(budget, 9 * MIB) for _ in range(4)]
    for reader in readers:
        reader.read(READ_BYTES)
    budget.charge(-2 * MIB - 2 * READ_BYTES)
    woken = [reader.woken for reader in readers]
    late = Reader(budget, 9 * MIB)

    assert [1, 1, 0, 0] == woken
    assert not late.read(READ_BYTES)


def test_windows_are_charged_before_they_are_given() -> None:
    """All of a message at once, in order but for what fits; not above three quarters, nor beyond the limit."""
    budget = Budget(100)
    woken: list[str] = []
    first, second, third = (Claim(budget, at_once=True) for _ in range(3))
    told = [
        claim.may_take(size, lambda name=name: woken.append(name))  # type: ignore[misc]
        for name, claim, size in (("first", first, 60), ("second", second, 50), ("third", third, 10))
    ]
    held = budget.held
    first.end()

    assert ([True, False, True], 70) == (told, held)
    assert (["second"], 60) == (woken, budget.held)


def test_one_is_favoured() -> None:
    """Where hardly anything but beginnings of bodies is held, the first goes on beyond the limit; then another.

    Otherwise all would wait for each other.
    """
    budget = Budget(4 * MIB)
    readers = [Reader(budget, 2 * MIB) for _ in range(13)]
    for reader in (*readers, *readers[:12]):
        reader.read(READ_BYTES)
    first = [number for number, reader in enumerate(readers) if not reader.waits]
    held = budget.held
    readers[12].claim.whole(2 * MIB)
    readers[12].claim.end()
    second = [number for number, reader in enumerate(readers) if not reader.waits]

    assert ([12], 12 * 2 * READ_BYTES + 2 * MIB) == (first, held)
    assert [0, 12] == second
    assert [2 * MIB, 2 * READ_BYTES] == [reader.claim.size for reader in readers[:2]]
    assert readers[0].read(READ_BYTES)


def test_who_leaves_does_not_wait_any_more() -> None:
    """It is not called."""
    budget = Budget(100)
    budget.charge(90)
    reader = Reader(budget, 50)
    reader.read(5)
    contested = budget.contested
    reader.claim.end()
    budget.charge(-90)

    assert contested
    assert (0, 0, False) == (reader.woken, budget.held, budget.contested)


class Readers(RuleBasedStateMachine):
    """Bodies come in any order and pieces, are handed on, and given up."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(16 * MIB)
        self.readers: list[Reader] = []

    @rule(size=st.integers(65_537, 12 * MIB), known=st.booleans())
    def begin(self, size: int, known: bool) -> None:
        """A body begins with one read."""
        self.readers.append(Reader(self.budget, size, known=known))
        self.readers[-1].read(READ_BYTES)

    @precondition(lambda self: any(not reader.waits for reader in self.readers))
    @rule(data=st.data(), count=st.integers(1, READ_BYTES))
    def go_on(self, data: st.DataObject, count: int) -> None:
        """One that need not wait is read on; one that is whole stays charged."""
        reader = data.draw(st.sampled_from([reader for reader in self.readers if not reader.waits]))
        reader.read(count)

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """One is answered, or its caller leaves."""
        reader = data.draw(st.sampled_from(self.readers))
        self.readers.remove(reader)
        reader.claim.end()

    @invariant()
    def adds_up(self) -> None:
        """What is held is what the claims hold, and no more than the limit but for the one read that each may have."""
        assert self.budget.held == sum(reader.claim.size for reader in self.readers)
        assert self.budget.held <= self.budget.limit + READ_BYTES * len(self.readers)

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """Where all wait, it is tight or the first needs more room than there is."""
        if self.readers and all(reader.waits for reader in self.readers):
            assert self.budget.held + READ_BYTES > most_at_once(self.budget.limit)


TestReaders = pytest.mark.filterwarnings("default")(Readers.TestCase)
