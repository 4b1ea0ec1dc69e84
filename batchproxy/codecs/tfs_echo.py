"""How TF Serving writes JSON strings, and how it echoes a piece of a request in an error text. Nothing is read here.

Echoes are pretty-printed, arrays on one line, and stop at the first token that starts at or after 256 bytes
(``util/json_tensor.cc``). A number that JSON has no text for ends the echo where it stands.
"""

from __future__ import annotations

import math
import re

from batchproxy.codecs.tfs_floats import echo_double
from batchproxy.codecs.tfs_parse import Members, Value

ECHO_BYTES = 256
"""``kMaxJsonDebugStringBytes`` of ``util/json_tensor.cc``."""

_SPECIAL = re.compile(rb'["\\\x00-\x1f]')
_SHORT = {34: b'\\"', 92: b"\\\\", 8: b"\\b", 9: b"\\t", 10: b"\\n", 12: b"\\f", 13: b"\\r"}
_ESCAPED = {code: _SHORT.get(code, b"\\u%04X" % code) for code in (*range(32), 34, 92)}


def quoted(text: bytes) -> bytes:
    r"""A JSON string: only quotes, backslashes and control bytes are escaped, whatever the rest is.

    >>> print(quoted(b'caf\xc3\xa9 "1"').decode())
    "café \"1\""
    """
    if _SPECIAL.search(text) is None:
        return b'"' + text + b'"'
    return b'"' + _SPECIAL.sub(lambda found: _ESCAPED[found[0][0]], text) + b'"'


def indent(level: int) -> bytes:
    """The start of a line inside ``level`` open brackets."""
    return b"\n" + b"    " * level


def type_name(value: Value) -> str:
    """What TF Serving calls the type of a value in its texts."""
    match value:
        case None:
            return "Null"
        case bool():
            return str(value)
        case int() | float():
            return "Number"
        case bytes():
            return "String"
        case list():
            return "Array"
    return "Object"


def echo(value: Value) -> str:
    """A value as error texts show it. Bytes that are not UTF-8 survive as surrogate escapes.

    >>> echo([1, 2.5, b"x"])
    '[1, 2.5, "x"]'
    """
    out = bytearray()
    _write(out, b"", value, 0)
    return out.decode("utf-8", "surrogateescape")


def _write(out: bytearray, before: bytes, value: Value, level: int) -> bool:
    """Write ``before`` and the value; False once the echo is over. Every level writes a byte, so it is not deep."""
    if len(out) >= ECHO_BYTES:
        return False
    out += before
    if isinstance(value, Members):
        return _write_members(out, value, level)
    if isinstance(value, list):
        out += b"["
        for index, item in enumerate(value):
            if not _write(out, b", " if index else b"", item, level + 1):
                return False
        return _close(out, b"]")
    if isinstance(value, float) and not math.isfinite(value):
        return False
    out += _scalar(value)
    return True


def _write_members(out: bytearray, value: Members, level: int) -> bool:
    out += b"{"
    for index, (name, member) in enumerate(value.pairs):
        if not _close(out, (b"," if index else b"") + indent(level + 1) + quoted(name)):
            return False
        if not _write(out, b": ", member, level + 1):
            return False
    return _close(out, indent(level) + b"}" if value.pairs else b"}")


def _close(out: bytearray, token: bytes) -> bool:
    if len(out) >= ECHO_BYTES:
        return False
    out += token
    return True


def _scalar(value: Value) -> bytes:
    match value:
        case None:
            return b"null"
        case bool():
            return b"true" if value else b"false"
        case float():
            return echo_double(value)
        case bytes():
            return quoted(value)
    return b"%d" % value
