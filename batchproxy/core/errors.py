"""Everything that can go wrong, as one tree, and the one table from it to wire statuses.

::

    BatchProxyError
    +-- RequestError              the caller's fault
    |   +-- DecodeError           the bytes do not say what they should
    |   +-- ShapeMismatch         columns that cannot belong to one request
    |   +-- UnknownModel          no such model, version or label here
    |   +-- TooLarge              over one of our own safety limits
    +-- Unavailable               ours, and temporary: try again
    |   +-- QueueFull
    |   +-- TooLate               it could not be answered before its deadline
    |   +-- Draining
    |   +-- NoEndpoint
    +-- DeadlineExceeded          the caller's time is up
    +-- BackendError              theirs
    |   +-- BackendUnavailable    could not be reached, or says so: nothing ran
    |   +-- BackendLost           the connection broke after the call was sent: it may have run
    |   +-- BackendRejected       it answered, with an error
    |   |   +-- BackendTooBig     more rows than it takes in one call
    |   +-- BackendProtocolError  it answered something that is no answer
    |       +-- Unsplittable      rows out do not match rows in
    +-- ConfigError               a file or a flag is wrong; ends with exit status 2

Codes are gRPC's numbers, as plain integers, so that no protocol library is needed here.
What a protocol makes of an error is its codec's matter; texts never name another caller's data.
"""

from __future__ import annotations

import enum

from batchproxy.core.raw import RawReply


class Code(enum.IntEnum):
    """Status codes by gRPC's numbers (``grpc/status.proto``); Abseil's are the same."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


HTTP_STATUS: dict[Code, int] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
"""TF Serving's own mapping (``model_servers/http_server.cc``): FAILED_PRECONDITION is 400, not 412."""


class BatchProxyError(Exception):
    """Anything batchproxy raises on purpose.

    Args:
        message: what happened, to which model or endpoint, and what to do; shown to the caller.
        code: overrides the class's status code where the same kind of fault has several.
    """

    code: Code = Code.INTERNAL
    _http_status: int | None = None

    def __init__(self, message: str, *, code: Code | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code

    @property
    def http_status(self) -> int:
        """The HTTP status a REST caller sees."""
        return self._http_status or HTTP_STATUS[self.code]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code.name}, {self.message!r})"


class RequestError(BatchProxyError):
    """The request itself is wrong; sending it again will not help."""

    code = Code.INVALID_ARGUMENT


class DecodeError(RequestError):
    """The bytes do not say what they should."""


class ShapeMismatch(RequestError):
    """Columns whose shapes or dtypes cannot belong together."""


class UnknownModel(RequestError):
    """No such model, version or label is served here."""

    code = Code.NOT_FOUND


class TooLarge(RequestError):
    """Over one of our own safety limits; the text names the limit."""

    _http_status = 413


class Unavailable(BatchProxyError):
    """We cannot take this now; the same request may succeed in a moment.

    Attributes:
        retry_after_s: seconds after which trying again makes sense (``Retry-After``).
    """

    code = Code.UNAVAILABLE
    retry_after_s: int = 1


class QueueFull(Unavailable):
    """A queue bound (rows, bytes or lanes) is reached."""


class TooLate(Unavailable):
    """It could not be answered before its deadline; told at once, which is cheaper for everybody than a late answer."""


class Draining(Unavailable):
    """We are shutting down and take no new work."""


class NoEndpoint(Unavailable):
    """No endpoint of the pool can be used at present."""


class DeadlineExceeded(BatchProxyError):
    """The caller's deadline passed before its answer was there."""

    code = Code.DEADLINE_EXCEEDED


class BackendError(BatchProxyError):
    """The model server, or the embedded model, is to blame.

    Args:
        message: see ``BatchProxyError``.
        code: see ``BatchProxyError``.
        raw: the server's answer as it came, for a caller whose call travelled alone.
    """

    def __init__(self, message: str, *, code: Code | None = None, raw: RawReply | None = None) -> None:
        super().__init__(message, code=code)
        self.raw = raw


class BackendUnavailable(BackendError):
    """The backend could not be reached, or said that it did not run the call."""

    code = Code.UNAVAILABLE


class BackendLost(BackendError):
    """The connection broke after the call was sent, so it may have run."""

    code = Code.UNAVAILABLE


class BackendRejected(BackendError):
    """The backend answered with an error; its code and text are passed on verbatim to a lone caller."""

    code = Code.INVALID_ARGUMENT


class BackendTooBig(BackendRejected):
    """The backend takes fewer rows in one call; the text is its own."""


class BackendProtocolError(BackendError):
    """The backend's answer cannot be understood."""

    code = Code.INTERNAL
    _http_status = 502


class Unsplittable(BackendProtocolError):
    """A merged call's outputs do not have one row for each row sent."""


class ConfigError(BatchProxyError):
    """A configuration is wrong: what, where (file and key path) and what would be right."""
