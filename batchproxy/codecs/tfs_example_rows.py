"""REST classify and regress requests whose examples are never read: cut out of their bodies, joined into one.

As ``tfs_rows`` for predict: what ``read_request`` is not sure of it does not take, and the caller relays it as it came.
Examples need not be of one shape. Answers are cut by ``tfs_splice``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from batchproxy.codecs.tfs_echo import quoted
from batchproxy.codecs.tfs_rows import JsonTexts, plain_string
from batchproxy.codecs.tfs_text import elements, may_leave_out, members
from batchproxy.core.shapes import DEFAULT_SIGNATURE

EXAMPLES = "examples"
"""The name of the one column of a request."""

_BRACE = b"{"


class ExampleTextsClass(NamedTuple):
    """What must agree for two columns of example texts to be joined.

    Attributes:
        verb: ``classify`` or ``regress``.
        sent_signature: as sent; None for none.
        context: as sent, JSON; None for none.
    """

    verb: str
    sent_signature: str | None
    context: bytes | None


class ExampleTexts(JsonTexts[ExampleTextsClass]):
    """The elements of ``examples``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"ExampleTexts({len(self.texts)} examples, {self.shape_class.verb})"


@dataclass(slots=True, eq=False)
class RawExamples:
    """A classify or regress request, read as far as merging needs.

    Attributes:
        signature_name: after defaulting, so never empty.
        column: the examples, at least one.
    """

    signature_name: str
    column: ExampleTexts


def read_request(verb: str, body: bytes) -> RawExamples | None:
    """Take a request apart; None where it is not sure to be understood as TF Serving does.

    That is: what ``tfs_rows.read_request`` does not take as an envelope, no examples, or an example or context that is
    no object.

    >>> request = read_request("regress", b'{"examples": [{"x": 1.0}, {"x": [2e3]}], "context": {"n": 7}}')
    >>> request.column
    ExampleTexts(2 examples, regress)
    >>> write_request(request.column)
    b'{"context":{"n": 7},"examples":[{"x": 1.0},{"x": [2e3]}]}'
    """
    top = members(body)
    if top is None or EXAMPLES not in top or not may_leave_out(top, (EXAMPLES, "context", "signature_name")):
        return None
    sent = None
    if "signature_name" in top:
        sent = plain_string(bytes(top["signature_name"][0]))
        if sent is None:
            return None
    context = None
    if "context" in top:
        context = bytes(top["context"][0])
        if not context.startswith(_BRACE):
            return None
    texts = elements(top[EXAMPLES][0])
    if not texts or not all(bytes(text).startswith(_BRACE) for text in texts):
        return None
    column = ExampleTexts(texts, ExampleTextsClass(verb, sent, context), len(body))
    return RawExamples(sent or DEFAULT_SIGNATURE, column)


def write_request(column: ExampleTexts) -> bytes:
    """Write the body of a merged request; the examples are copied once."""
    _, sent_signature, context = column.shape_class
    parts = []
    if sent_signature is not None:
        parts.append(b'"signature_name":' + quoted(sent_signature.encode()))
    if context is not None:
        parts.append(b'"context":' + context)
    first = len(parts)
    parts += column.texts
    parts[first] = b'"examples":[' + bytes(parts[first])
    parts[0] = _BRACE + parts[0]
    parts[-1] = bytes(parts[-1]) + b"]}"
    return b",".join(parts)
