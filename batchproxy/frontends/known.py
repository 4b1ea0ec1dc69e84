"""What is found out once about requests that differ in their numbers only, for all of them. No wire format here."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import Signature
from batchproxy.engine import Engine
from batchproxy.frontends.call import Format, Record
from batchproxy.frontends.remote import RemotePool

Answer = TypeVar("Answer")


class Known(NamedTuple, Generic[Answer]):
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

    def holds(self) -> bool:
        """Whether the model is still what it was taken for."""
        key, pool = self.key, self.pool
        return pool is None or pool.signature(key.model, key.version, key.signature) is self.signature
