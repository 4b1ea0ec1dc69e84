"""What is found out once about requests that differ in their numbers only, for all of them. No wire format here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Generic, TypeVar

from batchproxy.core.columns import Columns
from batchproxy.core.errors import BatchProxyError
from batchproxy.core.request import BatchKey, Entry, Request
from batchproxy.core.shapes import Signature
from batchproxy.engine import Engine
from batchproxy.frontends.call import Call, Format, Record
from batchproxy.frontends.callers import GrpcCaller, Http1Caller
from batchproxy.frontends.remote import RemotePool

Answer = TypeVar("Answer")
CallTerms = tuple[float | None, int | None]
"""Deadline, on the engine's clock, and priority; None: there is none, and that of the model."""


@dataclass(slots=True, eq=False)
class Known(Generic[Answer]):
    """What Predict requests of one kind have in common.

    Attributes:
        engine: runs them.
        key: what they ride with.
        rows: of each.
        nbytes: of their inputs.
        form: writes their answers.
        record: counts them.
        pool: the servers of the model; None where it is embedded.
        signature: what was assumed of the model.
    """

    engine: Engine
    key: BatchKey
    rows: int
    nbytes: int
    form: Format[Answer]
    record: Record
    pool: RemotePool | None
    signature: Signature
    _seen: object = field(default=None, init=False)  # the catalogue's edition in which it held

    def holds(self) -> bool:
        """Whether the model is still what it was taken for."""
        key, pool = self.key, self.pool
        if pool is None or pool.catalogue.edition is self._seen:
            return True
        edition = pool.catalogue.edition
        holds = pool.signature(key.model, key.version, key.signature) is self.signature
        self._seen = edition if holds else None
        return holds


def begin_all(
    known: Known[Any],
    callers: Sequence[Http1Caller | GrpcCaller],
    inputs: Sequence[Columns],
    terms: CallTerms,
    started: float,
) -> None:
    """Begin to answer requests of one kind for an embedded model.

    Args:
        known: what they have in common.
        callers: who asks.
        inputs: of each.
        terms: the deadline and the priority of all of them.
        started: when they came, on the engine's clock, in seconds.
    """
    deadline, priority = terms
    request = Request(known.key, {}, known.rows, known.nbytes, deadline, priority=priority)
    _begin(known, callers, repeat(request, len(callers)), inputs, started)


def begin_each(
    known: Known[Any], callers: Sequence[Http1Caller | GrpcCaller], requests: Sequence[Request], started: float
) -> None:
    """The same where each has a request of its own.

    Args:
        known: what they have in common.
        callers: who asks.
        requests: of each.
        started: when they came, on the engine's clock, in seconds.
    """
    _begin(known, callers, requests, repeat(None, len(callers)), started)


def _begin(
    known: Known[Any],
    callers: Sequence[Http1Caller | GrpcCaller],
    requests: Iterable[Request],
    inputs: Iterable[Columns | None],
    started: float,
) -> None:
    entries = []
    for caller, request, columns in zip(callers, requests, inputs, strict=True):
        call: Call[Any] = Call(known.form, caller, known.record, started)
        call.engine = known.engine
        call.entry = entry = Entry(request, call, started, columns)
        entries.append(entry)
        caller.on_cancel = call.cancel
    try:
        known.engine.submit_all(entries)
    except BatchProxyError as error:  # it is shutting down
        for entry in entries:
            entry.waiter.set_exception(error)
