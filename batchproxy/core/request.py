"""What travels through the core: Request and Reply, the BatchKey, and the Entry that waits in a queue.

One object per request, carried whole. Nothing here acts.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, overload

from batchproxy.core.columns import Column, Columns
from batchproxy.core.errors import BatchProxyError
from batchproxy.core.pace import EASE, Hurry
from batchproxy.core.raw import Header, RawCall, RawReply
from batchproxy.core.shapes import Signature

Version = int | str | None
Target = tuple[str, Version, str]


class BatchKey(NamedTuple):
    """The answer to "may these two ride together?": they may when their keys are equal.

    Attributes:
        model: the model's name.
        version: the version's number, its label where one was asked for, or None to leave it to the server.
        signature: the signature's name, after defaulting.
        shapes: (input name, shape class) pairs, sorted by name.
        outputs: the output filter, sorted; None for all outputs.
        partition: headers that callers must agree in, as (name, value) pairs; they travel with the call.
        extras: protobuf fields of the request that we do not know, serialized.
    """

    model: str
    version: Version
    signature: str
    shapes: Hashable = ()
    outputs: tuple[str, ...] | None = None
    partition: tuple[tuple[str, str], ...] = ()
    extras: bytes = b""

    @property
    def target(self) -> Target:
        """(model, version, signature): the grain at which batching is switched off for good."""
        return self[0], self[1], self[2]


class KindName(NamedTuple):
    """A kind of batch by a name that another process gives it, too, and that holds nothing a caller sent.

    Attributes:
        model: the model's name.
        version: as asked for.
        signature: its name.
        shapes: a digest of the shape class.
    """

    model: str
    version: Version
    signature: str
    shapes: str

    @classmethod
    def of(cls, kind: tuple[Any, ...]) -> KindName:
        """That of (model, version, signature, shapes)."""
        model, version, signature, shapes = kind
        return cls(model, version, signature, hashlib.sha256(repr(shapes).encode()).hexdigest()[:16])


@dataclass(slots=True, eq=False)
class Request:
    """One inference call, decoded as far as batching needs; or several that differ in nothing but their inputs.

    Attributes:
        key: what it may ride with.
        columns: input alias to column; of several calls those of none: each has its own (``Entry.columns``).
        rows: length of axis 0 that all inputs share; None where this request must travel alone:
            rank 0, unequal or zero leading dimensions, or a model that leaves no open one.
        nbytes: what it holds in memory, for the queue bounds.
        deadline: on the engine's clock, in seconds; None for none.
        raw: the call as it came, where a server can be sent just that.
        priority: one of ``policy.PRIORITIES``; None: its model's.
    """

    key: BatchKey
    columns: Columns
    rows: int | None
    nbytes: int
    deadline: float | None = None
    raw: RawCall | None = None
    priority: int | None = None


@dataclass(slots=True, eq=False)
class Reply:
    """What the model answered to one request.

    Attributes:
        columns: output alias to column.
        version: the concrete version that answered; 0 where the answer does not say.
        extras: protobuf fields of the answer that we do not know, serialized.
        raw: the server's own answer, where the request travelled alone; then there are no columns.
        headers: of the server's answer to a merged REST call, for each of its callers.
        memo: the codecs' own: what they need to know of this answer more than once.
    """

    columns: Columns
    version: int
    extras: bytes = b""
    raw: RawReply | None = None
    headers: Sequence[Header] = ()
    memo: dict[Hashable, Any] = field(default_factory=dict)


class Share(Reply):
    """What one member gets of the answer to a merged call: its rows, cut out only where somebody asks for ``columns``.

    Attributes:
        whole: the answer; what a codec works out for all shares alike is kept in its ``memo``.
        start: the first row of this member.
        stop: the row after its last one.
    """

    __slots__ = ("start", "stop", "whole")

    def __init__(self, whole: Reply, start: int, stop: int) -> None:
        self.whole = whole
        self.start = start
        self.stop = stop

    def __getattr__(self, name: str) -> Any:
        """Reached once for each of a Reply's attributes, while its slot is empty."""
        value: Any
        if name == "columns":
            start, stop = self.start, self.stop
            value = {alias: column.take(start, stop) for alias, column in self.whole.columns.items()}
        elif name in {"version", "extras", "raw", "headers"}:
            value = getattr(self.whole, name)
        else:
            raise AttributeError(name)
        setattr(self, name, value)
        return value


class Shares(Sequence[Reply]):
    """What the members of a merged call get of its answer: for each a ``Share``, made where somebody asks for it.

    Attributes:
        whole: the answer.
        stops: the row after the last one of each member.
    """

    __slots__ = ("stops", "whole")

    def __init__(self, whole: Reply, stops: Sequence[int]) -> None:
        self.whole = whole
        self.stops = stops

    def __len__(self) -> int:
        return len(self.stops)

    @overload
    def __getitem__(self, number: int) -> Share: ...

    @overload
    def __getitem__(self, number: slice) -> list[Share]: ...

    def __getitem__(self, number: int | slice) -> Share | list[Share]:
        return Share(self.whole, 0, self.stops[0]) if number == 0 else [*self][number]

    def __iter__(self) -> Iterator[Share]:
        start = 0
        for stop in self.stops:
            yield Share(self.whole, start, stop)
            start = stop


class Waiter(Protocol):
    """Whoever wants the Reply: an exchange on a connection, or an ``asyncio.Future``.

    Exactly one of ``set_result`` and ``set_exception`` is called, once, unless ``done()`` was true.
    """

    def done(self) -> bool: ...
    def set_result(self, result: Reply, /) -> None: ...
    def set_exception(self, exception: BatchProxyError, /) -> None: ...


class State(enum.IntEnum):
    """Where an entry is."""

    QUEUED = 0
    RUNNING = 1
    DONE = 2


QUEUED, RUNNING, DONE = State  # what is asked for with every request: a member is found in Python, 50 ns a time


class Entry:
    """A Request in the scheduler's care, until it is settled.

    Attributes:
        arrival: on the engine's clock, in seconds.
        attempts: calls it was part of that did not run.
        columns: input alias to column.
        home: the lane or batch that holds it; the scheduler's book-keeping.
        keep: lives as long as it does: what its caller, who is gone, was charged for it.
        order: how urgent it is, the lowest first (see `lane`); set once it waits in a lane.
    """

    __slots__ = ("arrival", "attempts", "columns", "home", "keep", "order", "request", "state", "waiter")
    keep: object
    order: float

    def __init__(self, request: Request, waiter: Waiter, arrival: float, columns: Columns | None = None) -> None:
        self.request = request
        self.columns = request.columns if columns is None else columns
        self.waiter = waiter
        self.arrival = arrival
        self.attempts = 0
        self.home: object = None
        self.state = QUEUED

    def expired(self, now: float) -> bool:
        """Whether its deadline has passed."""
        deadline = self.request.deadline
        return deadline is not None and deadline <= now

    @property
    def hurry(self) -> Hurry:
        """What its deadline means for the batch that it is in."""
        deadline = self.request.deadline
        return EASE if deadline is None else Hurry(deadline - self.arrival, deadline)

    def __repr__(self) -> str:
        key = self.request.key
        return f"Entry({key.model}, rows={self.request.rows}, {self.state.name}, arrival={self.arrival:.6f})"


def build_request(
    target: Target,
    signature: Signature,
    columns: Mapping[str, Column],
    outputs: tuple[str, ...] | None = None,
    deadline: float | None = None,
) -> Request:
    """Key a decoded call and decide whether it may be batched.

    An input whose rank is not the signature's must travel alone: graphs broadcast it along axes of other inputs, so
    that among others it would meet their rows. Likewise inputs of unequal ranks where the signature leaves one open.

    Args:
        target: (model, version, signature name).
        signature: what the model says of itself.
        columns: input alias to column.
        outputs: output aliases asked for; None for all.
        deadline: on the engine's clock, in seconds.
    """
    shapes: list[tuple[str, Hashable]] = []
    counts: set[int | None] = set()
    nbytes = 0
    inputs = signature.inputs
    free = False
    for name in sorted(columns):
        column = columns[name]
        shapes.append((name, column.shape_class))
        spec = inputs.get(name)
        if spec is None:
            fits = True
        elif spec.shape is None:
            fits = free = True
        else:
            fits = column.rank in {None, len(spec.shape)}
        counts.add(column.rows if fits else None)
        nbytes += column.nbytes
    rows = counts.pop() if len(counts) == 1 and signature.batchable else None
    if free and len(columns) > 1 and len({column.rank for column in columns.values()}) > 1:
        rows = None
    key = BatchKey(*target, tuple(shapes), tuple(sorted(outputs)) if outputs else None)
    return Request(key, columns, rows or None, nbytes, deadline)
