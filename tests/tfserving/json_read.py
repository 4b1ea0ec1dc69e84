"""JSON as rapidjson 1.1.0 reads it with TF Serving's flags: lax where it is lax, wrong where it is wrong. No writing.

Written from facts 1.6, independent of the proxy's own reader. Two ways: the standard library's scanner with hooks, for
bodies on which both engines agree; and a state machine, one byte at a time, for the rest and for all errors.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, NoReturn

Value = Any
"""None, bool, int, float, str (bytes that are not UTF-8 as surrogates), list or Pairs."""


class Pairs(NamedTuple):
    """An object: all members in their order, duplicates too."""

    pairs: list[tuple[str, Value]]

    def find(self, name: str) -> Value:
        """The first member of this name, or MISSING."""
        return next((value for key, value in self.pairs if key == name), MISSING)


MISSING: Any = object()


class ParseError(Exception):
    """The text that TF Serving answers."""


def parse(body: bytes) -> Value:
    """The value at the beginning of the body; what follows it is not looked at.

    Raises:
        ParseError: there is none.
    """
    if not body:
        raise ParseError("JSON Parse error: The document is empty")
    # Surrogate escapes: the standard library joins and keeps them by other rules.
    if body.lstrip(b" \t\r\n")[:1] in {b"{", b"["} and not re.search(rb"\\u[dD][89a-fA-F]", body):
        try:
            return _decoder.raw_decode(body.decode().lstrip(" \t\r\n"))[0]
        except (ValueError, RecursionError, ParseError):
            pass
    return _Reader(body).read()


# ---------------------------------------------------------------- numbers

_DIGITS = re.compile(rb"[0-9]*")
_BIGGEST = 1.7976931348623157e307
"""A tenth of the largest double: an integer beyond it cannot take another digit."""


def _power(exponent: int) -> float:
    return float(f"1e{exponent}")


def _scale(significand: float, exponent: int) -> float:
    if exponent < -308:
        return 0.0
    return significand * _power(exponent) if exponent >= 0 else significand / _power(-exponent)


def _fast_float(text: str) -> float:
    # Up to 15 digits and a small exponent both engines are exact; beyond, rapidjson multiplies and rounds.
    if len(text) <= 16 and "e" not in text and "E" not in text:
        return float(text)
    raw = text.encode()
    value, end = _Number(raw, 0).read()
    if end != len(raw):
        raise ParseError("left to the state machine")
    return float(value)


def _fast_int(text: str) -> int | float:
    if len(text) <= 18:
        return int(text)
    number: int | float = _Number(text.encode(), 0).read()[0]
    return number


_decoder = json.JSONDecoder(object_pairs_hook=Pairs, parse_float=_fast_float, parse_int=_fast_int)


class _Number:
    """One number: integers to 64 bits, else a double that is built digit by digit, as rapidjson builds it."""

    def __init__(self, body: bytes, start: int) -> None:
        self._body = body
        self._start = start
        self._at = start

    def read(self) -> tuple[int | float, int]:
        """The number and where it ends."""
        minus = self._take(b"-")
        value, whole = self._integer(minus)
        double = value if isinstance(value, float) and whole >= 0 else None
        shift = 0
        if self._take(b"."):
            double, shift = self._fraction(value, whole)
        if self._take(b"eE"):
            if double is None:
                double = float(value) if whole >= 0 else 0.0  # "Infinitye5" is 0: its value is not kept here
            shift += self._exponent(shift)
        elif double is None:
            return (-value if minus and whole >= 0 else value), self._at
        if shift < -308:  # in two steps: the second power alone may be zero
            double, shift = _scale(double, -308), shift + 308
        double = _scale(double, shift)
        return (-double if minus else double), self._at

    def _integer(self, minus: bool) -> tuple[int | float, int]:
        """The whole part, and how many digits of it count; -1 for a word."""
        digits = self._digits() if self._peek() != b"0" else self._zero()
        if not digits:
            return self._word(minus), -1
        limit = 1 << 63 if minus else (1 << 64) - 1
        number: int | float = digits[0] - 48
        counted = 0  # digits that fit an integer, without the first
        for digit in digits[1:]:
            if isinstance(number, int) and number * 10 + digit - 48 <= limit:
                number = number * 10 + digit - 48
                counted += 1
                continue
            number = float(number)
            if number >= _BIGGEST:
                self._fail("Number too big to be stored in double.", self._start)
            number = number * 10 + (digit - 48)
        return number, counted

    def _word(self, minus: bool) -> float:
        if self._takes(b"NaN"):
            return float("nan")
        # After a broken NaN the engine goes on where it stands: "NaInf" is infinity.
        if not self._takes(b"Inf") or (self._peek() == b"i" and not self._takes(b"inity")):
            self._fail("Invalid value.", self._at)
        return float("-inf" if minus else "inf")

    def _fraction(self, value: float, counted: int) -> tuple[float, int]:
        if not self._peek().isdigit():
            self._fail("Miss fraction part in number.", self._at)
        digits = self._digits()
        if counted < 0:
            value, counted = 0, 0
        used = 0
        if isinstance(value, int):
            while used < len(digits) and value <= (1 << 53) - 1:
                value = value * 10 + digits[used] - 48
                used += 1
                counted += value != 0
        double = float(value)
        for digit in digits[used:]:
            if counted < 17:
                double = double * 10.0 + (digit - 48)
                used += 1
                counted += double > 0.0
        return double, -used

    def _exponent(self, shift: int) -> int:
        minus = self._take(b"-") if not self._take(b"+") else False
        if not self._peek().isdigit():
            self._fail("Miss exponent in number.", self._at)
        digits = self._digits()
        exponent = digits[0] - 48
        for digit in digits[1:]:
            exponent = exponent * 10 + digit - 48
            if not minus and exponent > 308 - shift:
                self._fail("Number too big to be stored in double.", self._start)
            exponent = min(exponent, 214748364)
        return -exponent if minus else exponent

    def _peek(self) -> bytes:
        return self._body[self._at : self._at + 1]

    def _take(self, any_of: bytes) -> bool:
        if self._peek() and self._peek() in any_of:
            self._at += 1
            return True
        return False

    def _takes(self, word: bytes) -> bool:
        return all(self._take(bytes([byte])) for byte in word)

    def _digits(self) -> bytes:
        found = _DIGITS.match(self._body, self._at)
        assert found is not None, "An empty match is a match. This is a bug."
        self._at = found.end()
        return found.group()

    def _zero(self) -> bytes:
        self._at += 1
        return b"0"

    def _fail(self, text: str, offset: int) -> NoReturn:
        raise ParseError(f"JSON Parse error: {text} at offset: {offset}")


# ---------------------------------------------------------------- the state machine

_ESCAPES = {ord('"'): b'"', ord("/"): b"/", ord("\\"): b"\\", ord("b"): b"\b", ord("f"): b"\f"} | {
    ord("n"): b"\n",
    ord("r"): b"\r",
    ord("t"): b"\t",
}
_EMPTY = "The document is empty."
_VALUE = "Invalid value."
_NAME = "Missing a name for object member."
_COLON = "Missing a colon after a name of object member."
_AFTER_MEMBER = "Missing a comma or '}' after an object member."
_AFTER_ELEMENT = "Missing a comma or ']' after an array element."


class _Reader:
    """What is expected next is the text of the error if something else comes."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0
        for byte in b"\xef\xbb\xbf":  # each on its own: a lone one is skipped, too
            if self._peek() == byte:
                self._at += 1

    def read(self) -> Value:
        """The first value."""
        stack: list[Any] = []
        names: list[str] = []
        state = _EMPTY
        closing = False  # whether the container that is open may end here
        while True:
            self._skip_space()
            byte = self._peek()
            if byte == 0:
                self._fail(state, self._at)
            value: Value = MISSING
            if state == _NAME:
                if byte == ord('"'):
                    names.append(self._string())
                    state, closing = _COLON, False
                elif byte == ord("}") and closing:
                    self._at += 1
                    value = stack.pop()
                else:
                    self._fail(state, self._at)
            elif state == _COLON:
                self._need(byte == ord(":"), state)
                state = _VALUE
            elif state in {_AFTER_MEMBER, _AFTER_ELEMENT}:
                in_object = state == _AFTER_MEMBER
                self._need(byte in (b",}" if in_object else b",]"), state)
                if byte == ord(","):
                    state, closing = (_NAME if in_object else _VALUE), False
                else:
                    value = stack.pop()
            elif byte == ord("]") and closing:
                self._at += 1
                value = stack.pop()
            elif byte in b"{[":
                self._at += 1
                stack.append(Pairs([]) if byte == ord("{") else [])
                state, closing = (_NAME if byte == ord("{") else _VALUE), True
            elif byte in b"]},:":
                self._fail(state, self._at)
            else:
                value = self._scalar(byte)
            if value is not MISSING:
                if not stack:
                    return value
                closing = False
                if isinstance(stack[-1], Pairs):
                    stack[-1].pairs.append((names.pop(), value))
                    state = _AFTER_MEMBER
                else:
                    stack[-1].append(value)
                    state = _AFTER_ELEMENT

    def _scalar(self, byte: int) -> Value:
        if byte == ord('"'):
            return self._string()
        for word, value in ((b"null", None), (b"true", True), (b"false", False)):
            if byte == word[0]:
                for letter in word:
                    self._need(self._peek() == letter, _VALUE)
                return value
        number, self._at = _Number(self._body, self._at).read()
        return number

    def _string(self) -> str:
        out = bytearray()
        self._at += 1
        while True:
            byte = self._peek()
            if byte == ord('"'):
                self._at += 1
                return out.decode(errors="surrogateescape")
            if byte == 0:
                self._fail("Missing a closing quotation mark in string.", self._at)
            if byte < 0x20:
                self._fail("Invalid escape character in string.", self._at)
            self._at += 1
            if byte == ord("\\"):
                out += self._escape(self._at - 1)
            else:
                out.append(byte)

    def _escape(self, start: int) -> bytes:
        byte = self._peek()
        self._at += 1
        if byte in _ESCAPES:
            return _ESCAPES[byte]
        if byte != ord("u"):
            self._fail("Invalid escape character in string.", start)
        code = self._hex(start)
        if 0xD800 <= code <= 0xDBFF:
            paired = self._body[self._at : self._at + 2] == b"\\u"
            self._at += 2
            low = self._hex(start) if paired else 0
            if not 0xDC00 <= low <= 0xDFFF:
                self._fail("The surrogate pair in string is invalid.", start)
            code = 0x10000 + (code - 0xD800 << 10) + low - 0xDC00
        return chr(code).encode(errors="surrogatepass")

    def _hex(self, start: int) -> int:
        digits = self._body[self._at : self._at + 4]
        if not re.fullmatch(rb"[0-9a-fA-F]{4}", digits):
            self._fail("Incorrect hex digit after \\u escape in string.", start)
        self._at += 4
        return int(digits, 16)

    def _peek(self) -> int:
        """The next byte; a NUL is the end, as the end is a NUL."""
        return self._body[self._at] if self._at < len(self._body) else 0

    def _skip_space(self) -> None:
        while self._peek() and self._peek() in b" \t\r\n":
            self._at += 1

    def _need(self, right: bool, text: str) -> None:
        if not right:
            self._fail(text, self._at)
        self._at += 1

    def _fail(self, text: str, offset: int) -> NoReturn:
        raise ParseError(f"JSON Parse error: {text} at offset: {offset}")
