"""Servers lent to calls that an engine does not carry itself: streams, and questions. Nothing is sent here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from batchproxy.core.errors import BackendUnavailable, BatchProxyError, Draining, NoEndpoint, QueueFull

if TYPE_CHECKING:
    from batchproxy.backends.base import Remote
    from batchproxy.core.balancer import Balancer
    from batchproxy.core.request import BatchKey
    from batchproxy.fleet import Fleet

CLOSED = "the proxy is shutting down; try another one"


class Lending:
    """The loans of one engine.

    Args:
        name: the pool's.
        balancer: of the pool.
        fleet: its backends.
        returned: told whenever a call has ended that a shutdown waits for.

    Attributes:
        closed: nothing is lent any more.
        calls: those that a shutdown waits for: what each is told where it has to end before its time.
    """

    def __init__(self, name: str, balancer: Balancer, fleet: Fleet, returned: Callable[[], object]) -> None:
        self.closed = False
        self.calls: set[Callable[[BatchProxyError], object]] = set()
        self._name = name
        self._balancer = balancer
        self._fleet = fleet
        self._returned = returned

    @contextmanager
    def borrow(
        self, strand: Callable[[BatchProxyError], object] | None = None, key: BatchKey | None = None
    ) -> Iterator[Remote]:
        """A server for a call that the engine does not carry itself: a stream.

        Args:
            strand: told why where the call has to end before its time; ``drain`` waits for calls that have this.
            key: of the call, for a server that has its model; None: any can take it.

        Raises:
            Unavailable: shutting down, no endpoint, or as many unmerged calls in flight as there may be.
        """
        if self.closed:
            raise Draining(CLOSED)
        balancer = self._balancer
        if not balancer.any_up():
            raise NoEndpoint(balancer.why_none(key.model if key is not None else ""))
        endpoint = balancer.acquire_relay(1, key=key)
        if endpoint is None:
            raise QueueFull(f"pool {self._name!r}: every endpoint has max_relayed unmerged calls in flight; try again")
        if strand is not None:
            self.calls.add(strand)
        try:
            yield cast("Remote", self._fleet.of(endpoint))
        except BackendUnavailable as error:
            if error.raw is None:
                self._fleet.take_out(endpoint, error)
            raise
        finally:
            endpoint.relayed -= 1
            endpoint.rows -= 1
            self._fleet.released(endpoint)
            if strand is not None:
                self.calls.discard(strand)
                self._returned()
