"""Tests of ``batchproxy.backends.threads``."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from batchproxy.backends import threads
from batchproxy.backends.threads import cores, run_to_the_end


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """One thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


async def _until_running(started: threading.Event) -> None:
    await asyncio.get_running_loop().run_in_executor(None, started.wait)


async def test_result(pool: ThreadPoolExecutor) -> None:
    """What the function returns comes back."""
    assert 5 == await run_to_the_end(pool, lambda a, b: a + b, 2, 3)


async def test_begun_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop does nothing else until the thread has begun."""
    monkeypatch.setattr(threads, "HAND_OVER_S", 60.0)
    began: list[str] = []

    class Watched(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            def watched() -> Any:
                began.append("began")
                return fn(*args, **kwargs)

            return super().submit(watched)

    with Watched(1) as pool:
        task = asyncio.create_task(run_to_the_end(pool, lambda: 5, at_once=True))
        await asyncio.sleep(0)
        seen = list(began)
        answer = await task
        with pytest.raises(ZeroDivisionError):
            await run_to_the_end(pool, lambda: 1 // 0, at_once=True)

    assert ["began"] == seen
    assert 5 == answer


async def test_not_begun_in_time(pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop goes on where the thread is late after all."""
    monkeypatch.setattr(threads, "HAND_OVER_S", 0.0)
    release = threading.Event()
    pool.submit(release.wait)
    task = asyncio.create_task(run_to_the_end(pool, lambda: 5, at_once=True))
    await asyncio.sleep(0)
    early = task.done()
    release.set()

    assert not early
    assert 5 == await task


async def test_error(pool: ThreadPoolExecutor) -> None:
    """What the function raises comes back."""
    with pytest.raises(ZeroDivisionError):
        await run_to_the_end(pool, lambda: 1 // 0)


async def test_cancelled_while_running(pool: ThreadPoolExecutor) -> None:
    """A cancelled call ends with its thread, however often it is cancelled, and asks it to stop once."""
    started, release = threading.Event(), threading.Event()
    stops: list[str] = []

    def work() -> None:
        started.set()
        release.wait()

    task = asyncio.create_task(run_to_the_end(pool, work, stop=lambda: stops.append("stop")))
    await _until_running(started)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    ended_early = task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not ended_early
    assert ["stop"] == stops


async def test_work_that_was_stopped_may_fail() -> None:
    """Nobody wants to know how it ended, and asyncio does not complain that nobody asked."""
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    started, release = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        release.wait()
        raise RuntimeError("terminated")

    with ThreadPoolExecutor(1) as pool:
        task = asyncio.create_task(run_to_the_end(pool, work, stop=release.set))
        await _until_running(started)
        task.cancel()
        await asyncio.wait([task])
    cancelled = task.cancelled()
    del task
    gc.collect()  # it would when the future goes

    assert cancelled
    assert [] == complaints


async def test_cancelled_before_running(pool: ThreadPoolExecutor) -> None:
    """Work that no thread has begun is taken back at once."""
    started, release = threading.Event(), threading.Event()
    ran: list[int] = []
    pool.submit(started.set)
    pool.submit(release.wait)
    await _until_running(started)
    task = asyncio.create_task(run_to_the_end(pool, ran.append, 1))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    pool.shutdown()

    assert [] == ran


def test_cores_counts_what_may_be_used() -> None:
    """There is always one."""
    assert 1 <= cores()


def test_cores_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Systems that cannot pin processes (macOS) say how many processors there are."""
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 7)

    assert 7 == cores()
