"""Long arrays of numbers in the JSON of the Open Inference Protocol, read in one go. Refuses nothing.

As ``tfs_fast`` does with TF Serving's bodies: a long array is set aside, and what is left is a short text with a mark
in its place. If the text with the mark is JSON, so is that with the array, which says the same but for it: a mark is a
value, and so is an array that simdjson took. ``None`` means "not sure": all of the text is then read as it is.
"""

from __future__ import annotations

from batchproxy.codecs.tfs_numbers import Numbers
from batchproxy.core.columns import Array

LONG = 4096
"""Bytes of an array from which on it is set aside: the looking costs less than it spares (as ``tfs_fast.LONG``)."""

_KEY = b'"data"'
_SPACE = b" \n\r\t"


def set_aside(text: bytes) -> tuple[bytes, dict[bytes, Array]] | None:
    """The text with marks for its long arrays, and mark to array: whole numbers, or doubles as JSON says them.

    Returns:
        None: there are none, or it cannot be told where they stand.
    """
    pieces: list[bytes] = []
    found: dict[bytes, Array] = {}
    done = quotes = at = 0
    while len(text) - at >= LONG and (key := text.find(_KEY, at)) >= 0:
        at = key + len(_KEY)
        start = text.find(b"[", at)
        if start < 0 or text[at:start].strip(_SPACE) != b":":
            continue
        stop = _end(text, start)
        if stop - start < LONG:
            continue
        before = text[done:start]
        quotes += before.count(b'"')
        numbers = Numbers.of(text[start:stop])
        if numbers is None or b"\\" in before or quotes % 2:  # in a string, perhaps
            return None
        mark = b'"\\u0000%d"' % len(found)  # nothing else here has a backslash
        found[mark] = numbers.exact
        pieces += (before, mark)
        done = at = stop
    if not found or b"\\" in text[done:]:
        return None
    return b"".join([*pieces, text[done:]]), found


def _end(text: bytes, start: int) -> int:
    """Where an array of numbers that begins at ``start`` ends: behind the last bracket before anything else."""
    limit = text.find(b"}", start)
    limit = len(text) if limit < 0 else limit
    quote = text.find(b'"', start, limit)
    return text.rfind(b"]", start, limit if quote < 0 else quote) + 1
