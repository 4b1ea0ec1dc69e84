"""Calls that go as they came and need no task of their own: begun at once, ended by a callback. Decides nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from batchproxy.core.errors import BackendError, BatchProxyError, Code
from batchproxy.core.outcome import Outcome
from batchproxy.core.raw import RawReply
from batchproxy.core.request import Entry, Reply

if TYPE_CHECKING:
    from batchproxy.backends.base import Backend, Begun, Remote
    from batchproxy.core.batch import Dispatch
    from batchproxy.observe import Observer

logger = logging.getLogger("batchproxy.relays")

Ended = Callable[["Dispatch", Sequence[Entry], RawReply | BackendError | None], None]
End = Callable[["Dispatch", Sequence[Entry], Sequence[Reply], Outcome, BatchProxyError | None], None]


class Cancellable(Protocol):
    """A call under way: a task, or one without."""

    def cancel(self) -> object: ...


class Relays:
    """Those of one engine.

    Args:
        calls: what is under way; each is in it until ``end`` takes it out.
        observer: told of each call that begins.
        end: settles a call and answers its members.
        failed: what an error means.
    """

    def __init__(
        self,
        calls: MutableMapping[Dispatch, Cancellable],
        observer: Observer,
        end: End,
        failed: Callable[[Dispatch, Sequence[Entry], BackendError], tuple[Outcome, BatchProxyError]],
    ) -> None:
        self._calls = calls
        self._observer = observer
        self._end = end
        self._failed = failed

    def begin(self, dispatch: Dispatch, backend: Backend, now: float) -> bool:
        """Send a call, if it goes as it came and needs nothing that has to be waited for; whether it did.

        Args:
            dispatch: what the scheduler wants sent.
            backend: of its endpoint.
            now: the engine's clock, in seconds.
        """
        members = tuple(dispatch.batch.entries)
        if not goes_as_it_came(members):
            return False
        relay = Relay(dispatch, members, self._ended)
        try:
            if not relay.begin(backend, now):
                return False
        except Exception as error:
            logger.exception("model %r: a call could not be begun. This is a bug.", dispatch.batch.key.model)
            asyncio.get_running_loop().call_soon(self._never_began, dispatch, members, type(error).__name__)
        self._calls[dispatch] = relay
        self._observer.call_started(dispatch, members)
        return True

    def _never_began(self, dispatch: Dispatch, members: Sequence[Entry], kind: str) -> None:
        if dispatch in self._calls:  # else it was cancelled meanwhile
            why = BatchProxyError(f"internal error: {kind}. This is a bug.", code=Code.INTERNAL)
            self._end(dispatch, members, (), Outcome.REJECTED, why)

    def _ended(self, dispatch: Dispatch, members: Sequence[Entry], answer: RawReply | BackendError | None) -> None:
        if isinstance(answer, RawReply):
            self._end(dispatch, members, (Reply({}, 0, raw=answer),), Outcome.OK, None)
        elif answer is None:
            self._end(dispatch, members, (), Outcome.MAYBE_RUN, None)
        else:
            self._end(dispatch, members, (), *self._failed(dispatch, members, answer))


class Relay:
    """One such call; ``ended`` is told of its end exactly once, and never while it begins.

    Args:
        dispatch: what the scheduler wants sent.
        members: its one member.
        ended: gets the server's answer, or why there is none; None: it was cancelled.
    """

    __slots__ = ("_begun", "_dispatch", "_ended", "_members")

    def __init__(self, dispatch: Dispatch, members: Sequence[Entry], ended: Ended) -> None:
        self._dispatch = dispatch
        self._members = members
        self._ended = ended
        self._begun: Begun | None = None

    def begin(self, backend: Backend, now: float) -> bool:
        """Send it; whether that was possible without waiting for a connection.

        Args:
            backend: of the endpoint.
            now: the engine's clock, in seconds.
        """
        request = self._members[0].request
        if request.raw is None:
            return False
        left = None if request.deadline is None else max(0.0, request.deadline - now)
        self._begun = cast("Remote", backend).begin(request.raw, left, self._told)
        return self._begun is not None

    def _told(self, answer: RawReply | BackendError) -> None:
        self._begun = None  # which knows us: apart, both go at once, and no garbage is left to collect
        self._ended(self._dispatch, self._members, answer)

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.cancel()
        self._ended(self._dispatch, self._members, None)


def goes_as_it_came(members: Sequence[Entry]) -> bool:
    """Whether the caller's own bytes go out, and the server's own come back (R1)."""
    return len(members) == 1 and members[0].request.raw is not None
