"""What a bad server does, call by call, in words that no protocol owns. No socket and no clock: a test says when.

A fault strikes calls of one model, so that tests that share a server do not meet. The model is the same for all names:
of rows ``x`` it makes ``y = 3 * x + 1`` and ``f = x / 2``, so that each answer tells whose row it is of.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from batchproxy.core.shapes import DEFAULT_SIGNATURE, ModelInfo, Signature, TensorSpec

VERSION = 4
POISON = -1
"""The row that ``Fault.POISON`` refuses."""

INTS, FLOATS = TensorSpec("int64", (None,)), TensorSpec("float32", (None,))
SIGNATURE = Signature({"x": INTS}, {"y": INTS, "f": FLOATS})


def info(model: str) -> ModelInfo:
    """What the server says of a model."""
    return ModelInfo(model, VERSION, {DEFAULT_SIGNATURE: SIGNATURE})


def right(row: int) -> tuple[int, float]:
    """What is due for a row."""
    return 3 * row + 1, row / 2


class Fault(enum.Enum):
    """What can go wrong; the value is its line in docs/reliability.md."""

    SLOW = "answers late, but rightly"
    DRIBBLE = "answers byte by byte"
    HANG = "takes the call and never answers"
    RESET_BEFORE = "resets the connection instead of answering"
    HANG_UP = "closes the connection instead of answering"
    RESET_WITHIN = "resets the connection within the body"
    HALF_CLOSE = "half-closes the connection within the body"
    DIES = "dies with a batch in flight, and is back"
    FEWER_ROWS = "one row fewer than it was sent"
    MORE_ROWS = "one row more than it was sent"
    MISSING_OUTPUT = "leaves one output out"
    EXTRA_OUTPUT = "has an output that it never declared"
    NAN = "NaN in the first row"
    GARBAGE = "a body that is noise"
    NO_PROTOCOL = "noise where HTTP should be"
    SHORTER = "a body shorter than it says"
    LONGER = "a body longer than it says"
    TWICE = "a second answer after the first, unasked"
    WRONG_TYPE = "a gateway's HTML page with status 200"
    POISON_ROW = "refuses a batch for one row in it"
    INTERNAL = "500, INTERNAL"
    UNAVAILABLE = "503, UNAVAILABLE"
    EXHAUSTED = "429, RESOURCE_EXHAUSTED"
    GATEWAY = "502 of a gateway"
    GOAWAY = "GOAWAY: this call was not looked at"
    GOAWAY_AFTER = "GOAWAY, and the answer after it"
    REFUSED_STREAM = "RST_STREAM REFUSED_STREAM"
    RST_STREAM = "RST_STREAM INTERNAL_ERROR"
    NO_STATUS = "ends the stream without a status"


ROWS = frozenset({Fault.FEWER_ROWS, Fault.MORE_ROWS, Fault.MISSING_OUTPUT, Fault.EXTRA_OUTPUT, Fault.NAN})
"""Faults of the values, which are made before any protocol writes them."""

STATUSES = {
    Fault.INTERNAL: (13, 500),
    Fault.UNAVAILABLE: (14, 503),
    Fault.EXHAUSTED: (8, 429),
    Fault.GATEWAY: (14, 502),
}
"""Faults that are a status: gRPC's number and HTTP's."""

HTTP2_ONLY = frozenset({Fault.GOAWAY, Fault.GOAWAY_AFTER, Fault.REFUSED_STREAM, Fault.RST_STREAM, Fault.NO_STATUS})
HTTP1_ONLY = frozenset({Fault.GATEWAY})


@dataclass(frozen=True)
class Call:
    """A Predict as a server saw it."""

    model: str
    rows: tuple[int, ...]


Outputs = dict[str, list[int] | list[float]]


def outputs(rows: Sequence[int], fault: Fault | None) -> Outputs:
    """The values for rows, wrong as the fault says."""
    ids = list(rows)
    if fault is Fault.FEWER_ROWS:
        ids = ids[:-1]
    elif fault is Fault.MORE_ROWS:
        ids.append(ids[-1])
    found: Outputs = {"y": [right(row)[0] for row in ids], "f": [right(row)[1] for row in ids]}
    if fault is Fault.MISSING_OUTPUT:
        del found["f"]
    elif fault is Fault.EXTRA_OUTPUT:
        found["g"] = ids
    elif fault is Fault.NAN:
        found["f"] = [float("nan"), *found["f"][1:]]
    return found


@dataclass
class Script:
    """Which fault strikes which call. Threads of a test may ask and tell at any time.

    Attributes:
        calls: the Predict calls that were taken, in order.
        deaf: models whose metadata cannot be had.
    """

    calls: list[Call] = field(default_factory=list)
    deaf: set[str] = field(default_factory=set)
    _faults: dict[str, tuple[Fault, int | None]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def strike(self, model: str, fault: Fault, times: int | None = None) -> None:
        """The next ``times`` calls of a model meet a fault; None: all of them until ``forgive``."""
        with self._lock:
            self._faults[model] = (fault, times)

    def forgive(self, model: str) -> None:
        """Calls of a model go well again."""
        with self._lock:
            self._faults.pop(model, None)

    def take(self, call: Call) -> Fault | None:
        """A call has come: what befalls it."""
        with self._lock:
            self.calls.append(call)
            fault, times = self._faults.get(call.model, (None, None))
            if fault is Fault.POISON_ROW:
                return fault if POISON in call.rows else None
            if fault is not None and times is not None:
                if times == 1:
                    del self._faults[call.model]
                else:
                    self._faults[call.model] = (fault, times - 1)
            return fault

    def rows_of(self, model: str) -> list[tuple[int, ...]]:
        """The rows of each call of a model."""
        with self._lock:
            return [call.rows for call in self.calls if call.model == model]
