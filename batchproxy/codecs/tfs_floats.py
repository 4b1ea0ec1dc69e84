"""Doubles from text and to text the way TF Serving's JSON engine (rapidjson 1.1.0) does it. No JSON structure here.

In: the engine gathers digits in an integer up to 2^53 and then scales once, by a product or a quotient with a power
of ten. Up to 15 digits that is correctly rounded; beyond, it may be off by an ulp or two, and a caller can see that
in the answer. So the same steps are taken here.

Out (error texts only): digits by Grisu2 (Loitsch, "Printing Floating-Point Numbers Quickly and Accurately with
Integers", 2010): they always read back as the same double, but are not always the closest ones.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from functools import cache

INT64_MIN = -(2**63)
UINT64_MAX = 2**64 - 1

_GATHER_LIMIT = 2**53 - 1  # above it, no more fraction digits go into the integer
_ALL_GATHERED = 10 * 2**53  # below it, all of them did
_SHORT = 40  # digits, zeros in front included, that are quickly made a number
_DOUBLE_DIGITS = 17  # fraction digits after so many significant ones are dropped
_NO_MORE_DIGITS = 1.7976931348623157e307  # a tenth of the largest double: another integer digit would not fit
_MAX_EXPONENT = 308
_HUGE_EXPONENT_DIGITS = 12  # an exponent of so many digits is out of range, whatever follows


def read_double(minus: bool, whole: bytes, fraction: bytes, exponent: bytes) -> float | None:
    """The double that the engine makes of a decimal; None where it says that it is too big for one.

    Args:
        minus: whether a sign stood before it.
        whole: the digits before the point.
        fraction: the digits after the point, which may be none.
        exponent: what followed the ``e``, with its sign; empty for none.

    >>> read_double(False, b"123456789", b"123456789", b"") == 123456789.12345681 != 123456789.123456789
    True
    """
    digits = whole + fraction
    if len(digits) <= _SHORT and (number := int(digits)) < _ALL_GATHERED:
        value, scale = float(number), -len(fraction)
    else:
        read = _long(minus, whole, fraction)
        if read is None:
            return None
        value, scale = read
    power = _exponent(exponent) if exponent else 0
    if power > _MAX_EXPONENT - scale:
        return None
    value = _scaled(value, power + scale)
    return -value if minus else value


def _long(minus: bool, whole: bytes, fraction: bytes) -> tuple[float, int] | None:
    """The value of all digits that count, as if they were whole, and the power of ten that it lacks."""
    gathered, rest = _gather(minus, whole)
    significant = len(whole) - len(rest) - 1  # the engine does not count the first digit
    scale = 0
    value = float(gathered)
    for digit in rest:
        if value >= _NO_MORE_DIGITS:
            return None
        value = value * 10 + (digit - 48)
        significant = _DOUBLE_DIGITS  # 19 at least: no fraction digit is looked at
    if not rest:
        for digit in fraction:
            if gathered > _GATHER_LIMIT:
                break
            gathered = gathered * 10 + (digit - 48)
            scale -= 1
            significant += gathered != 0
        value = float(gathered)
    for digit in fraction[-scale:]:
        if significant >= _DOUBLE_DIGITS:
            break
        value = value * 10.0 + (digit - 48)
        scale -= 1
        significant += 1
    return value, scale


def _gather(minus: bool, whole: bytes) -> tuple[int, bytes]:
    """As many leading digits as fit a 64-bit integer, as a number, and the digits that do not."""
    limit = -INT64_MIN if minus else UINT64_MAX
    for kept in (20, 19):  # 2^64 has 20 digits; a number of 19 always fits the unsigned one
        number = int(whole[:kept])
        if number <= limit:
            return number, whole[kept:]
    return int(whole[:18]), whole[18:]


def _exponent(text: bytes) -> int:
    digits = text.lstrip(b"+-").lstrip(b"0")[:_HUGE_EXPONENT_DIGITS]
    size = int(digits or b"0")
    return -size if text.startswith(b"-") else size


def _scaled(value: float, power: int) -> float:
    """``value * 10**power`` in the engine's one or two steps; infinite and zero are legal results."""
    if power >= 0:
        return value * _power_of_ten(power)
    if power >= -_MAX_EXPONENT:
        return value / _power_of_ten(-power)
    power += _MAX_EXPONENT
    value /= _power_of_ten(_MAX_EXPONENT)
    return value / _power_of_ten(-power) if power >= -_MAX_EXPONENT else 0.0


@cache  # 309 entries at most
def _power_of_ten(power: int) -> float:
    return float(f"1e{power}")


def echo_double(value: float) -> bytes:
    """A finite double as the engine prints it in error texts.

    >>> echo_double(100.0), echo_double(2.0**64), echo_double(1e-7)
    (b'100.0', b'18446744073709553000.0', b'1e-7')
    """
    sign = b"-" if math.copysign(1.0, value) < 0 else b""
    if value == 0.0:
        return sign + b"0.0"
    digits, exponent = _grisu2(abs(value))
    point = len(digits) + exponent  # 10^(point-1) <= value < 10^point
    if exponent >= 0 and point <= 21:
        text = digits + "0" * exponent + ".0"
    elif 0 < point <= 21:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        tail = f".{digits[1:]}" if len(digits) > 1 else ""
        text = f"{digits[0]}{tail}e{point - 1}"
    return sign + text.encode()


def _grisu2(value: float) -> tuple[str, int]:
    """Decimal digits and the exponent of the last one, for a positive finite double.

    All numbers are 64-bit significands with an implied power of two, held in Python integers.
    """
    (bits,) = struct.unpack("<Q", struct.pack("<d", value))
    biased, significand = bits >> 52, bits & (2**52 - 1)
    if biased:
        significand += 2**52
    exponent = max(biased, 1) - 1075
    upper, upper_exponent = _normalized(2 * significand + 1, exponent - 1)
    if significand == 2**52:  # the gap below a power of two is half as wide
        lower, lower_exponent = 4 * significand - 1, exponent - 2
    else:
        lower, lower_exponent = 2 * significand - 1, exponent - 1
    lower <<= lower_exponent - upper_exponent

    # A power of ten that brings the binary exponent into [-60, -32], out of a table in steps of 8.
    index = (math.ceil((-61 - upper_exponent) * 0.30102999566398114 + 347) >> 3) + 1
    decimal = -348 + 8 * index
    power, power_exponent = _cached_power(decimal)
    middle = _product(_normalized(significand, exponent)[0], power)
    high = _product(upper, power) - 1
    low = _product(lower, power) + 1
    digits, position = _digits(middle, high, high - low, -(upper_exponent + power_exponent + 64))
    return digits, position - decimal


def _digits(middle: int, high: int, delta: int, shift: int) -> tuple[str, int]:
    """The fewest digits of ``high / 2**shift`` that stay within ``delta`` below it, moved towards ``middle``."""
    one = 1 << shift
    whole, part = high >> shift, high & (one - 1)
    distance = high - middle
    digits = list(str(whole))  # never zero: the scaled value is at least 2^3
    for kappa in range(len(digits) - 1, -1, -1):
        unit = 10**kappa
        rest = ((whole % unit) << shift) + part
        if rest <= delta:
            return _rounded(digits[: len(digits) - kappa], delta, rest, unit << shift, distance), kappa
    kappa = 0
    while True:
        part, delta = part * 10, delta * 10
        digits.append(str(part >> shift))
        part &= one - 1
        kappa -= 1
        if part < delta:
            # The engine's table of powers ends at 10^8 here: below that it does not round.
            return _rounded(digits, delta, part, one, distance * 10**-kappa if kappa > -9 else 0), kappa


def _rounded(digits: list[str], delta: int, rest: int, unit: int, distance: int) -> str:
    """Lower the last digit while that comes closer to the value and stays inside the interval."""
    last = int(digits[-1])
    while (
        rest < distance
        and delta - rest >= unit
        and (rest + unit < distance or distance - rest > rest + unit - distance)
    ):
        last -= 1
        rest += unit
    return "".join(digits[:-1]) + str(last)


def _normalized(significand: int, exponent: int) -> tuple[int, int]:
    shift = 64 - significand.bit_length()
    return significand << shift, exponent - shift


def _product(left: int, right: int) -> int:
    return (left * right + 2**63) >> 64


@cache  # 87 entries at most
def _cached_power(decimal: int) -> tuple[int, int]:
    """``10**decimal`` as a rounded 64-bit significand and its binary exponent."""
    exact = Fraction(10) ** decimal
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length() - 64
    scaled = exact / Fraction(2) ** exponent
    if scaled >= 2**64:  # the estimate is never too high, and too low by one at most
        exponent += 1
        scaled /= 2
    return round(scaled), exponent
