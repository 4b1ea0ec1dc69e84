"""One thread for long bodies and long answers: order, deadlines, callers that leave, the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from batchproxy.core.errors import Code, DecodeError
from batchproxy.frontends import heavy
from batchproxy.frontends.heavy import LONG_BODY, Heavy
from tests.thread_of_work import Caller, Gate


@asynccontextmanager
async def a_heavy() -> AsyncIterator[tuple[Heavy, Gate, Caller]]:
    """With the thread busy for a first caller, until its gate is opened."""
    it = Heavy(asyncio.get_running_loop().time)
    gate, first = Gate(), Caller()
    it.run(first, gate, first.told.append, 1, None)
    await gate.began.wait()
    try:
        yield it, gate, first
    finally:
        gate.opened.set()
        await it.idle()
        it.close()


def refuse() -> str:
    """Work that finds a fault."""
    raise DecodeError("no")


def break_down() -> str:
    """Work with a bug in it."""
    raise ZeroDivisionError


async def test_one_thing_at_a_time_in_the_order_asked_for() -> None:
    """While the loop turns."""
    order: list[str] = []
    callers = [Caller() for _ in range(3)]
    async with a_heavy() as (it, gate, first):
        for number, caller in enumerate(callers):
            it.run(caller, lambda number=number: order.append(f"{number}"), caller.told.append, 1, None)  # type: ignore[misc]
        before = list(order)
        gate.opened.set()
        await it.idle()

    assert [] == before
    assert ["0", "1", "2"] == order
    assert ["gate"] == first.told
    assert [[None]] * 3 == [caller.told for caller in callers]


@pytest.mark.parametrize(("work", "code"), [(refuse, Code.INVALID_ARGUMENT), (break_down, Code.INTERNAL)])
async def test_a_fault_is_told(work: Callable[[], str], code: Code, caplog: pytest.LogCaptureFixture) -> None:
    """One that nobody foresaw is logged, too; and the next is served."""
    async with a_heavy() as (it, gate, _first):
        caller, after = Caller(), Caller()
        it.run(caller, work, caller.told.append, 1, None)
        it.run(after, lambda: "after", after.told.append, 1, None)
        gate.opened.set()
        await it.idle()

    assert [code] == caller.told
    assert ["after"] == after.told
    assert (code is Code.INTERNAL) == ("This is a bug" in caplog.text)


async def test_what_breaks_after_it_is_told_too() -> None:
    """The caller learns of it, and nobody is stuck."""
    async with a_heavy() as (it, gate, _first):
        caller = Caller()
        it.run(caller, lambda: 0, lambda zero: caller.told.append(1 // zero), 1, None)
        gate.opened.set()
        await it.idle()

    assert [Code.INTERNAL] == caller.told


async def test_a_caller_that_left_is_not_worked_for() -> None:
    """Neither one that waits, nor one whose work is under way, which is let end."""
    worked: list[str] = []
    async with a_heavy() as (it, gate, first):
        caller = Caller()
        it.run(caller, lambda: worked.append("for nobody"), caller.told.append, 1, None)
        first.gone = caller.gone = True
        waiting = it.unanswered()
        gate.opened.set()
        await it.idle()

    assert 0 == waiting
    assert [] == worked + first.told + caller.told


async def test_a_deadline_is_kept_while_waiting_and_while_under_way() -> None:
    """The thread goes on, for nobody."""
    clock = asyncio.get_running_loop().time
    async with a_heavy() as (it, gate, first):
        caller = Caller()
        it.run(caller, lambda: "late", caller.told.append, 1, clock() + 0.01)
        await caller.heard.wait()
        under_way = it.unanswered()
        gate.opened.set()
        await it.idle()

    assert [Code.DEADLINE_EXCEEDED] == caller.told
    assert 1 == under_way
    assert ["gate"] == first.told


async def test_a_deadline_that_is_kept_is_forgotten() -> None:
    """No timer stays behind."""
    clock = asyncio.get_running_loop().time
    caller = Caller()
    async with a_heavy() as (it, gate, _first):
        it.run(caller, lambda: "in time", caller.told.append, 1, clock() + 60)
        gate.opened.set()
        await it.idle()

    assert ["in time"] == caller.told


async def test_there_is_room_for_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lone body of any size is taken; room comes back once one is read."""
    monkeypatch.setattr(heavy, "MAX_WAITING_BYTES", 100)
    callers = [Caller() for _ in range(4)]
    async with a_heavy() as (it, gate, _first):
        for caller, nbytes in zip(callers, (99, 1, 0), strict=False):
            it.run(caller, lambda: "read", caller.told.append, nbytes, None)
        gate.opened.set()
        await it.idle()
        it.run(callers[3], lambda: "read", callers[3].told.append, 1000, None)
        await it.idle()

    assert [["read"], [Code.UNAVAILABLE], ["read"], ["read"]] == [caller.told for caller in callers]


async def test_a_short_body_is_read_at_once() -> None:
    """Without the thread; its faults are told, too."""
    short, wrong, long = Caller(), Caller(), Caller()
    async with a_heavy() as (it, _gate, _first):
        it.read(short, lambda: "read", short.told.append, LONG_BODY, None)
        it.read(wrong, refuse, wrong.told.append, 1, None)
        it.read(long, lambda: "read", long.told.append, LONG_BODY + 1, None)

        assert ["read"] == short.told
        assert [Code.INVALID_ARGUMENT] == wrong.told
        assert [] == long.told

    assert ["read"] == long.told


async def test_whoever_waits_at_the_end_is_told() -> None:
    """Once, and counted; what is under way ends for nobody."""
    caller, gone = Caller(), Caller()
    gone.gone = True
    async with a_heavy() as (it, gate, first):
        it.run(caller, lambda: "never", caller.told.append, 1, None)
        it.run(gone, lambda: "never", gone.told.append, 1, None)
        waiting = it.unanswered()
        stranded = it.strand()
        left = it.unanswered()
        gate.opened.set()
        await it.idle()

    assert (2, 2, 0) == (waiting, stranded, left)
    assert [] == gone.told
    assert [Code.UNAVAILABLE] == first.told == caller.told


async def test_closing_while_something_is_under_way() -> None:
    """It ends by itself, and nothing is begun any more."""
    worked: list[str] = []
    caller = Caller()
    async with a_heavy() as (it, gate, first):
        it.run(caller, lambda: worked.append("after the end"), caller.told.append, 1, None)
        it.close()
        gate.opened.set()
        await it.idle()

    assert [] == worked
    assert [Code.UNAVAILABLE] == first.told == caller.told


async def test_who_wants_parts_of_the_same_waits_for_one_of_them() -> None:
    """They are told to ask again once its work is done; others of another key have work of their own."""
    order: list[str] = []
    callers = {name: Caller() for name in ("first", "second", "gone", "other")}
    async with a_heavy() as (it, gate, _):
        for name, caller in callers.items():
            work = partial(order.append, f"{name} works")
            again = partial(order.append, f"{name} asks again")
            it.write(name == "other", caller, work, caller.told.append, again, 1e9)
        waiting = it.unanswered()
        callers["gone"].gone = True
        gate.opened.set()
        await it.idle()
        late = Caller()
        it.write(False, late, partial(order.append, "late works"), late.told.append, order.clear, None)
        await it.idle()

    assert 5 == waiting
    assert ["first works", "second asks again", "other works", "late works"] == order
    assert [[None], [], [], [None]] == [caller.told for caller in callers.values()]


async def test_one_that_others_wait_for_may_leave() -> None:
    """Before its work begins: then one of the others has it."""
    order: list[str] = []
    first, second, third = Caller(), Caller(), Caller()
    async with a_heavy() as (it, gate, _):

        def ask(name: str, caller: Caller) -> None:
            work = partial(order.append, name)
            it.write("key", caller, work, caller.told.append, partial(ask, name, caller), None)

        ask("first", first)
        ask("second", second)
        ask("third", third)
        first.gone = True
        gate.opened.set()
        await it.idle()

    assert ["second", "third"] == order
    assert [[], [None], [None]] == [first.told, second.told, third.told]


async def test_deadlines_and_the_end_of_who_waits_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for everybody else; without room for the first one nobody waits for it."""
    late, stranded, refused = Caller(), Caller(), Caller()
    async with a_heavy() as (it, _, _):
        it.write("key", Caller(), lambda: None, print, lambda: None, None)
        it.write("key", late, lambda: None, print, lambda: None, 0.0)
        it.write("key", stranded, lambda: None, print, lambda: None, None)
        await late.heard.wait()
        monkeypatch.setattr(heavy, "MAX_WAITING_BYTES", 0)
        for _ in range(2):
            it.write("another", refused, lambda: None, print, lambda: None, None)
        it.strand()

    assert [Code.DEADLINE_EXCEEDED] == late.told
    assert [Code.UNAVAILABLE] == stranded.told
    assert 2 == len(refused.told)
