"""What shell and integration tests share: a small model, an engine around it, an observer that remembers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from batchproxy.backends.callable import CallableBackend, Function, signature
from batchproxy.core.batch import Dispatch
from batchproxy.core.columns import Array
from batchproxy.core.counts import Counted
from batchproxy.core.errors import Code
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry
from batchproxy.core.shapes import ModelInfo
from batchproxy.engine import build_engine
from batchproxy.frontends.directory import Directory, Served
from batchproxy.observe import Observer


@signature(inputs={"x": ("float32", (None,))}, outputs={"y": ("float32", (None,))})
def half_plus_two(inputs: dict[str, Array]) -> dict[str, Array]:
    """TF Serving's example model; it refuses numbers below zero."""
    if (inputs["x"] < 0).any():
        raise ValueError(f"negative input: {inputs['x'].tolist()}")
    return {"y": inputs["x"] / 2 + 2}


POLICY = Policy()


class Recorder:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str, Code]] = []
        self.calls: list[tuple[str, int, Outcome]] = []
        self.counted = Counted()

    def call_started(self, dispatch: Dispatch, members: Sequence[Entry]) -> None:
        """Not remembered."""

    def call_ended(self, dispatch: Dispatch, outcome: Outcome, seconds: float) -> None:
        """Model, rows and end of a call."""
        self.calls.append((dispatch.batch.key.model, dispatch.rows, outcome))
        self.counted.ended(dispatch, outcome, seconds)

    def request_ended(self, model: str, method: str, protocol: str, code: Code, seconds: float) -> None:
        """All but the time."""
        self.requests.append((model, method, protocol, code))

    def counter(self, model: str, method: str, protocol: str) -> Kind:
        """The same, for one kind."""
        return Kind(self, (model, method, protocol))


class Kind:
    """What a recorder is told of one kind of requests."""

    def __init__(self, recorder: Recorder, kind: tuple[str, str, str]) -> None:
        self._recorder = recorder
        self._kind = kind

    def count(self, code: Code, seconds: float) -> None:
        """One more."""
        self._recorder.request_ended(*self._kind, code, seconds)

    def count_all(self, code: Code, started: Sequence[float], now: float) -> None:
        """Each of them."""
        for then in started:
            self.count(code, now - then)


@asynccontextmanager
async def a_directory(
    observer: Observer,
    functions: Mapping[str, Function | Mapping[str, Function]] | None = None,
    policy: Policy = POLICY,
) -> AsyncIterator[Directory]:
    """Models by name, each with an engine of its own; ``half_plus_two`` unless others are given."""
    served = []
    for name, function in (functions or {"half_plus_two": half_plus_two}).items():
        backend = CallableBackend(function)
        engine = build_engine(
            name,
            {name: backend},
            {name: policy},
            observer=observer,
        )
        await engine.probe()
        served.append(Served(ModelInfo(name, backend.version, backend.signatures), engine))
    try:
        yield Directory(served)
    finally:
        for one in served:
            await one.engine.aclose()
