"""Tests of batchproxy.frontends.terms."""

from __future__ import annotations

import pytest

from batchproxy.core.errors import Code, DecodeError
from batchproxy.frontends.terms import Terms
from batchproxy.wire.http1_head import Headers


def _terms(timeout_s: float = 30.0) -> Terms:
    return Terms(timeout_s=timeout_s, deadline_header="x-ms", priority_header="x-priority")


def test_sooner_limit_counts() -> None:
    """The configured one, or the caller's; counted from when the call came."""
    assert (40.0, None) == _terms().of({}, 10.0)
    assert (10.5, None) == _terms().of({"x-ms": "500"}, 10.0)
    assert (40.0, None) == _terms().of({"x-ms": "500000"}, 10.0)
    assert (None, None) == _terms(0.0).of({}, 10.0)
    assert (10.5, None) == _terms(0.0).of({"x-ms": "500"}, 10.0)


def test_limit_of_equal_heads_is_read_once() -> None:
    """They are one object, which keeps it."""
    headers = Headers({b"x-ms": b"500"})

    assert (10.5, None) == _terms().of(headers, 10.0)
    assert (0.5, None) == headers.terms
    assert (20.5, None) == _terms().of(headers, 20.0)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "x", "٣", "1" * 16])
def test_limit_that_is_none_is_refused(text: str) -> None:
    """Milliseconds are whole numbers, and no more of them than could be meant."""
    with pytest.raises(DecodeError, match="header x-ms: .* is not a whole number of milliseconds"):
        _terms().of({"x-ms": text}, 0.0)


@pytest.mark.parametrize(
    ("text", "expected"), [("high", 0), ("normal", 1), ("low", 2), ("0", 0), ("1", 1), (" 2", 2), ("High", 0)]
)
def test_priority_is_a_name_or_a_number(text: str, expected: int) -> None:
    """In the headers of either protocol."""
    assert (30.0, expected) == _terms().of({"x-priority": text}, 0.0)
    assert expected == _terms().priority((("other", "low"), ("x-priority", text)))


@pytest.mark.parametrize("text", ["", "3", "-1", "urgent"])
def test_any_other_priority_is_refused(text: str) -> None:
    """By the header's name, so that the caller knows what to change."""
    with pytest.raises(DecodeError, match="header x-priority: .* is not high, normal or low") as told:
        _terms().of({"x-priority": text}, 0.0)
    assert Code.INVALID_ARGUMENT is told.value.code

    with pytest.raises(DecodeError, match="header x-priority"):
        _terms().priority((("x-priority", text),))


def test_headers_that_are_not_configured_say_nothing() -> None:
    """A caller's word counts where the operator said so."""
    terms = Terms()

    assert (None, None) == terms.of({"x-ms": "5", "x-priority": "high"}, 0.0)
    assert terms.priority((("x-priority", "high"),)) is None
    assert _terms().priority(()) is None
