"""The library's front to a function: called with one item, it runs on many. No servers and no protocol here."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import numpy as np

from batchproxy.backends.threads import run_to_the_end
from batchproxy.core.columns import Array, ArrayColumn, Columns, ListColumn
from batchproxy.core.errors import BackendProtocolError, BackendRejected, Unsplittable
from batchproxy.core.policy import Policy
from batchproxy.core.request import BatchKey, Reply, Request, build_request
from batchproxy.core.shapes import UNDECLARED, Signature
from batchproxy.engine import Engine, build_engine

_TARGET = ("batcher", 1, "call")
_INPUT, _OUTPUT = "items", "results"


class Batcher:
    """Makes a function over many items callable with one: concurrent callers share its calls.

    While one call runs, the items that come meanwhile gather for the next; an idle function is called at once.
    An item that the function refuses fails alone: the others are run again without it.

    Args:
        function: a list of items in, a list of as many results out; or, for callers that pass numpy arrays,
            an array ``[n, ...]`` in and an array ``[n, ...]`` out. Plain functions run in a thread, async ones on
            the loop.
        max_batch_rows: items of one call at most.
        max_delay_ms: how long an item may wait for company while the function is idle.
        max_queued_rows: items that may wait; beyond it callers get ``QueueFull``.
        max_inflight: calls of the function that may run at once.
        idempotent: False: never run an item twice, so a failing call fails all its items.

    Example:
        >>> async def main():
        ...     async with Batcher(lambda words: [word.upper() for word in words], max_batch_rows=32) as upper:
        ...         return await asyncio.gather(*(upper(word) for word in ("a", "b")))
        >>> asyncio.run(main())
        ['A', 'B']
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        max_batch_rows: int = 64,
        max_delay_ms: float = 0.0,
        max_queued_rows: int = 8192,
        max_inflight: int = 1,
        idempotent: bool = True,
    ) -> None:
        policy = Policy(
            max_batch_rows=max_batch_rows,
            max_delay_s=max_delay_ms / 1000,
            max_queued_rows=max_queued_rows,
            idempotent=idempotent,
        )
        name = getattr(function, "__name__", type(function).__name__)
        self._engine: Engine = build_engine(
            name, {name: _FunctionBackend(function, max_inflight)}, {_TARGET[0]: policy}, max_inflight=max_inflight
        )
        self._engine.scheduler.balancer.endpoints[0].up = True  # a function needs no probe

    async def __call__(self, item: Any, *, timeout_s: float | None = None) -> Any:
        """The function's result for one item: an object, or an array without the leading axis.

        Args:
            item: what to pass; a numpy array is a row of a larger array.
            timeout_s: how long the caller will wait.

        Raises:
            Unavailable: too much waits already, or the batcher is closed.
            DeadlineExceeded: ``timeout_s`` is over.
            Exception: whatever the function raises for this item alone.
        """
        many = item[np.newaxis] if isinstance(item, np.ndarray) else [item]
        return (await self.map(many, timeout_s=timeout_s))[0]

    async def map(self, items: Sequence[Any] | Array, *, timeout_s: float | None = None) -> Any:
        """The function's results for several items, which stay together: a list, or an array ``[n, ...]``.

        Raises:
            As ``__call__``, for the items together.
        """
        if len(items) == 0:
            return items
        column = ArrayColumn(items) if isinstance(items, np.ndarray) else ListColumn(list(items))
        deadline = None if timeout_s is None else self._engine.clock() + timeout_s
        request = build_request(_TARGET, UNDECLARED, {_INPUT: column}, deadline=deadline)
        results = (await self._send(request)).columns[_OUTPUT]
        return results.array if isinstance(results, ArrayColumn) else results.items  # type: ignore[attr-defined]

    async def _send(self, request: Request) -> Reply:
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        entry = self._engine.submit(request, answered)
        try:
            return await answered
        except asyncio.CancelledError:
            self._engine.discard(entry)
            raise
        except BackendRejected as error:
            cause = error.__cause__
            if isinstance(cause, Exception) and not isinstance(cause, StopIteration):
                raise cause from None
            raise  # no coroutine can raise StopIteration, and a function's SystemExit is not its caller's

    async def aclose(self) -> None:
        """Take nothing new, finish what was taken, and free the threads."""
        await self._engine.drain()
        await self._engine.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class _FunctionBackend:
    """Carries merged items to the function."""

    version = _TARGET[1]
    signatures: Mapping[str, Signature] = {_TARGET[2]: UNDECLARED}

    def __init__(self, function: Callable[..., Any], threads: int) -> None:
        self._function = function
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="batchproxy-batcher")

    async def infer(self, key: BatchKey, columns: Columns, timeout_s: float | None = None) -> Reply:
        column = columns[_INPUT]
        items = column.array if isinstance(column, ArrayColumn) else column.items  # type: ignore[attr-defined]
        if inspect.iscoroutinefunction(self._function):
            results = await self._await(items)
        else:
            results = await run_to_the_end(self._pool, self._call, items)
        return Reply({_OUTPUT: _checked(results, column.rows)}, self.version)

    def _call(self, items: Any) -> Any:
        try:
            return self._function(items)
        except BaseException as error:  # asyncio cannot carry StopIteration or SystemExit out of a thread
            raise _rejected(error) from error

    async def _await(self, items: Any) -> Any:
        try:
            return await self._function(items)
        except Exception as error:
            raise _rejected(error) from error

    async def probe(self) -> None:
        """A function can always be called."""

    async def aclose(self) -> None:
        self._pool.shutdown(wait=False)


def _rejected(error: BaseException) -> BackendRejected:
    """Carries the function's own error, which ``Batcher._send`` raises again."""
    return BackendRejected(f"the function raised {type(error).__name__}: {error}")


def _checked(results: object, rows: int | None) -> ArrayColumn | ListColumn:
    if isinstance(results, np.ndarray) and results.ndim:
        found: ArrayColumn | ListColumn = ArrayColumn(results)
    elif isinstance(results, Sequence) and not isinstance(results, str | bytes):
        found = ListColumn(results)
    else:
        raise BackendProtocolError(f"the function returned {type(results).__name__}, not a list or an array of results")
    if found.rows != rows:
        raise Unsplittable(f"the function returned {found.rows} results for {rows} items")
    return found
