"""Tests of batchproxy.tasks."""

from __future__ import annotations

import asyncio
import logging

import pytest

from batchproxy.tasks import Tasks


async def test_task_is_kept_until_it_ends() -> None:
    """A task that only the loop knows may be collected in mid-air; its owner knows it."""
    tasks, go = Tasks(), asyncio.Event()

    async def work() -> int:
        await go.wait()
        return 7

    task = tasks.spawn("work", work())

    assert (1, "work") == (len(tasks), task.get_name())
    go.set()
    assert 7 == await task
    assert 0 == len(tasks)


async def test_crash_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Perhaps nobody awaits the task, so the log says what happened, once, with the traceback."""
    tasks = Tasks()

    async def crash() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        await tasks.spawn("writer", crash())

    (record,) = caplog.records
    assert "task writer crashed. This is a bug." == record.getMessage()
    assert record.exc_info is not None
    assert logging.ERROR == record.levelno


async def test_close_cancels_and_waits_for_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """A task that cleans up is given the time; cancelling is no crash."""
    tasks, started, cleaned = Tasks(), asyncio.Event(), []

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    _ = tasks.spawn("work", work())
    await started.wait()
    await tasks.aclose()

    assert [True] == cleaned
    assert 0 == len(tasks)
    assert [] == caplog.records
    await tasks.aclose()


async def test_close_waits_for_tasks_that_ending_tasks_start() -> None:
    """Whoever starts a successor while being cancelled does not leave it behind."""
    tasks, ended = Tasks(), []

    async def successor() -> None:
        ended.append(True)

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            _ = tasks.spawn("successor", successor())

    _ = tasks.spawn("work", work())
    await asyncio.sleep(0)
    await tasks.aclose()

    assert [True] == ended


async def test_close_does_not_wait_for_what_successors_wait_for() -> None:
    """They are cancelled as well, once all that were there before have ended: nothing holds up the end."""
    tasks, ended = Tasks(), []

    async def successor() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            _ = tasks.spawn("successor", successor())

    _ = tasks.spawn("work", work())
    await asyncio.sleep(0)
    await tasks.aclose()

    assert [True] == ended
