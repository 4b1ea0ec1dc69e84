"""The exact JSON reader: accepts, refuses and words its refusals as TF Serving's engine (rapidjson 1.1.0) does.

Slow and sure; the fast way is ``tfs_fast``. No knowledge of requests here.

What is unusual about it, all of it the engine's: bytes after the first value are not looked at; a byte order mark is
skipped; ``NaN``, ``Inf`` and ``Infinity`` are numbers; members keep their order and may repeat; strings are bytes that
need not be UTF-8; a NUL byte outside of a string ends the text. It keeps its own stack, so that nesting has no limit.

A value is ``None``, ``bool``, ``int`` (fits 64 bits, signed or not), ``float``, ``bytes``, ``list`` or ``Members``.
Memory: at most some 45 bytes for each byte of text (``[[],[],...``), so a bound on the body bounds it.
"""

from __future__ import annotations

import math
import re
from typing import Any

from batchproxy.codecs.tfs_floats import INT64_MIN, UINT64_MAX, read_double
from batchproxy.core.errors import DecodeError

Value = Any
"""A JSON value, as listed above."""

MISSING = object()
"""What a search for a member gives where there is none; None is a value."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SPACE = re.compile(rb"[ \n\r\t]*")
_INTEGER = re.compile(rb"(-?)(0|[1-9][0-9]*)")
_SCALE = re.compile(rb"(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_PLAIN_STRING = re.compile(rb'"([^"\\\x00-\x1f]*)"')
_RUN = re.compile(rb'[^"\\\x00-\x1f]*')
_HEX4 = re.compile(rb"[0-9A-Fa-f]{4}")
_ESCAPES = {34: b'"', 47: b"/", 92: b"\\", 98: b"\b", 102: b"\f", 110: b"\n", 114: b"\r", 116: b"\t"}
_WORDS: dict[int, tuple[bytes, Value]] = {110: (b"null", None), 116: (b"true", True), 102: (b"false", False)}

_EMPTY = "The document is empty."
_INVALID = "Invalid value."
_NO_NAME = "Missing a name for object member."
_NO_COLON = "Missing a colon after a name of object member."
_NO_OBJECT_COMMA = "Missing a comma or '}' after an object member."
_NO_ARRAY_COMMA = "Missing a comma or ']' after an array element."
_BAD_HEX = "Incorrect hex digit after \\u escape in string."
_BAD_SURROGATE = "The surrogate pair in string is invalid."
_BAD_ESCAPE = "Invalid escape character in string."
_NO_QUOTE = "Missing a closing quotation mark in string."
_TOO_BIG = "Number too big to be stored in double."
_NO_FRACTION = "Miss fraction part in number."
_NO_EXPONENT = "Miss exponent in number."


class Members:
    """A JSON object: (name, value) pairs in the order sent; names may repeat."""

    __slots__ = ("pairs",)

    def __init__(self) -> None:
        self.pairs: list[tuple[bytes, Value]] = []

    def find(self, name: bytes) -> Value:
        """The first value of this name, or ``MISSING``."""
        return next((value for key, value in self.pairs if key == name), MISSING)


def parse(body: bytes) -> Value:
    """Read the first JSON value of ``body``.

    Raises:
        DecodeError: with the engine's text and its byte offset.

    >>> parse(b'[1, 2.0, NaN] and so on')
    [1, 2.0, nan]
    """
    if not body:
        raise DecodeError("JSON Parse error: The document is empty")
    pos = 0
    for mark in _BYTE_ORDER_MARK:  # each byte of it is optional
        pos += body[pos : pos + 1] == bytes((mark,))
    pos = _space(body, pos)
    open_values: list[list[Value] | Members] = []
    names: list[bytes] = []  # of the open objects, the name that waits for its value
    value: Value
    while True:
        # A value starts at pos.
        byte = _byte(body, pos)
        if byte == 91:  # [
            pos = _space(body, pos + 1)
            value = []
            if _byte(body, pos) != 93:
                open_values.append(value)
                continue
            pos += 1
        elif byte == 123:  # {
            pos = _space(body, pos + 1)
            value = Members()
            if _byte(body, pos) != 125:
                open_values.append(value)
                name, pos = _name(body, pos)
                names.append(name)
                continue
            pos += 1
        elif byte == 34:
            value, pos = _string(body, pos)
        elif byte in _WORDS:
            value, pos = _word(body, pos, *_WORDS[byte])
        elif not open_values and byte in b"\0]},:":
            raise _error(_EMPTY, pos)
        else:
            value, pos = _number(body, pos)

        # A value ended before pos: hand it to what it stands in, and close what ends here.
        while True:
            if not open_values:
                return value
            parent = open_values[-1]
            pos = _space(body, pos)
            byte = _byte(body, pos)
            if isinstance(parent, list):
                parent.append(value)
                if byte == 44:
                    pos = _space(body, pos + 1)
                    break
                if byte != 93:
                    raise _error(_NO_ARRAY_COMMA, pos)
            else:
                parent.pairs.append((names.pop(), value))
                if byte == 44:
                    name, pos = _name(body, _space(body, pos + 1))
                    names.append(name)
                    break
                if byte != 125:
                    raise _error(_NO_OBJECT_COMMA, pos)
            pos += 1
            value = open_values.pop()


def _error(text: str, offset: int) -> DecodeError:
    return DecodeError(f"JSON Parse error: {text} at offset: {offset}")


def _byte(body: bytes, pos: int) -> int:
    """The byte at ``pos``; 0 at the end, as the engine's stream gives it."""
    return body[pos] if pos < len(body) else 0


def _space(body: bytes, pos: int) -> int:
    return _SPACE.match(body, pos).end()  # type: ignore[union-attr]  # the pattern matches the empty text


def _name(body: bytes, pos: int) -> tuple[bytes, int]:
    """A member's name and where its value starts."""
    if _byte(body, pos) != 34:
        raise _error(_NO_NAME, pos)
    name, pos = _string(body, pos)
    pos = _space(body, pos)
    if _byte(body, pos) != 58:
        raise _error(_NO_COLON, pos)
    return name, _space(body, pos + 1)


def _word(body: bytes, pos: int, word: bytes, value: Value) -> tuple[Value, int]:
    for letter in word:
        if _byte(body, pos) != letter:
            raise _error(_INVALID, pos)
        pos += 1
    return value, pos


def _number(body: bytes, pos: int) -> tuple[int | float, int]:
    found = _INTEGER.match(body, pos)
    if found is None:
        return _odd_number(body, pos)
    minus, whole = found.groups()
    value, end = _scaled(body, pos, found.end(), bool(minus), whole)
    if value is not None:
        return value, end
    number = -int(whole) if minus else int(whole)
    return number, end


def _scaled(body: bytes, start: int, pos: int, minus: bool, whole: bytes) -> tuple[float | None, int]:
    """The double of which ``whole`` was read up to ``pos``, and its end; None for an integer of 64 bits."""
    found = _SCALE.match(body, pos)
    assert found is not None, "the pattern matches the empty text"
    fraction, exponent = found.groups(b"")
    end = found.end()
    follows = _byte(body, end)
    if not exponent:
        if not fraction and follows == 46:
            raise _error(_NO_FRACTION, end + 1)
        if follows in b"eE":
            raise _error(_NO_EXPONENT, end + (2 if _byte(body, end + 1) in b"+-" else 1))
        if not fraction and len(whole) <= 20 and int(whole) <= (-INT64_MIN if minus else UINT64_MAX):
            return None, end
    value = read_double(minus, whole, fraction, exponent)
    if value is None:
        raise _error(_TOO_BIG, start)
    return value, end


def _odd_number(body: bytes, start: int) -> tuple[float, int]:
    """``NaN``, ``Inf``, ``Infinity``, each with an optional minus, or no number at all."""
    minus = _byte(body, start) == 45
    value = math.nan
    done, pos = _letters(body, start + minus, b"NaN")
    if not done:
        value = -math.inf if minus else math.inf
        done, pos = _letters(body, pos, b"Inf")  # from where the other left off: "NInf" is Inf to the engine
        if done and _byte(body, pos) == 105:
            done, pos = _letters(body, pos, b"inity")
    if not done:
        raise _error(_INVALID, pos)
    # The engine then looks for a fraction and an exponent, and where it finds one "NaN.5" is 0.5 to it.
    scaled, pos = _scaled(body, start, pos, minus, b"0")
    return value if scaled is None else scaled, pos


def _letters(body: bytes, pos: int, letters: bytes) -> tuple[bool, int]:
    """Whether these letters stand at ``pos``, and where the last that did ended."""
    for letter in letters:
        if _byte(body, pos) != letter:
            return False, pos
        pos += 1
    return True, pos


def _string(body: bytes, pos: int) -> tuple[bytes, int]:
    """The string whose opening quote is at ``pos``, and where it ended."""
    plain = _PLAIN_STRING.match(body, pos)
    if plain is not None:
        return plain[1], plain.end()
    parts: list[bytes] = []
    pos += 1
    while True:
        end = _RUN.match(body, pos).end()  # type: ignore[union-attr]  # the pattern matches the empty text
        parts.append(body[pos:end])
        byte = _byte(body, end)
        if byte == 34:
            return b"".join(parts), end + 1
        if byte == 92:
            part, pos = _escape(body, end)
            parts.append(part)
        else:
            raise _error(_BAD_ESCAPE if byte else _NO_QUOTE, end)


def _escape(body: bytes, start: int) -> tuple[bytes, int]:
    """What the escape at ``start`` stands for, and where it ended; errors point at its backslash."""
    byte = _byte(body, start + 1)
    if byte in _ESCAPES:
        return _ESCAPES[byte], start + 2
    if byte != 117:  # u
        raise _error(_BAD_ESCAPE, start)
    point = _hex4(body, start + 2, start)
    pos = start + 6
    if 0xD800 <= point <= 0xDBFF:
        if body[pos : pos + 2] != b"\\u":
            raise _error(_BAD_SURROGATE, start)
        second = _hex4(body, pos + 2, start)
        if not 0xDC00 <= second <= 0xDFFF:
            raise _error(_BAD_SURROGATE, start)
        point = 0x10000 + ((point - 0xD800) << 10) + (second - 0xDC00)
        pos += 6
    return chr(point).encode("utf-8", "surrogatepass"), pos  # a lone second half passes, three bytes long


def _hex4(body: bytes, pos: int, start: int) -> int:
    found = _HEX4.match(body, pos)
    if found is None:
        raise _error(_BAD_HEX, start)
    return int(found[0], 16)
