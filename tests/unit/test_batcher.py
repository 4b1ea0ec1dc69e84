"""Functions over many items: one item in, one result out, calls shared."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy import BackendProtocolError, BackendRejected, Batcher, DeadlineExceeded, Draining, QueueFull


class Gated:
    """Doubles its items once the gate is open; remembers what each call was given."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.open = asyncio.Event()
        self.entered = asyncio.Event()

    async def __call__(self, items: list[Any]) -> list[Any]:
        self.calls.append(list(items))
        self.entered.set()
        await self.open.wait()
        return [item * 2 for item in items]


async def test_items_that_come_while_a_call_runs_share_the_next() -> None:
    """The first leaves alone, the other nine together."""
    gated = Gated()
    async with Batcher(gated.__call__) as batcher:
        first = asyncio.ensure_future(batcher(0))
        await gated.entered.wait()
        others = [asyncio.ensure_future(batcher(number)) for number in range(1, 10)]
        await asyncio.sleep(0)
        gated.open.set()
        results = await asyncio.gather(first, *others)

    assert [number * 2 for number in range(10)] == results
    assert [[0], list(range(1, 10))] == gated.calls


async def test_a_plain_function_runs_in_a_thread() -> None:
    """The loop stays free."""
    threads = []

    def where(items: list[int]) -> list[int]:
        threads.append(threading.current_thread())
        return items

    async with Batcher(where) as batcher:
        await batcher(1)

    assert threading.main_thread() is not threads[0]


async def test_arrays_are_stacked_and_rows_come_back() -> None:
    """A caller's array is one row of the function's array."""
    shapes = []

    def scaled(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        shapes.append(rows.shape)
        return rows * 10

    async with Batcher(scaled) as batcher:
        results = await asyncio.gather(*(batcher(np.full(3, number)) for number in range(4)))

    assert [[number * 10] * 3 for number in range(4)] == [result.tolist() for result in results]
    assert {(3,)} == {shape[1:] for shape in shapes}


async def test_many_items_of_one_caller_stay_together_and_in_order() -> None:
    """``map`` over a list and over an array."""
    async with Batcher(lambda items: [item + 1 for item in items]) as batcher:
        listed = await batcher.map([1, 2, 3])
        nothing = await batcher.map([])
    async with Batcher(lambda rows: rows + 1) as batcher:
        array = await batcher.map(np.arange(6).reshape(3, 2))

    assert [2, 3, 4] == list(listed)
    assert [] == nothing
    assert [[1, 2], [3, 4], [5, 6]] == array.tolist()


async def test_an_item_that_the_function_refuses_fails_alone_with_the_functions_own_error() -> None:
    """The others are run again without it."""

    def roots(items: list[float]) -> list[float]:
        if any(item < 0 for item in items):
            raise ArithmeticError(f"negative: {[item for item in items if item < 0]}")
        return [item**0.5 for item in items]

    async with Batcher(roots) as batcher:
        results = await asyncio.gather(*(batcher(item) for item in (4.0, -1.0, 9.0)), return_exceptions=True)

    assert [2.0, 3.0] == [results[0], results[2]]
    assert isinstance(results[1], ArithmeticError)
    assert "negative: [-1.0]" == str(results[1])


@pytest.mark.parametrize("error", [StopIteration("stop"), SystemExit(3)])
async def test_errors_that_asyncio_cannot_carry_are_carried(error: BaseException) -> None:
    """A function that ends the process, or an iteration, fails its own caller only."""

    def bad(items: list[int]) -> list[int]:
        raise error

    async with Batcher(bad) as batcher:
        with pytest.raises(BackendRejected) as caught:
            await batcher(1)

    assert f"the function raised {type(error).__name__}: {error}" == caught.value.message


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda items: None, "the function returned NoneType, not a list or an array of results"),
        (lambda items: "text", "the function returned str, not a list or an array of results"),
        (lambda items: [1, 2], "the function returned 2 results for 1 items"),
    ],
)
async def test_a_function_that_returns_something_else_is_told_so(function: Callable[[Any], Any], text: str) -> None:
    """What came back, and what was wanted."""
    async with Batcher(function) as batcher:
        with pytest.raises(BackendProtocolError) as caught:
            await batcher(1)

    assert text == caught.value.message


async def test_a_caller_that_leaves_disturbs_nobody() -> None:
    """Its item is never sent, its neighbours are answered."""
    gated = Gated()
    async with Batcher(gated.__call__) as batcher:
        first = asyncio.ensure_future(batcher(0))
        await gated.entered.wait()
        leaver, stayer = asyncio.ensure_future(batcher(1)), asyncio.ensure_future(batcher(2))
        await asyncio.sleep(0)
        leaver.cancel()
        await asyncio.sleep(0)
        gated.open.set()
        results = await asyncio.gather(first, leaver, stayer, return_exceptions=True)

    assert [0, 4] == [results[0], results[2]]
    assert isinstance(results[1], asyncio.CancelledError)
    assert [[0], [2]] == gated.calls


async def test_bounds_and_time_limits_are_kept() -> None:
    """``max_queued_rows`` refuses, ``timeout_s`` gives up."""
    gated = Gated()
    batcher = Batcher(gated.__call__, max_queued_rows=2)
    first = asyncio.ensure_future(batcher(0))
    await gated.entered.wait()
    late = asyncio.ensure_future(batcher.map([1, 2], timeout_s=0.01))
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await batcher(3)
    with pytest.raises(DeadlineExceeded):
        await late
    gated.open.set()
    result = await first
    await batcher.aclose()
    with pytest.raises(Draining):
        await batcher(4)

    assert 0 == result
    assert [[0]] == gated.calls


@given(sizes=st.lists(st.integers(1, 5), max_size=20), limit=st.integers(1, 8))
async def test_every_caller_gets_its_own_results(sizes: list[int], limit: int) -> None:
    """Whatever the sizes, and however small the batches."""
    calls = []

    async def numbered(items: list[int]) -> list[str]:
        calls.append(len(items))
        return [f"r{item}" for item in items]

    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    groups = [list(range(start, start + size)) for start, size in zip(starts, sizes, strict=True)]
    async with Batcher(numbered, max_batch_rows=limit) as batcher:
        results = await asyncio.gather(*(batcher.map(group) for group in groups))

    assert [[f"r{item}" for item in group] for group in groups] == [list(result) for result in results]
    assert all(call <= max(limit, *sizes) for call in calls)
