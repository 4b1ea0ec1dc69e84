"""Public fakes around the engine: a clock, requests, waiters and a scriptable backend. Nothing for production.

Nothing sleeps: time is moved by hand and calls in flight are held by gates.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from batchproxy.core.columns import Array, ArrayColumn, Columns
from batchproxy.core.errors import BackendRejected, BatchProxyError
from batchproxy.core.request import BatchKey, Reply, Request, build_request
from batchproxy.core.shapes import DEFAULT_SIGNATURE, UNDECLARED, Signature, TensorSpec

FIXED = Signature({"x": TensorSpec("int64", (1,))}, {"y": TensorSpec("int64", (1,))})
"""A signature whose leading dimension is fixed: its requests travel alone."""


class ManualClock:
    """A clock that stands still until it is moved.

    >>> clock = ManualClock(5.0)
    >>> clock.advance(0.5)
    >>> clock()
    5.5
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def a_request(
    rows: int = 1,
    model: str = "m",
    *,
    first: int = 0,
    width: int = 0,
    signature: Signature = UNDECLARED,
    name: str = DEFAULT_SIGNATURE,
    deadline: float | None = None,
    priority: int | None = None,
    tenant: str = "",
) -> Request:
    """A request for ``x`` (int64, ``[rows]`` or ``[rows, width]``), each row filled with its own number.

    Args:
        rows: length of axis 0.
        model: the model's name.
        first: the number of the first row; the next one has the next number.
        width: length of axis 1, another shape class; 0 for no axis 1.
        signature: what the model says of itself; ``FIXED`` makes requests that travel alone.
        name: the signature's name.
        deadline: on the engine's clock, in seconds.
        priority: 0 (high), 1 or 2 (low); None: its model's.
        tenant: value of a header that callers must agree in; empty for no header.

    Example:
        >>> a_request(2, first=7).columns["x"].array
        array([7, 8])
    """
    numbers: Array = np.arange(first, first + rows, dtype=np.int64)
    array = np.repeat(numbers[:, np.newaxis], width, axis=1) if width else numbers
    request = build_request((model, 1, name), signature, {"x": ArrayColumn(array)}, deadline=deadline)
    request.priority = priority
    if tenant:
        request.key = request.key._replace(partition=(("tenant", tenant),))
    return request


def numbers_of(columns: Columns, name: str = "x") -> list[int]:
    """The row numbers in a column of ``a_request``, or of an answer to one."""
    column = columns[name]
    assert isinstance(column, ArrayColumn)
    return [int(np.ravel(row)[0]) for row in column.array]


class StubWaiter:
    """A waiter that remembers its answer and fails the test when it is told twice.

    Attributes:
        reply: the answer, if it was one.
        error: the refusal, if it was one.
        cancelled: the caller went away.
    """

    def __init__(self) -> None:
        self.reply: Reply | None = None
        self.error: BatchProxyError | None = None
        self.cancelled = False

    def done(self) -> bool:
        return self.cancelled or self.reply is not None or self.error is not None

    def set_result(self, result: Reply, /) -> None:
        assert not self.done(), f"answered {result!r} after {self!r}"
        self.reply = result

    def set_exception(self, exception: BatchProxyError, /) -> None:
        assert not self.done(), f"answered {exception!r} after {self!r}"
        self.error = exception

    def cancel(self) -> None:
        """The caller goes away."""
        self.cancelled = True

    def __repr__(self) -> str:
        return f"StubWaiter(reply={self.reply!r}, error={self.error!r}, cancelled={self.cancelled})"


@dataclass(eq=False)
class Gate:
    """Holds one call of a FakeBackend in flight. ``await gate.entered.wait()``, then ``gate.release()``.

    Args:
        stubborn: a cancelled call stays in flight until released, as a thread does.
    """

    stubborn: bool = False
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    _open: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Let the call go on."""
        self._open.set()

    async def hold(self) -> None:
        """What the call does."""
        self.entered.set()
        try:
            await self._open.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            if self.stubborn:
                await self._open.wait()
            raise


Outputs = Callable[[Columns], Columns]


def double(columns: Columns) -> Columns:
    """``y = 2 * x``: row by row, so that each row of the answer says whose it is."""
    column = columns["x"]
    assert isinstance(column, ArrayColumn)
    return {"y": ArrayColumn(column.array * 2)}


class FakeBackend:
    """A backend that does as it is told.

    Args:
        answer: what a call without further instructions returns.
        poison: row numbers that make a call fail; the text names every row of the call, as TF Serving's may.

    Attributes:
        script: one item for each call to come: an exception to raise, or a function from inputs to outputs.
        calls: the row numbers of each call made.

    Example:
        >>> backend = FakeBackend(poison={3})
        >>> backend.script.append(BackendRejected("no"))
    """

    version = 1
    signatures: Mapping[str, Signature] = {DEFAULT_SIGNATURE: UNDECLARED}

    def __init__(self, answer: Outputs = double, *, poison: Collection[int] = ()) -> None:
        self._answer = answer
        self._poison = frozenset(poison)
        self._gates: deque[Gate] = deque()
        self.script: deque[BaseException | Outputs] = deque()
        self.calls: list[list[int]] = []
        self.closed = False

    def hold(self, *, stubborn: bool = False) -> Gate:
        """A gate that the next call without one stops at."""
        gate = Gate(stubborn)
        self._gates.append(gate)
        return gate

    async def infer(self, key: BatchKey, columns: Columns, timeout_s: float | None = None) -> Reply:
        rows = numbers_of(columns)
        self.calls.append(rows)
        step = self.script.popleft() if self.script else self._answer
        if self._gates:
            await self._gates.popleft().hold()
        if isinstance(step, BaseException):
            raise step
        if not self._poison.isdisjoint(rows):
            raise BackendRejected(f"refused {rows}")
        return Reply(step(columns), self.version)

    async def probe(self) -> None:
        """Always well."""

    async def aclose(self) -> None:
        self.closed = True
