"""Numbers out of a document that anybody may have edited."""

from __future__ import annotations

import math

import pytest

from batchproxy.core.saved import number, whole

WRONG: list[object] = [None, True, "1", [], {}, math.nan, -1, 11, math.inf]


def test_numbers_in_range_are_read() -> None:
    """Bounds included; a whole number is a number, too."""
    found = [number({"a": value}, "a", 0, 10) for value in (0, 2.5, 10)]

    assert [0.0, 2.5, 10.0] == found


def test_whole_numbers_are_exact() -> None:
    """Versions of models may have more digits than a float holds."""
    assert 2**53 + 1 == whole({"a": 2**53 + 1}, "a", 0, 2**63)


@pytest.mark.parametrize("value", WRONG)
def test_anything_else_is_no_number(value: object) -> None:
    """The text has the key and the value."""
    with pytest.raises(ValueError, match="a is no number from 0 to 10: "):
        number({"a": value}, "a", 0, 10)


@pytest.mark.parametrize("value", [*WRONG, 2.0, 2.5])
def test_anything_else_is_no_whole_number(value: object) -> None:
    """Likewise; what has a point in it is none."""
    with pytest.raises(ValueError, match="a is no whole number from 0 to 10: "):
        whole({"a": value}, "a", 0, 10)


@pytest.mark.parametrize("document", [None, [], "a", 1, {}])
def test_a_document_without_the_key_has_no_number(document: object) -> None:
    """Whatever stands in the place of the document."""
    with pytest.raises(ValueError, match="a is no number from 0 to 10: None"):
        number(document, "a", 0, 10)
