"""The moments an operator may want to know of, as one protocol. What is done with them is somebody else's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from batchproxy.core.batch import Dispatch
from batchproxy.core.counts import Counted
from batchproxy.core.errors import Code
from batchproxy.core.outcome import Outcome
from batchproxy.core.request import Entry


class Counter(Protocol):
    """Counts the answered requests of one model, method and protocol."""

    def count(self, code: Code, seconds: float) -> None:
        """One more, ``seconds`` after it came."""

    def count_all(self, code: Code, started: Sequence[float], now: float) -> None:
        """As ``count`` of each that came then, of which there is one at least."""


class Observer(Protocol):
    """Called at most once per request and twice per call: keep it cheap."""

    def call_started(self, dispatch: Dispatch, members: Sequence[Entry]) -> None:
        """A call leaves for its endpoint; ``dispatch.started`` less each member's arrival is its wait."""

    def call_ended(self, dispatch: Dispatch, outcome: Outcome, seconds: float) -> None:
        """A call ended ``seconds`` after it left."""

    def request_ended(self, model: str, method: str, protocol: str, code: Code, seconds: float) -> None:
        """A caller was answered; ``model`` is empty unless it is served here."""

    def counter(self, model: str, method: str, protocol: str) -> Counter:
        """``request_ended`` for requests of one kind that are many: only the code and the seconds are left to say."""

    @property
    def counted(self) -> Counted:
        """What the calls of each version of a model came to."""


class NullObserver:
    """Looks away."""

    def call_started(self, dispatch: Dispatch, members: Sequence[Entry]) -> None: ...

    def call_ended(self, dispatch: Dispatch, outcome: Outcome, seconds: float) -> None: ...

    def request_ended(self, model: str, method: str, protocol: str, code: Code, seconds: float) -> None: ...

    def counter(self, model: str, method: str, protocol: str) -> Counter:
        return self

    def count(self, code: Code, seconds: float) -> None: ...

    def count_all(self, code: Code, started: Sequence[float], now: float) -> None: ...

    @property
    def counted(self) -> Counted:
        return Counted()
