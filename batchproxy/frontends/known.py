"""What is found out once about requests that differ in their numbers only, for all of them. No wire format here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import Signature
from batchproxy.engine import Engine
from batchproxy.frontends.call import Format, Record
from batchproxy.frontends.remote import RemotePool

Answer = TypeVar("Answer")


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
