"""How a call can fail, and the HTTP status of each code. No texts: they stand where the fault is seen."""

from __future__ import annotations


class Fault(Exception):
    """A status other than OK.

    Attributes:
        code: gRPC's word for it.
        message: as TF Serving words it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def invalid(message: str) -> Fault:
    """The most common one."""
    return Fault("INVALID_ARGUMENT", message)


HTTP_STATUS = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
"""Facts 1.11: FAILED_PRECONDITION is 400, not 412."""
