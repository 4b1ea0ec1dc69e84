"""REST answers cut into answers of fewer rows by bytes alone: no number is read or written. No requests here.

A cut needs no knowledge of the server's layout. Of the answer ``body``, rows ``i`` up to ``j`` are::

    body[:start(0)] + body[start(i):end(j - 1)] + body[end(last):]

``start`` and ``end`` come from a parser. In column form the same is done to each output's array, and the text between
them is kept. So the cut has the layout that the server gives an answer of that many rows, up to the order of keys.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from itertools import chain

import msgspec

from batchproxy.codecs import json_compare
from batchproxy.codecs.tfs_text import SPACE, elements, members, outside_strings
from batchproxy.core.errors import BackendProtocolError

PREDICTIONS = "predictions"
"""The name of the one column of an answer in row form."""

OUTPUTS = "outputs"
"""The name of the one column of an answer in column form of one output, which has no name there."""

RESULTS = "results"
"""The name of the one column of an answer to a classify or regress request."""

_LEAD = re.compile(SPACE)
_COMMA = re.compile(SPACE + rb",?" + SPACE)
_QUOTE, _BRACE = b'"{'
_SPACE_CODE = 32  # bytes up to it are white space, where a value may begin


class _Array:
    """Where a value stands in an answer, and its rows in it.

    Args:
        body: the answer.
        source: the text that was parsed: ``body``, or as long a stand-in for it.
        value: this value, from ``source``.
        start: its offset.
        siblings: how many values the answer has that are cut, with this one.

    Attributes:
        ranked: whether it is an array at all.
        starts: offset of each row.
        ends: where each ends.
        head: where the text of the rows begins.
        tail: where it ends.
    """

    __slots__ = ("body", "ends", "head", "ranked", "siblings", "starts", "tail")

    def __init__(self, body: memoryview, source: bytes, value: msgspec.Raw, start: int, siblings: int) -> None:
        rows = elements(value)
        self.body = body
        self.siblings = siblings
        self.ranked = rows is not None
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.head, self.tail = start, start + len(value)
        if rows is not None:
            self.starts, self.ends = _offsets(source, rows, start + 1)
            self.head = self.starts[0] if rows else start + 1
            self.tail = self.ends[-1] if rows else start + 1

    def between(self) -> bytes:
        """What stands between two rows, or, where there is but one, what would in TF Serving's layout."""
        if len(self.starts) > 1:
            return bytes(self.body[self.ends[0] : self.starts[1]])
        line = self.head
        while self.body[line - 1] <= _SPACE_CODE:
            line -= 1
        return b"," + (bytes(self.body[line : self.head]) or b" ")


def _offsets(source: bytes, rows: Sequence[msgspec.Raw], pos: int) -> tuple[list[int], list[int]]:
    """Where each row starts and ends: between two of them there can be nothing but white space and one comma."""
    starts: list[int] = []
    ends: list[int] = []
    gap = b","  # as it was last; most servers write the same between all rows
    pos = _past(_LEAD, source, pos)
    for row in rows:
        starts.append(pos)
        end = pos + len(row)
        ends.append(end)
        pos = end + len(gap)
        if not source.startswith(gap, end) or source[pos] <= _SPACE_CODE:
            pos = _past(_COMMA, source, end)
            gap = source[end:pos]
    return starts, ends


def _past(pattern: re.Pattern[bytes], source: bytes, pos: int) -> int:
    return pattern.match(source, pos).end()  # type: ignore[union-attr]  # both patterns match the empty text


class JsonAnswer:
    """One output of a predict answer, or all of them in row form: its rows, as they stand in the answer's body.

    Args:
        array: whose surroundings are kept.
        pieces: the rows, as (array, start, stop).

    Attributes:
        rows: their number; None for a value of rank 0.
    """

    __slots__ = ("array", "pieces", "rows")

    def __init__(self, array: _Array, pieces: tuple[tuple[_Array, int, int], ...]) -> None:
        self.array = array
        self.pieces = pieces
        rows = 0
        for _, start, stop in pieces:
            rows += stop - start
        self.rows = rows if array.ranked else None

    @property
    def rank(self) -> int | None:
        return None

    @property
    def nbytes(self) -> int:
        """Of the rows' text; the body around it is shared with all other slices."""
        return sum(map(len, self.texts()))

    @property
    def shape_class(self) -> Hashable:
        return "json answer"

    def take(self, start: int, stop: int) -> JsonAnswer:
        pieces = []
        for array, first, last in self.pieces:
            rows = last - first
            low, high = max(start, 0), min(stop, rows)
            if low < high:
                pieces.append((array, first + low, first + high))
            start -= rows
            stop -= rows
        return JsonAnswer(self.array, tuple(pieces))

    def concat(self, others: Sequence[JsonAnswer]) -> JsonAnswer:
        return JsonAnswer(self.array, (*self.pieces, *chain.from_iterable(other.pieces for other in others)))

    def deviation(self, other: JsonAnswer) -> float:
        """How far apart two answers to the same rows are; see ``core.compare``."""
        return json_compare.deviation(b"".join(self.texts()), b"".join(other.texts()))

    def texts(self) -> list[memoryview | bytes]:
        """What stands between head and tail, in pieces."""
        if not self.array.ranked:
            return [self.array.body[self.array.head : self.array.tail]]
        texts: list[memoryview | bytes] = []
        for array, start, stop in self.pieces:
            if texts:
                texts.append(self.array.between())
            texts.append(array.body[array.starts[start] : array.ends[stop - 1]])
        return texts

    def __repr__(self) -> str:
        return f"JsonAnswer({self.rows} rows)"


def read_answer(body: bytes, row_form: bool) -> dict[str, JsonAnswer]:
    """Find the rows of an answer to a predict request.

    Args:
        body: of an answer with status 200.
        row_form: whether the request came as ``instances``.

    Returns:
        One column under ``PREDICTIONS`` or ``OUTPUTS``, or one for each of several outputs in column form.

    Raises:
        BackendProtocolError: it is no such answer.

    >>> answer = read_answer(b'{"predictions": [[9e+06], [NaN], [0.5]]}', True)
    >>> splice({name: column.take(0, 2) for name, column in answer.items()})
    b'{"predictions": [[9e+06], [NaN]]}'
    """
    name = PREDICTIONS if row_form else OUTPUTS
    source, value, start = _found(body, name)
    values = {name: (value, start)}
    if not row_form and source[start] == _BRACE:
        values = _outputs(source, value, start)
    return _columns(body, source, values)


def read_results(body: bytes) -> dict[str, JsonAnswer]:
    """Find the results of an answer to a classify or regress request: one column, ``RESULTS``; as ``read_answer``."""
    source, value, start = _found(body, RESULTS)
    return _columns(body, source, {RESULTS: (value, start)})


def _found(body: bytes, name: str) -> tuple[bytes, msgspec.Raw, int]:
    """The text that could be parsed, the value of ``name`` in it, and where that begins."""
    source = body
    top = members(source)
    if top is None:
        source = _masked(body)
        top = members(source)
    if top is None or name not in top:
        raise BackendProtocolError(
            f"the server's answer to a merged REST call is no JSON object with {name!r}; "
            "if that server is not TF Serving, switch batching off for this model"
        )
    return source, *top[name]


def _columns(body: bytes, source: bytes, values: Mapping[str, tuple[msgspec.Raw, int]]) -> dict[str, JsonAnswer]:
    view = memoryview(body)
    columns = {}
    for output, (text, at) in values.items():
        array = _Array(view, source, text, at, len(values))
        columns[output] = JsonAnswer(array, ((array, 0, len(array.ends)),) if array.ends else ())
    return columns


def _outputs(source: bytes, value: msgspec.Raw, start: int) -> dict[str, tuple[msgspec.Raw, int]]:
    """Several outputs by name; a lone one of rank 0 that is base64 data stays as it is."""
    named = members(source, value, start)
    if not named:
        raise BackendProtocolError(
            "the server's answer to a merged REST predict call has outputs that cannot be told apart"
        )
    if named.keys() == {"b64"} and source[named["b64"][1]] == _QUOTE:
        return {OUTPUTS: (value, start)}
    return named


def _masked(body: bytes) -> bytes:
    """The answer with whole numbers of equal length for ``NaN``, ``Infinity`` and ``-Infinity``, which are no JSON."""
    if b"\0" in body:
        return body  # no JSON either, whatever else it holds
    return outside_strings(body, _with_numbers)


def _with_numbers(text: bytes) -> bytes:
    for word in (b"-Infinity", b"Infinity", b"NaN"):
        text = text.replace(word, b"1" * len(word))
    return text


def cut(columns: Mapping[str, JsonAnswer], start: int, stop: int) -> bytes:
    """The answer with the rows from ``start`` up to ``stop``, and no others.

    Args:
        columns: all that ``read_answer`` found.
        start: the first row.
        stop: the row after the last one, more than ``start``.
    """
    if len(columns) == 1:
        (column,) = columns.values()
        array = column.array
        if array.siblings == 1 and column.rows == len(array.starts):
            body, first, last = array.body, array.starts[start], array.ends[stop - 1]
            return b"".join((body[: array.head], body[first:last], body[array.tail :]))
    return splice({name: column.take(start, stop) for name, column in columns.items()})


def splice(columns: Mapping[str, JsonAnswer]) -> bytes:
    """The answer with these rows in place of its own; with all of them as it came.

    Args:
        columns: all that ``read_answer`` found, each cut by ``take`` in the same way.

    Raises:
        ValueError: one is missing: its place in the text would show the rows of everybody.
    """
    ordered = sorted(columns.values(), key=_head)
    frame = ordered[0].array
    if len(ordered) != frame.siblings:
        raise ValueError(f"{len(ordered)} of the answer's {frame.siblings} columns to splice; this is a bug")
    parts: list[memoryview | bytes] = []
    done = 0
    for column in ordered:
        parts.append(frame.body[done : column.array.head])
        parts += column.texts()
        done = column.array.tail
    parts.append(frame.body[done:])
    return b"".join(parts)


def _head(column: JsonAnswer) -> int:
    return column.array.head
