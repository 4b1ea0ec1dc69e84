"""JSON as TF Serving writes it: rapidjson's pretty writer, its doubles in echoes, TF Serving's decimals. No reading.

Text that is not UTF-8 is held as surrogates and leaves as the bytes it was.
"""

from __future__ import annotations

import contextlib
import math
import struct
from typing import Any

import numpy as np

from tests.tfserving.json_read import Pairs, Value

ECHO = 256
"""An echoed value is cut at the first token that would start at this many bytes or later (facts 1.8; ``InLimit`` of
TF Serving's ``util/json_tensor.cc``)."""

_ESCAPED = {code: f"\\u{code:04X}" for code in range(0x20)} | {
    ord('"'): '\\"',
    ord("\\"): "\\\\",
    0x08: "\\b",
    0x0C: "\\f",
    0x0A: "\\n",
    0x0D: "\\r",
    0x09: "\\t",
}


def quoted(text: str) -> str:
    """A string token. Only quotes, backslashes and control characters are escaped."""
    return f'"{text.translate(_ESCAPED)}"'


class Writer:
    """Tokens in, text out: four spaces, and arrays on one line while ``one_line`` is set.

    Attributes:
        one_line: may be changed between tokens, as TF Serving does; hence its odd closing brackets.
    """

    def __init__(self) -> None:
        self.one_line = False
        self._out: list[str] = []
        self._open: list[list[Any]] = []  # [in an array, tokens so far]

    def text(self) -> str:
        """All of it."""
        return "".join(self._out)

    def size(self) -> int:
        """Its bytes."""
        return sum(len(piece.encode(errors="surrogateescape")) for piece in self._out)

    def token(self, text: str) -> None:
        """A value or a key."""
        self._before()
        self._out.append(text)

    def begin(self, bracket: str) -> None:
        """Opens an object or an array."""
        self._before()
        self._out.append(bracket)
        self._open.append([bracket == "[", 0])

    def end(self) -> None:
        """Closes the innermost."""
        in_array, count = self._open.pop()
        if count and not (in_array and self.one_line):
            self._new_line()
        self._out.append("]" if in_array else "}")

    def _before(self) -> None:
        if not self._open:
            return
        in_array, count = self._open[-1]
        self._open[-1][1] += 1
        if in_array:
            if count:
                self._out.append(", " if self.one_line else ",")
            if not self.one_line:
                self._new_line()
        elif count % 2:
            self._out.append(": ")
        else:
            if count:
                self._out.append(",")
            self._new_line()

    def _new_line(self) -> None:
        self._out.append("\n" + "    " * len(self._open))


def error_body(message: str) -> bytes:
    """The body of any failure."""
    writer = Writer()
    writer.begin("{")
    writer.token('"error"')
    writer.token(quoted(message))
    writer.end()
    return writer.text().encode(errors="surrogateescape")


# ---------------------------------------------------------------- echoes


class _Enough(Exception):
    pass


def echo(value: Value) -> str:
    """The value as it stands in error messages, cut when it is long. At a NaN or an infinity, it simply ends."""
    writer = Writer()
    writer.one_line = True
    with contextlib.suppress(_Enough):
        _write(writer, value)
    return writer.text()


def _write(writer: Writer, value: Value) -> None:
    if writer.size() >= ECHO:
        raise _Enough
    match value:
        case None:
            writer.token("null")
        case bool():
            writer.token("true" if value else "false")
        case int():
            writer.token(str(value))
        case float() if not math.isfinite(value):
            writer._before()  # the separator is there already when the number is refused
            raise _Enough
        case float():
            writer.token(shortest(value))
        case str():
            writer.token(quoted(value))
        case Pairs(pairs):
            writer.begin("{")
            for name, member in pairs:
                _write(writer, name)
                _write(writer, member)
            if writer.size() >= ECHO:
                raise _Enough
            writer.end()
        case _:
            writer.begin("[")
            for element in value:
                _write(writer, element)
            if writer.size() >= ECHO:
                raise _Enough
            writer.end()


def shortest(value: float) -> str:
    """rapidjson's text of a double: Grisu2's digits, which are nearly always the fewest, and its layout."""
    if value == 0:
        return "-0.0" if math.copysign(1, value) < 0 else "0.0"
    digits, exponent = _grisu2(abs(value))
    sign = "-" if value < 0 else ""
    point = len(digits) + exponent  # places before the decimal point
    if exponent >= 0 and point <= 21:
        return f"{sign}{digits}{'0' * exponent}.0"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1}"


def _normal(significand: int, exponent: int) -> tuple[int, int]:
    shift = 64 - significand.bit_length()
    return significand << shift, exponent - shift


def _times(significand: int, power: int) -> int:
    return (significand * power + (1 << 63)) >> 64


def _power_of_ten(exponent: int) -> tuple[int, int]:
    """A power of ten in 64 bits, rounded to the nearest."""
    if exponent >= 0:
        exact = 10**exponent
        shift = exact.bit_length() - 64
        rounded = exact << -shift if shift <= 0 else (exact + (1 << shift - 1)) >> shift
    else:
        divisor = 10**-exponent
        shift = -(divisor.bit_length() + 63)
        rounded = ((1 << -shift) * 2 // divisor + 1) // 2
        if rounded.bit_length() < 64:
            shift -= 1
            rounded = ((1 << -shift) * 2 // divisor + 1) // 2
    return rounded, shift


def _grisu2(value: float) -> tuple[str, int]:
    """Digits and the power of ten of the last one (F. Loitsch, 2010: the second of his algorithms)."""
    (bits,) = struct.unpack("<Q", struct.pack("<d", value))
    fraction, biased = bits & ((1 << 52) - 1), bits >> 52
    significand, exponent = (fraction + (1 << 52), biased - 1075) if biased else (fraction, -1074)
    upper, top = _normal(2 * significand + 1, exponent - 1)
    lowest = (4 * significand - 1, exponent - 2) if significand == 1 << 52 else (2 * significand - 1, exponent - 1)
    lower = lowest[0] << lowest[1] - top
    centre = _normal(significand, exponent)[0]

    wanted = (-61 - top) * 0.30102999566398114 + 347
    index = (math.ceil(wanted) >> 3) + 1
    decimal = -348 + 8 * index
    power, power_exponent = _power_of_ten(decimal)
    upper, lower, centre = _times(upper, power) - 1, _times(lower, power) + 1, _times(centre, power)
    point = -(top + power_exponent + 64)

    delta, gap = upper - lower, upper - centre
    whole, rest = upper >> point, upper & ((1 << point) - 1)
    digits, last = [], -decimal
    for place in range(len(str(whole)) - 1, -1, -1):
        digit, whole = divmod(whole, 10**place)
        digits.append(digit)
        left = (whole << point) + rest
        if left <= delta:
            _round(digits, delta, left, 10**place << point, gap)
            return "".join(map(str, digits)), last + place
    place, unit = 0, 1
    while True:
        rest, delta, unit, place = rest * 10, delta * 10, unit * 10, place - 1
        digits.append(rest >> point)
        rest &= (1 << point) - 1
        if rest < delta:
            _round(digits, delta, rest, 1 << point, gap * unit if place > -9 else 0)
            return "".join(map(str, digits)).lstrip("0"), last + place


def _round(digits: list[int], delta: int, rest: int, unit: int, gap: int) -> None:
    while rest < gap and delta - rest >= unit and (rest + unit < gap or gap - rest > rest + unit - gap):
        digits[-1] -= 1
        rest += unit


# ---------------------------------------------------------------- answers


def decimal(value: Any, kind: str) -> str:
    """TF Serving's text of a float or a double (facts 1.9).

    Args:
        value: the number, as numpy holds it.
        kind: "float" or "double".
    """
    number = float(value)
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    text = f"{number:g}"
    back = np.float32(text) if kind == "float" else float(text)
    if back != value:
        text = f"{number:.9g}" if kind == "float" else f"{number:.17g}"
    return text if "." in text or "e" in text else text + ".0"
