"""Blocking work in threads, with the slot discipline that backends owe the scheduler. No models here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

HAND_OVER_S = 0.0002
"""How long the loop waits for a thread to begin: it takes some 50 us, on a machine that has a core for it."""


async def run_to_the_end(
    pool: ThreadPoolExecutor,
    function: Callable[..., Any],
    *arguments: object,
    stop: Callable[[], None] | None = None,
    at_once: bool = False,
) -> Any:
    """Run in a thread; when cancelled, still wait for the thread to end, since threads cannot be stopped.

    Work that has not begun is taken back at once. ``function`` must raise nothing but subclasses of
    ``Exception`` other than ``StopIteration``: asyncio cannot carry the rest, and waits for ever or dies of it.

    Args:
        pool: where it runs.
        function: what runs.
        *arguments: what it is called with.
        stop: asks running work to end early; called once, from the loop's thread.
        at_once: a thread is free, and will soon let go of the interpreter: the loop lends it until the thread has
            begun. Else that waits until the loop rests, or for ``sys.getswitchinterval()``: while the loop wrote
            answers for 0.25 ms, a thread began after 0.31 ms, and like this after 0.07 (measured).
    """
    work = _submit_and_see_it_begin(pool, function, *arguments) if at_once else pool.submit(function, *arguments)
    future = asyncio.wrap_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if not work.cancel():
            if stop is not None:
                stop()
            await _outlast(future)
        raise


def _submit_and_see_it_begin(pool: ThreadPoolExecutor, function: Callable[..., Any], *arguments: object) -> Future[Any]:
    begun = Lock()
    begun.acquire()

    def begin() -> Any:
        begun.release()
        return function(*arguments)

    work = pool.submit(begin)
    begun.acquire(timeout=HAND_OVER_S)
    return work


async def _outlast(future: asyncio.Future[Any]) -> None:
    """Wait for ``future`` whatever else is cancelled meanwhile: the caller raises CancelledError anyway."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
    if not future.cancelled():
        future.exception()  # asked for, or asyncio logs that nobody did: work that was stopped fails


def cores() -> int:
    """Processors that this process may use; cgroup quotas are not seen.

    >>> cores() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
