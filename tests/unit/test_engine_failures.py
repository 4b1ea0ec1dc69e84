"""Tests of batchproxy.engine: what callers see when backends, calls and waiters fail."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from batchproxy.core.columns import Array, ArrayColumn, Columns
from batchproxy.core.errors import (
    BackendUnavailable,
    BatchProxyError,
    Code,
)
from batchproxy.core.policy import Policy
from batchproxy.core.raw import RawReply
from batchproxy.core.request import Reply
from batchproxy.testing import FakeBackend, StubWaiter, numbers_of
from tests.unit.engines import an_engine, held, numbers, single, submit


async def test_one_bad_request_fails_alone() -> None:
    """With the text of its own call; the text of the merged one names its members."""
    engine = an_engine(backend := FakeBackend(poison={3}))

    answers = submit(engine, *(single(place) for place in range(8)))
    await asyncio.wait(answers)

    assert "refused [3]" == str(answers[3].exception())
    assert [[place] for place in range(8) if place != 3] == await numbers([*answers[:3], *answers[4:]])
    assert 7 == len(backend.calls)


async def test_unforeseen_exception_bisects_and_says_nothing_of_others(caplog: pytest.LogCaptureFixture) -> None:
    """A backend that raises what it should not strands nobody; each caller gets INTERNAL without its text."""

    def crash(columns: Columns) -> Columns:
        raise RuntimeError(f"rows {numbers_of(columns)}")

    engine = an_engine(FakeBackend(crash))

    answers = submit(engine, single(0), single(1))
    await asyncio.wait(answers)

    errors = [answer.exception() for answer in answers]
    assert ["internal error: RuntimeError. This is a bug."] * 2 == [str(error) for error in errors]
    assert [Code.INTERNAL] * 2 == [error.code for error in errors if isinstance(error, BatchProxyError)]
    assert 3 == sum("failed in an unforeseen way" in record.message for record in caplog.records)


@pytest.mark.parametrize("sizes", [(), (4,)], ids=["", "padded"])
async def test_answer_without_rows_switches_batching_off(
    caplog: pytest.LogCaptureFixture, sizes: tuple[int, ...]
) -> None:
    """Each caller gets what a direct call gives; later ones travel alone, and the log says why."""

    def total(columns: Columns) -> Columns:
        return {"y": ArrayColumn(np.asarray(2 * sum(numbers_of(columns))))}

    engine = an_engine(backend := FakeBackend(total), policy=Policy(max_batch_rows=4, allowed_batch_sizes=sizes))

    totals = [int(np.ravel(_array(await answer))[0]) for answer in submit(engine, single(1), single(2))]
    totals += [int(np.ravel(_array(await answer))[0]) for answer in submit(engine, single(3), single(4))]

    assert [2, 4, 6, 8] == totals
    assert [[1], [2], [3], [4]] == backend.calls[1:]
    assert ["output 'y' of a merged call has no rows"] == [
        record.getMessage().rpartition(": ")[2].partition(" where")[0] for record in caplog.records
    ]


def _array(reply: Reply) -> Array:
    column = reply.columns["y"]
    assert isinstance(column, ArrayColumn)
    return column.array


async def test_call_that_did_not_run_is_tried_elsewhere() -> None:
    """Its callers never learn of it."""
    first, second = FakeBackend(), FakeBackend()
    first.script.append(BackendUnavailable("refused"))
    engine = an_engine(first, second)

    assert [[0]] == await numbers(submit(engine, single(0)))
    assert [[0]] == second.calls


async def test_cancelled_call_task_strands_nobody() -> None:
    """Whoever cancels it, its members are sent again and answered."""
    engine = an_engine(backend := FakeBackend())
    _, answers = await held(engine, backend, single(0), single(1))

    for task in engine._calls.values():
        task.cancel()

    assert [[0], [1]] == await numbers(answers)
    assert [[0, 1], [0, 1]] == backend.calls


async def test_backend_that_cancels_itself_strands_nobody() -> None:
    """Not for ever, though: after three tries the callers are told."""
    engine = an_engine(backend := FakeBackend())
    backend.script += [asyncio.CancelledError()] * 3

    (answer,) = submit(engine, single(0))

    with pytest.raises(BatchProxyError, match="the call was cancelled before its answer was there; try again"):
        await answer
    assert 3 == len(backend.calls)


async def test_waiter_that_breaks_strands_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """An answer that cannot be encoded is its caller's trouble, not that of those behind it."""

    class Broken(StubWaiter):
        def set_result(self, result: Reply, /) -> None:
            raise ValueError("cannot be encoded")

    engine = an_engine(FakeBackend())
    engine.submit(single(0), Broken())
    (answer,) = submit(engine, single(1))

    assert [[1]] == await numbers([answer])
    assert ["model 'm': a caller could not be answered. This is a bug."] == [r.getMessage() for r in caplog.records]


async def test_a_server_that_says_it_is_busy_is_not_left_out() -> None:
    """It can be reached, or it could not have said so: the call is tried again, and everybody else goes on."""
    busy = BackendUnavailable("queue full", raw=RawReply(Code.UNAVAILABLE, "queue full", (), b"", ()))
    engine = an_engine(backend := FakeBackend())
    backend.script.append(busy)

    answers = submit(engine, single(0), single(1))
    found = await numbers(answers)

    assert [[0], [1]] == found
    assert [[0, 1], [0, 1]] == backend.calls
    assert engine.scheduler.balancer.endpoints[0].up
    assert busy.raw is None, "what was said of a merged call is nobody's to see"
