"""Tests of batchproxy.core.errors."""

from __future__ import annotations

import pytest

from batchproxy.core import errors
from batchproxy.core.errors import HTTP_STATUS, BackendProtocolError, BatchProxyError, Code, QueueFull, TooLarge


def test_every_code_has_an_http_status() -> None:
    """The table to HTTP is whole."""
    assert set(Code) == set(HTTP_STATUS)


@pytest.mark.parametrize(
    ("name", "code", "status"),
    [
        ("BatchProxyError", 13, 500),
        ("RequestError", 3, 400),
        ("DecodeError", 3, 400),
        ("ShapeMismatch", 3, 400),
        ("UnknownModel", 5, 404),
        ("TooLarge", 3, 413),
        ("Unavailable", 14, 503),
        ("QueueFull", 14, 503),
        ("TooLate", 14, 503),
        ("Draining", 14, 503),
        ("NoEndpoint", 14, 503),
        ("DeadlineExceeded", 4, 504),
        ("BackendUnavailable", 14, 503),
        ("BackendLost", 14, 503),
        ("BackendRejected", 3, 400),
        ("BackendProtocolError", 13, 502),
        ("Unsplittable", 13, 502),
    ],
)
def test_status_of_each_class(name: str, code: int, status: int) -> None:
    """Each class has the status that the architecture's table gives it."""
    error = getattr(errors, name)("what happened")

    assert (code, status) == (error.code, error.http_status)
    assert "what happened" == str(error)


def test_every_class_is_in_the_drawing() -> None:
    """The tree in the module's docstring names every class."""
    classes = [
        name for name, thing in vars(errors).items() if isinstance(thing, type) and issubclass(thing, BatchProxyError)
    ]

    assert [] == [name for name in classes if name not in str(errors.__doc__)]


def test_code_can_be_overridden() -> None:
    """One kind of fault may have several codes; others of its class keep theirs."""
    error = BatchProxyError("gone", code=Code.NOT_FOUND)

    assert 404 == error.http_status
    assert Code.INTERNAL is BatchProxyError.code
    assert "BatchProxyError(NOT_FOUND, 'gone')" == repr(error)


def test_own_limits_and_protocol_faults_keep_their_http_status() -> None:
    """413 and 502 have no code of their own."""
    assert (413, 502) == (TooLarge("x").http_status, BackendProtocolError("x").http_status)


def test_temporary_refusals_say_when_to_come_back() -> None:
    """What goes into Retry-After, in seconds."""
    assert 1 == QueueFull("full").retry_after_s
