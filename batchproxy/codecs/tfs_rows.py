"""REST predict requests whose rows are never read: cut out of their bodies, joined into one. No answers here.

What ``read_request`` is not sure of it does not take, and the caller relays it as it came. What it takes has at least
one row in each input, rows of one shape, and the same meaning to TF Serving (``tfs_parse``) as to us.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Generic, NamedTuple, Self, TypeVar

import msgspec

from batchproxy.codecs.tfs_echo import quoted
from batchproxy.codecs.tfs_text import Shape, common_shape, elements, may_leave_out, members
from batchproxy.core.shapes import DEFAULT_SIGNATURE, Signature

S = TypeVar("S", bound=Hashable)

INSTANCES = "instances"
"""The name of the one column of a request in row form."""

INPUTS = "inputs"
"""The name of the one column of a request in column form that sends its only input without a name."""

_NAMED = "inputs by name"
LONG = 4096  # bytes from which on parsing a body twice costs more than looking for its array


class ShapeClass(NamedTuple):
    """What must agree, beside their names, for two columns of rows to be joined.

    Attributes:
        form: row form, one unnamed input, or inputs by name: the answer's layout depends on it.
        sent_signature: as sent; None for none.
        row: the shape of each row.
    """

    form: str
    sent_signature: str | None
    row: Shape


class JsonTexts(Generic[S]):
    """Values of an array, as texts: a column that is joined and cut without being read.

    Args:
        texts: JSON, one for each value; views of the body, which they keep alive.
        shape_class: what all of them share.
        nbytes: of the body, where a request has several columns a share of it.
    """

    __slots__ = ("nbytes", "shape_class", "texts")

    def __init__(self, texts: Sequence[msgspec.Raw | bytes], shape_class: S, nbytes: int) -> None:
        self.texts = texts
        self.shape_class = shape_class
        self.nbytes = nbytes

    @property
    def rows(self) -> int | None:
        return len(self.texts)

    @property
    def rank(self) -> int | None:
        return None

    def take(self, start: int, stop: int) -> Self:
        return type(self)(self.texts[start:stop], self.shape_class, self.nbytes)  # the whole body is kept alive

    def concat(self, others: Sequence[Self]) -> Self:
        texts = [*self.texts, *chain.from_iterable(other.texts for other in others)]
        return type(self)(texts, self.shape_class, self.nbytes + sum(other.nbytes for other in others))


class JsonRows(JsonTexts[ShapeClass]):
    """The rows of ``instances``, or of one of ``inputs``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"JsonRows({len(self.texts)} rows, {self.shape_class.form})"


@dataclass(slots=True, eq=False)
class RawPredict:
    """A predict request, read as far as merging needs.

    Attributes:
        sent_signature: as sent, which may be empty; None for none.
        columns: one under ``INSTANCES``, one under ``INPUTS``, or one for each input by its name.
        row_form: whether it came as ``instances``; the answer takes the same form.
        ranks: of the inputs, without axis 0; under the empty name that of a lone one, sent without a name.
    """

    sent_signature: str | None
    columns: dict[str, JsonRows]
    row_form: bool
    ranks: Mapping[str, int]

    @property
    def signature_name(self) -> str:
        """After defaulting, so never empty."""
        return self.sent_signature or DEFAULT_SIGNATURE

    def fits(self, signature: Signature) -> bool:
        """Whether each input has the rank that the signature declares; if not, see ``core.request.build_request``."""
        specs = signature.inputs
        for name, rank in self.ranks.items():
            spec = specs.get(name) if name or len(specs) != 1 else next(iter(specs.values()))
            if spec is not None and spec.shape is not None and len(spec.shape) != rank + 1:
                return False
        free = len(specs) > 1 and any(spec.shape is None for spec in specs.values())
        return not free or len(set(self.ranks.values())) == 1


def read_request(body: bytes) -> RawPredict | None:
    """Take a predict request apart; None where it is not sure to be understood as TF Serving does.

    That is: what is not plain JSON (``NaN``, a byte order mark, bytes after the end), what the parser finds too deep,
    a name sent twice or with an escape in it, a number beside the rows that is too big for a double, a signature name
    that is no plain string, not exactly one of ``instances`` and ``inputs``, an input without rows (rank 0, or none
    sent), inputs with unequal numbers of rows, rows of unequal shapes.

    >>> request = read_request(b'{"instances": [[1.0, 2e3], [3, 4]]}')
    >>> request.columns
    {'instances': JsonRows(2 rows, instances)}
    >>> write_request(request.columns, None, True)
    b'{"instances":[[1.0, 2e3],[3, 4]]}'
    """
    lone = _lone_array(body) if len(body) >= LONG else None
    top = members(body if lone is None else lone[0])
    if top is None or (INSTANCES in top) == (INPUTS in top):
        return None
    sent = None
    if "signature_name" in top:
        sent = plain_string(bytes(top["signature_name"][0]))
        if sent is None:
            return None
    row_form = INSTANCES in top
    form = INSTANCES if row_form else INPUTS
    if len(top) > 1 and not may_leave_out(top, (form, "signature_name")):
        return None
    value, start = top[form]
    if lone is not None:
        if bytes(value) != b"[]":  # the array is of another name
            return None
        value = lone[1]
    arrays = {form: value}
    if not row_form and body[start] == 123:  # {
        named = members(body, value, start)
        if not named:
            return None
        arrays = {name: value for name, (value, _) in named.items()}
        form = _NAMED
    columns: dict[str, JsonRows] = {}
    count = 0
    ranks: Mapping[str, int] = {}
    for name, array in arrays.items():
        rows = elements(array)
        if not rows or (columns and len(rows) != count):
            return None
        count = len(rows)
        shared = common_shape(array, rows)
        if shared is None:
            return None
        shape, row_ranks = shared
        columns[name] = JsonRows(rows, ShapeClass(form, sent, shape), len(body) // len(arrays))
        ranks = row_ranks if row_form or form == INPUTS else {**ranks, name: row_ranks.get("", 0)}
    return RawPredict(sent, columns, row_form, ranks)


def _lone_array(body: bytes) -> tuple[bytes, msgspec.Raw] | None:
    """A body with an empty array in place of its only one, and that one, not yet parsed: so it is parsed but once.

    None: there are several, it has strings in it, or it stands in an object below the top.
    """
    start, stop = body.find(b"["), body.rfind(b"]") + 1
    before = body[:start]
    if (
        not 0 <= start < stop
        or body.find(b'"', start, stop) >= 0
        or b"\\" in before
        or before.count(b'"') % 2
        or before.count(b"{") != 1
    ):
        return None
    return before + b"[]" + body[stop:], msgspec.Raw(memoryview(body)[start:stop])


def plain_string(text: bytes) -> str | None:
    """What a JSON string says; None for any other value, an escape in it, or bytes that are not UTF-8."""
    if text[:1] != b'"' or b"\\" in text:
        return None
    try:
        return text[1:-1].decode()
    except UnicodeDecodeError:
        return None


def write_request(columns: Mapping[str, JsonRows], sent_signature: str | None, row_form: bool) -> bytes:
    """Write the body of a merged request; the rows are copied once.

    Args:
        columns: as in ``RawPredict``, at least one, each with at least one row.
        sent_signature: as in ``RawPredict``.
        row_form: as in ``RawPredict``.
    """
    parts: list[bytes] = []  # a comma follows each but the last, whatever it is
    if sent_signature is not None:
        parts.append(b'"signature_name":' + quoted(sent_signature.encode()))
    first = len(parts)
    named = not row_form and any(column.shape_class.form == _NAMED for column in columns.values())
    for name, column in columns.items():
        at = len(parts)
        parts += column.texts
        parts[at] = quoted(name.encode()) + b":[" + bytes(parts[at])
        parts[-1] = bytes(parts[-1]) + b"]"
    if named:
        parts[first] = b'"inputs":{' + parts[first]
        parts[-1] += b"}"
    parts[0] = b"{" + parts[0]
    parts[-1] += b"}"
    return b",".join(parts)
