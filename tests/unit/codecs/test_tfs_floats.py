"""Doubles in and out of text; ``test_tfs_parse.py`` holds the same functions against the real engine."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchproxy.codecs.tfs_floats import echo_double, read_double


@given(st.integers(0, 10**14), st.integers(0, 9))
def test_up_to_fifteen_digits_are_correctly_rounded(whole: int, tenth: int) -> None:
    """There, the engine's way is the only way."""
    ours = read_double(False, b"%d" % whole, b"%d" % tenth, b"")

    assert float(f"{whole}.{tenth}") == ours


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(2.0**64)
@example(5e-324)
@example(2.0**-1022)
@example(1.7976931348623157e308)
def test_an_echo_reads_back_as_the_same_double(value: float) -> None:
    """Not always the closest digits, but always the same number; the sign of zero included."""
    text = echo_double(value)

    assert math.copysign(1.0, value) == math.copysign(1.0, float(text))
    assert value == float(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, b"0.0"),
        (-0.0, b"-0.0"),
        (100.0, b"100.0"),
        (-1.5, b"-1.5"),
        (1e21, b"1e21"),
        (1e20, b"100000000000000000000.0"),
        (1.5e300, b"1.5e300"),
        (0.001, b"0.001"),
        (1e-7, b"1e-7"),
    ],
)
def test_echo_layouts(value: float, text: bytes) -> None:
    """Plain up to 21 digits and down to six zeros, else with an exponent."""
    ours = echo_double(value)

    assert text == ours


@pytest.mark.parametrize(
    ("whole", "fraction", "exponent", "value"),
    [
        (b"1", b"", b"309", None),
        (b"1" + b"0" * 309, b"", b"", None),
        (b"18", b"", b"307", math.inf),
        (b"10", b"", b"308", math.inf),
        (b"1", b"", b"-99999999999999", 0.0),
        (b"5", b"", b"-324", 5e-324),
        (b"123456789", b"123456789", b"", 123456789.12345681),
        (b"0", b"12345678901234567890123", b"", 0.12345678901234568),
        (b"18446744073709551616", b"5", b"", 2.0**64),
        (b"9007199254740993", b"12345", b"", 9007199254740992.0),
        (b"0", b"0" * 50 + b"1", b"", 1e-51),
    ],
)
def test_the_ends_of_the_range(whole: bytes, fraction: bytes, exponent: bytes, value: float | None) -> None:
    """Too big for the exponent is an error; too big by the product is infinite; too small is zero."""
    ours = read_double(False, whole, fraction, exponent)

    assert value == ours


def test_a_negative_number_keeps_one_digit_less() -> None:
    """Its integer ends at 2^63."""
    ours = read_double(True, b"9999999999999999999", b"", b"")

    assert ours == -1e19
