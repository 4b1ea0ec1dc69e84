"""ModelInferResponses: columns to bytes, and what requests are written by, too. Nothing is read here.

As for TF Serving (``tfs_responses``), the answers to members of a batch with equally many rows differ in numbers that
lie one after the other, and in their ids: what they have in common is written once, by protobuf.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from batchproxy.codecs import v2_calls, v2_tensors
from batchproxy.codecs.tensor_proto import varint
from batchproxy.codecs.tfs_responses import COPIED
from batchproxy.codecs.v2_calls import Parameters
from batchproxy.core.columns import ArrayColumn, Columns
from batchproxy.core.request import Reply, Share
from batchproxy.protos import v2_pb2 as pb

_INT64_MAX = 2**63 - 1


def encode_reply(reply: Reply, model: str, call_id: str = "", outputs: Sequence[str] = ()) -> bytes:
    """The ModelInferResponse of one caller.

    Args:
        reply: its columns are ``ArrayColumn``.
        model: the name it used.
        call_id: its ``id``.
        outputs: the outputs it asked for, in its order; empty: all.

    Raises:
        RequestError: a tensor of a type that the protocol does not have.
    """
    if type(reply) is not Share:
        return _response(reply, model, reply.columns, outputs, call_id).SerializeToString()
    whole = reply.whole
    start, stop = reply.start, reply.stop
    key = (encode_reply, model, outputs, stop - start)
    frame: _Frame | None = whole.memo.get(key)
    if frame is None:
        frame = whole.memo[key] = _frame(reply, model, outputs)
    if not frame.rest:
        return _response(reply, model, reply.columns, outputs, call_id).SerializeToString()
    pieces: list[bytes | memoryview] = [frame.first]
    for opening, numbers, row_nbytes in frame.rest:
        pieces += (opening, numbers[start * row_nbytes : stop * row_nbytes])
    if call_id:
        name = call_id.encode()
        pieces += (b"\x1a", varint(len(name)), name)  # id = 3; fields may come in any order
    return b"".join(pieces)


class _Frame(NamedTuple):
    """The answers to all members of a batch with equally many rows, but for their numbers and ids.

    Attributes:
        first: all but the raw contents.
        rest: (tag and length, numbers of the whole batch, bytes of a row), one an output; empty where members have to
            be written one by one.
    """

    first: bytes
    rest: tuple[tuple[bytes, bytes | memoryview, int], ...]


def _frame(share: Share, model: str, outputs: Sequence[str]) -> _Frame:
    whole = share.whole
    response = _response(share, model, share.columns, outputs, "")
    rest = []
    for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        column = cast("ArrayColumn", whole.columns[tensor.name])
        if not raw or tensor.datatype == "BYTES":
            return _Frame(b"", ())
        numbers = v2_tensors.write_raw(column)
        if len(numbers) <= COPIED:
            numbers = bytes(numbers)
        row_nbytes = len(raw) // (share.stop - share.start)
        rest.append((b"\x32" + varint(len(raw)), numbers, row_nbytes))  # raw_output_contents = 6
    response.ClearField("raw_output_contents")
    return _Frame(response.SerializeToString(), tuple(rest))


def _response(
    reply: Reply, model: str, columns: Columns, outputs: Sequence[str], call_id: str
) -> pb.ModelInferResponse:
    said = v2_calls.said(reply)
    response = pb.ModelInferResponse(model_name=model, model_version=said.version, id=call_id)
    write_parameters(said.parameters, response.parameters)
    ordered = {name: columns[name] for name in outputs} if outputs else columns
    write_tensors(ordered, said.output_parameters, response.outputs, response.raw_output_contents)
    return response


def write_tensors(columns: Columns, parameters: Mapping[str, Parameters], tensors: Any, raw: Any) -> None:
    """Tensors into a message: what they are into one of its fields, their buffers into another.

    Raises:
        RequestError: a tensor of a type that the protocol does not have.
    """
    for name, column in columns.items():
        array = cast("ArrayColumn", column)
        tensor = tensors.add(
            name=name, datatype=v2_tensors.datatype_of(name, array), shape=v2_tensors.shape_sent(array)
        )
        if name in parameters:
            write_parameters(parameters[name], tensor.parameters)
        raw.append(bytes(v2_tensors.write_raw(array)))


def write_parameters(parameters: Parameters, into: Any) -> None:
    """Parameters into a field of a message."""
    for name, value in parameters.items():
        if isinstance(value, bool):
            into[name].bool_param = value
        elif isinstance(value, int):
            setattr(into[name], "int64_param" if value <= _INT64_MAX else "uint64_param", value)
        elif isinstance(value, float):
            into[name].double_param = value
        else:
            into[name].string_param = value
