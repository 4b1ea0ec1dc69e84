"""Echoes in error texts; ``test_tfs_parse.py`` holds the same functions against the real engine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.codecs.tfs_echo import ECHO_BYTES, echo, quoted, type_name
from batchproxy.codecs.tfs_parse import Members, parse

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(st.text())
def test_a_quoted_string_is_json(text: str) -> None:
    """Any reader gets the same text back."""
    quotes = quoted(text.encode("utf-8", "replace"))

    assert text.encode("utf-8", "replace").decode() == json.loads(quotes)


@given(JSON)
def test_a_short_echo_is_the_value(value: Any) -> None:
    """It reads back as itself, unless it was cut."""
    text = echo(parse(json.dumps(value).encode()))

    assert len(text.encode()) > ECHO_BYTES or value == json.loads(text)


def test_an_echo_ends_at_the_first_token_after_256_bytes() -> None:
    """A token that began before is written whole."""
    text = echo([b"y" * 300, 1, [2], Members()])

    assert '["' + "y" * 300 + '"' == text


def test_an_echo_ends_where_a_number_has_no_text() -> None:
    """As the engine's writer does: what leads to it is there, and no bracket is closed."""
    text = echo([1, float("nan"), 2])

    assert "[1, " == text


@pytest.mark.parametrize("body", [b'{"a": "' + b"x" * 300 + b'", "b": 1}', b'{"' + b"x" * 300 + b'": [1]}'])
def test_an_object_can_be_cut_anywhere(body: bytes) -> None:
    """After a value, or after a name."""
    text = echo(parse(body))

    assert text.endswith('"')


def test_doubles_are_echoed_with_a_point() -> None:
    """Infinite ones not at all."""
    text = echo([0.5, 100.0, -float("inf")])

    assert text == "[0.5, 100.0, "


def test_bytes_that_are_no_utf8_survive() -> None:
    """They go out as they came in."""
    text = echo(b"\xff")

    assert b'"\xff"' == text.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "Null"),
        (True, "True"),
        (False, "False"),
        (1, "Number"),
        (1.5, "Number"),
        (b"", "String"),
        ([], "Array"),
        (Members(), "Object"),
    ],
)
def test_type_names(value: Any, name: str) -> None:
    """A word for each kind of value."""
    ours = type_name(value)

    assert name == ours
