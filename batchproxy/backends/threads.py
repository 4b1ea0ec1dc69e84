"""Blocking work in threads, with the slot discipline that backends owe the scheduler. No models here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


async def run_to_the_end(
    pool: ThreadPoolExecutor, function: Callable[..., Any], *arguments: object, stop: Callable[[], None] | None = None
) -> Any:
    """Run in a thread; when cancelled, still wait for the thread to end, since threads cannot be stopped.

    Work that has not begun is taken back at once. ``function`` must raise nothing but subclasses of
    ``Exception`` other than ``StopIteration``: asyncio cannot carry the rest, and waits for ever or dies of it.

    Args:
        pool: where it runs.
        function: what runs.
        *arguments: what it is called with.
        stop: asks running work to end early; called once, from the loop's thread.
    """
    work = pool.submit(function, *arguments)
    future = asyncio.wrap_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if not work.cancel():
            if stop is not None:
                stop()
            await _outlast(future)
        raise


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
