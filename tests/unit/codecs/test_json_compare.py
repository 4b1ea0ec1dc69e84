"""Tests of batchproxy.codecs.json_compare, and of the answers that are compared by it."""

from __future__ import annotations

from math import inf

import pytest

from batchproxy.codecs.json_compare import deviation
from batchproxy.codecs.tfs_splice import PREDICTIONS, read_answer
from batchproxy.core.compare import Comparable
from batchproxy.core.errors import BackendProtocolError


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (b"1,2", b"1,2", 0.0),
        (b"1,2", b"1 ,\n2", 0.0),
        (b"1.0", b"1", 0.0),
        (b"9e+06", b"9000001.0", 0.0),
        (b"[NaN, -Infinity]", b"[NaN,-Infinity]", 0.0),
        (b"NaN", b"Infinity", inf),
        (b'{"a": 1.5, "b": "x"}', b'{"b": "x", "a": 1.5}', 0.0),
        (b'"x"', b'"y"', inf),
        (b"9" * 5000, b"9" * 5000 + b" ", 0.0),
        (b"9" * 5000, b"8" * 5000, inf),
    ],
)
def test_values(one: bytes, other: bytes, expected: float) -> None:
    """Layout does not matter, nor the last digits of numbers with a fraction."""
    assert expected == deviation(one, other)


@pytest.mark.parametrize("text", [b"[", b"[" * 100_000 + b"]" * 100_000])
def test_what_cannot_be_read(text: bytes) -> None:
    """It is refused in our own terms."""
    with pytest.raises(BackendProtocolError, match="cannot be compared"):
        deviation(text, b"1")


def test_rows_of_an_answer_are_compared_with_an_answer_of_their_own() -> None:
    """What a member got in company, against what it gets alone, whatever stands around them."""
    merged = read_answer(b'{\n    "predictions": [[1.0, 2.0], [3.0, 4.0]\n    ]\n}', True)[PREDICTIONS]
    alone = read_answer(b'{"predictions": [[3.000001, 4.0]]}', True)[PREDICTIONS]

    assert isinstance(merged, Comparable)
    assert 0.0 == merged.take(1, 2).deviation(alone)
    assert 0.5 == pytest.approx(merged.take(0, 1).deviation(alone))


def test_an_answer_without_rows_is_unlike_one_with_rows() -> None:
    """A model may answer a lone row with a scalar."""
    merged = read_answer(b'{"predictions": [1.5, 2.5]}', True)[PREDICTIONS]
    alone = read_answer(b'{"predictions": {"a": 1.5}}', True)[PREDICTIONS]

    assert inf == merged.take(0, 1).deviation(alone)
