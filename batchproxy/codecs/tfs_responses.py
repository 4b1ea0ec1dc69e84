"""PredictResponses: columns to bytes. What a batch's answers have in common is written once, and slices put into it.

An answer is nearly always a few tensors of fixed-width numbers. Then those of all members with equally many rows differ
in the numbers only, which lie in the answer to the batch one after the other: see ``_frame``. Everything else is
written by protobuf, which is also the judge of this in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from batchproxy.codecs import tensor_proto
from batchproxy.codecs.tensor_proto import varint
from batchproxy.core.columns import ArrayColumn, TensorColumn
from batchproxy.core.errors import BackendProtocolError
from batchproxy.core.request import Reply, Share
from batchproxy.protos import tfs_pb2 as pb

COPIED = 1 << 16
"""Bytes of an output up to which all of it is copied once, as slices of bytes are cheaper than slices of a view."""


class Frame(NamedTuple):
    """The answer to a member of a batch but for its numbers.

    Attributes:
        first: the bytes before the first output's numbers.
        rest: (numbers of the whole batch, bytes of a row, bytes that follow a member's), one an output.
    """

    first: bytes
    rest: tuple[tuple[bytes | memoryview, int, bytes], ...]


def encode_predict(reply: Reply, model: str, signature_name: str) -> bytes:
    """A PredictResponse with typed value fields, the form a server answers in by default, or in the server's own form.

    Args:
        reply: array columns, the version that answered, and what else it said.
        model: the name the caller used.
        signature_name: after defaulting.

    Raises:
        BackendProtocolError: an output that no TensorFlow type holds.
    """
    if type(reply) is Share:
        return encode_each([reply], model, signature_name)[0]
    return _encode(reply, model, signature_name)


def encode_each(shares: Sequence[Share], model: str, signature_name: str) -> list[bytes]:
    """``encode_predict`` of each of those who share an answer: what they have in common is written once.

    Args:
        shares: of one answer, one at least.
        model: as for ``encode_predict``.
        signature_name: likewise.

    Raises:
        BackendProtocolError: likewise.
    """
    whole, rows = shares[0].whole, 0
    frame: Frame | None = None
    messages = []
    for share in shares:
        start, stop = share.start, share.stop
        if stop - start != rows:
            rows = stop - start
            key = (model, signature_name, rows)
            try:
                frame = whole.memo[key]
            except KeyError:
                frame = whole.memo[key] = _frame(whole, *key)
        if frame is None:
            messages.append(_encode(share, model, signature_name))
            continue
        pieces: list[bytes | memoryview] = [frame.first]
        for numbers, row_nbytes, after in frame.rest:
            pieces.append(numbers[start * row_nbytes : stop * row_nbytes])
            pieces.append(after)
        messages.append(b"".join(pieces))
    return messages


def _encode(reply: Reply, model: str, signature_name: str) -> bytes:
    """In the general way: protobuf writes it."""
    response = pb.PredictResponse()
    for alias, column in reply.columns.items():
        if not isinstance(column, ArrayColumn):
            raise BackendProtocolError(f"model {model!r}: output {alias!r} is no array. This is a bug.")
        try:
            _write_output(column, response.outputs[alias])
        except BackendProtocolError as error:
            raise BackendProtocolError(f"model {model!r}, output {alias!r}: {error}") from None
    _write_spec(response, reply, model, signature_name)
    return response.SerializeToString() + reply.extras  # a message may be written in pieces


def _write_spec(response: pb.PredictResponse, reply: Reply, model: str, signature_name: str) -> None:
    spec = response.model_spec
    spec.name = model
    spec.version.value = reply.version
    spec.signature_name = signature_name


def _frame(whole: Reply, model: str, signature_name: str, rows: int) -> Frame | None:
    """What the answers of members with ``rows`` rows have in common; None: protobuf writes each."""
    heads: list[bytes] = []
    numbers: list[tuple[bytes | memoryview, int]] = []
    tails: list[bytes] = []
    for alias, column in whole.columns.items():
        if not isinstance(column, ArrayColumn):
            return None
        try:
            found = _numbers(column)
        except BackendProtocolError:  # the general way says which output it is
            return None
        if found is None:
            return None
        tag, data, row_nbytes = found
        proto = pb.TensorProto()
        tensor_proto.write_head(column.array[:rows], proto)
        tails.append(column.extras if isinstance(column, TensorColumn) else b"")
        size = rows * row_nbytes
        head = b"".join((proto.SerializeToString(), tag, varint(size)))
        name = alias.encode()
        opening = b"".join((b"\x0a", varint(len(name)), name, b"\x12", varint(len(head) + size + len(tails[-1])), head))
        heads.append(b"".join((b"\x0a", varint(len(opening) + size + len(tails[-1])), opening)))  # outputs = 1
        numbers.append((data, row_nbytes))
    spec = pb.PredictResponse()
    _write_spec(spec, whole, model, signature_name)
    heads.append(spec.SerializeToString() + whole.extras)
    rest = tuple(
        (data, row_nbytes, tail + following)
        for (data, row_nbytes), tail, following in zip(numbers, tails, heads[1:], strict=True)
    )
    return Frame(heads[0], rest)


def _numbers(column: ArrayColumn) -> tuple[bytes, bytes | memoryview, int] | None:
    """The tag of the field that holds an output's numbers, all of them, and bytes a row; None: not of fixed width."""
    tag = tensor_proto.packed_tag(column.array.dtype, content=isinstance(column, TensorColumn) and column.content)
    if tag is None or not column.array.nbytes:
        return None
    data = tensor_proto.content_of(column.array)
    if len(data) <= COPIED:
        data = bytes(data)
    return tag, data, len(data) // len(column.array)


def _write_output(column: ArrayColumn, proto: pb.TensorProto) -> None:
    if not isinstance(column, TensorColumn):
        tensor_proto.write(column.array, proto)
        return
    if column.content:
        tensor_proto.write_head(column.array, proto)
        proto.tensor_content = bytes(tensor_proto.content_of(column.array))
    else:
        tensor_proto.write(column.array, proto)
    if column.extras:
        proto.MergeFromString(column.extras)
