"""Tests of batchproxy.testing.fakes: a fake that lies makes every test that uses it lie."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from batchproxy.core.columns import ArrayColumn, Columns
from batchproxy.core.errors import BackendRejected, Draining
from batchproxy.core.request import Reply
from batchproxy.testing import FIXED, FakeBackend, ManualClock, StubWaiter, a_request, numbers_of


def test_clock_stands_still_until_it_is_moved() -> None:
    """Time is what the test says."""
    clock = ManualClock(2.0)

    assert [2.0, 2.0] == [clock(), clock()]
    clock.advance(0.5)
    assert 2.5 == clock()


def test_requests_have_recognisable_rows() -> None:
    """Each row is filled with its own number, whatever its shape."""
    request = a_request(2, "n", first=7, width=3, name="other", deadline=1.0)

    assert [7, 8] == numbers_of(request.columns)
    assert [[7, 7, 7], [8, 8, 8]] == _array(request.columns).tolist()
    assert ("n", 1, "other") == request.key.target[:3]
    assert (2, 1.0, 48) == (request.rows, request.deadline, request.nbytes)
    assert a_request(signature=FIXED).rows is None


def _array(columns: Columns) -> np.ndarray:
    column = columns["x"]
    assert isinstance(column, ArrayColumn)
    return column.array


@pytest.mark.parametrize("first", ["result", "exception", "cancel"])
@pytest.mark.parametrize("second", ["result", "exception"])
def test_waiter_may_be_told_once(first: str, second: str) -> None:
    """A second answer, or one after it was cancelled, fails the test."""
    waiter = StubWaiter()
    tell = {
        "result": lambda: waiter.set_result(Reply({}, 1)),
        "exception": lambda: waiter.set_exception(Draining("bye")),
        "cancel": waiter.cancel,
    }
    assert not waiter.done()
    tell[first]()

    assert waiter.done()
    with pytest.raises(AssertionError, match=r"after StubWaiter\("):
        tell[second]()


async def test_backend_answers_row_by_row() -> None:
    """y = 2 * x, and every call is remembered."""
    backend = FakeBackend()
    request = a_request(2, first=3)

    outputs = (await backend.infer(request.key, request.columns)).columns

    assert [6, 8] == numbers_of(outputs, "y")
    assert [[3, 4]] == backend.calls
    await backend.probe()
    await backend.aclose()
    assert backend.closed


async def test_backend_follows_its_script() -> None:
    """One item a call, then as usual; poison spoils the whole call, and its text names every row."""
    backend = FakeBackend(poison={5})
    request = a_request(2, first=4)
    backend.script += [OSError("gone"), lambda columns: {"z": columns["x"]}]
    harmless = a_request(1)

    with pytest.raises(OSError, match="gone"):
        await backend.infer(harmless.key, harmless.columns)
    assert ["z"] == list((await backend.infer(harmless.key, harmless.columns)).columns)
    with pytest.raises(BackendRejected, match=r"refused \[4, 5\]"):
        await backend.infer(request.key, request.columns)


async def test_gate_holds_a_call_until_released() -> None:
    """The call is in flight exactly as long as the test wants."""
    backend = FakeBackend()
    gate = backend.hold()
    request = a_request()
    call = asyncio.ensure_future(backend.infer(request.key, request.columns))

    await gate.entered.wait()
    assert not call.done()
    gate.release()
    assert [0] == numbers_of((await call).columns, "y")


@pytest.mark.parametrize("stubborn", [False, True])
async def test_cancelled_call_ends_at_once_or_when_released(stubborn: bool) -> None:
    """A stubborn one stays in flight, as work in a thread does."""
    backend = FakeBackend()
    gate = backend.hold(stubborn=stubborn)
    request = a_request()
    call = asyncio.ensure_future(backend.infer(request.key, request.columns))
    await gate.entered.wait()
    call.cancel()
    await gate.cancelled.wait()

    assert stubborn != call.done() or not stubborn
    gate.release()
    with pytest.raises(asyncio.CancelledError):
        await call
