"""REST answers of the Open Inference Protocol: columns to bodies, as JSON and as buffers. Nothing is read here.

As over gRPC (``v2_responses``), the answers to members of a batch with equally many rows differ in their ids, and in
numbers that lie one after the other. The numbers of all are printed at once, and cut into rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import orjson

from batchproxy.codecs import v2_calls, v2_tensors
from batchproxy.codecs.tfs_responses import COPIED
from batchproxy.codecs.v2_calls import BINARY_DATA, BINARY_DATA_OUTPUT, BINARY_DATA_SIZE, InferCall, Parameters
from batchproxy.core.columns import Array, ArrayColumn, Columns
from batchproxy.core.errors import RequestError
from batchproxy.core.request import Reply, Share

Written = tuple[bytes, int | None]
"""A body, and the length of its JSON for ``LENGTH_HEADER``; None: it is JSON only."""


class Wanted(NamedTuple):
    """What calls of one kind want to be answered.

    Attributes:
        model: the name they used.
        outputs: those asked for, in the order of the answer; empty for all.
        every: whether outputs are to be buffers where nothing else is said of them.
        some: of outputs that something is said of: whether they are to be buffers.
    """

    model: str
    outputs: tuple[str, ...]
    every: bool
    some: tuple[tuple[str, bool], ...]

    @classmethod
    def of(cls, call: InferCall) -> Wanted:
        """What a call wants."""
        every = call.parameters.get(BINARY_DATA_OUTPUT) is True
        some = [(name, own.get(BINARY_DATA, every) is True) for name, own in call.output_parameters.items()]
        return cls(call.model, call.outputs, every, tuple(some))

    def buffers(self, outputs: Iterable[str]) -> frozenset[str]:
        """Which of ``outputs`` are to be buffers."""
        some = dict(self.some)
        return frozenset([name for name in outputs if some.get(name, self.every)])


def encode_reply(reply: Reply, call: InferCall) -> Written:
    """The answer of one caller.

    Args:
        reply: its columns are ``ArrayColumn``.
        call: what it asked for: its ``id``, which outputs in which order, and which of them as buffers.

    Raises:
        RequestError: a tensor that the protocol cannot carry so.
    """
    return write(reply, Wanted.of(call), quoted(call.id))


def quoted(text: str) -> bytes:
    """A text as JSON has it between quotation marks; half a character is a question mark."""
    return orjson.dumps(text.encode("utf-8", "replace").decode())[1:-1]


def write(reply: Reply, wanted: Wanted, call_id: bytes) -> Written:
    """The answer of one caller.

    Args:
        reply: its columns are ``ArrayColumn``.
        wanted: by it.
        call_id: its ``id``, as ``quoted``; empty for none.

    Raises:
        RequestError: a tensor that the protocol cannot carry so.
    """
    if type(reply) is Share:
        whole, start, stop = reply.whole, reply.start, reply.stop
        key = (wanted, stop - start)
        frame: _Frame | None = whole.memo.get(key)
        if frame is None:
            frame = whole.memo[key] = _frame(reply, wanted)
        if frame.last:
            return frame.write(start, stop, call_id)
    said = v2_calls.said(reply)
    columns = _ordered(reply.columns, wanted)
    head: dict[str, Any] = {"model_name": wanted.model, "model_version": said.version}
    if call_id:
        head["id"] = orjson.Fragment(b'"' + call_id + b'"')
    if said.parameters:
        head["parameters"] = said.parameters
    return write_tensors(head, "outputs", columns, said.output_parameters, wanted.buffers(columns))


def written(share: Share, wanted: Wanted, call_id: bytes) -> Written | None:
    """As ``write``, where all but putting it together was done for another member; else None."""
    start, stop = share.start, share.stop
    frame: _Frame | None = share.whole.memo.get((wanted, stop - start))
    return frame.write(start, stop, call_id) if frame is not None and frame.last else None


def to_print(reply: Reply, wanted: Wanted) -> int:
    """Bytes of the numbers that ``write`` would print: those of a whole batch where these come first."""
    columns = reply.columns
    if type(reply) is Share and (wanted, reply.stop - reply.start) not in reply.whole.memo:
        columns = reply.whole.columns
    binary = wanted.buffers(columns)
    return sum([column.nbytes for name, column in columns.items() if name not in binary])


def write_tensors(
    head: dict[str, Any], side: str, columns: Columns, parameters: Mapping[str, Parameters], binary: frozenset[str]
) -> Written:
    """A body.

    Args:
        head: what it says beside tensors.
        side: what tensors are called there.
        columns: tensor name to ``ArrayColumn``.
        parameters: of tensors that have some.
        binary: which of them are buffers.

    Raises:
        RequestError: a tensor that the protocol cannot carry so.
    """
    tensors: list[dict[str, Any]] = []
    buffers: list[bytes | memoryview] = []
    for name, either in columns.items():
        column = cast("ArrayColumn", either)
        shape, own = v2_tensors.shape_sent(column), parameters.get(name)
        if name in binary:
            data = v2_tensors.write_raw(column)
            tensor = _described(name, column, shape, {**(own or {}), BINARY_DATA_SIZE: len(data)})
            buffers.append(data)
        else:
            tensor = _described(name, column, shape, own)
            tensor["data"] = _json_data(name, column)
        tensors.append(tensor)
    head[side] = tensors
    text = orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY, default=dict)
    return (b"".join([text, *buffers]), len(text)) if binary else (text, None)


# ---------------------------------------------------------------- answers of a batch


class _Frame(NamedTuple):
    """The answers to all members of a batch with equally many rows, but for their numbers and ids.

    Attributes:
        first: the JSON up to the place of an id.
        texts: (JSON before some numbers, the texts of the rows of the whole batch), one an output that is no buffer.
        last: the rest of the JSON; empty where members have to be written one by one.
        buffers: (numbers of the whole batch, bytes of a row), one an output that is a buffer.
    """

    first: bytes
    texts: tuple[tuple[bytes, list[bytes]], ...]
    last: bytes
    buffers: tuple[tuple[bytes | memoryview, int], ...]

    def write(self, start: int, stop: int, call_id: bytes) -> Written:
        """The answer to the member that has the rows from ``start`` up to ``stop``."""
        first, texts, last, buffers = self
        if call_id:
            first = b'%b,"id":"%b"' % (first, call_id)
        for before, rows in texts:
            first = b"%b%b%b" % (first, before, rows[start] if stop - start == 1 else b",".join(rows[start:stop]))
        if not buffers:
            return first + last, None
        pieces: list[bytes | memoryview] = [first, last]
        for numbers, row_nbytes in buffers:
            pieces.append(numbers[start * row_nbytes : stop * row_nbytes])
        return b"".join(pieces), len(first) + len(last)


_NO_FRAME = _Frame(b"", (), b"", ())


def _frame(share: Share, wanted: Wanted) -> _Frame:
    whole, rows = share.whole, share.stop - share.start
    said = v2_calls.said(whole)
    columns = _ordered(whole.columns, wanted)
    binary = wanted.buffers(columns)
    texts: list[tuple[bytes, list[bytes]]] = []
    buffers: list[tuple[bytes | memoryview, int]] = []
    text = b',"outputs":['
    if said.parameters:
        text = b',"parameters":' + orjson.dumps(said.parameters, default=dict) + text
    for name, either in columns.items():
        column = cast("ArrayColumn", either)
        _, *row_shape = v2_tensors.shape_sent(column) or (0, 0)
        dtype = v2_tensors.dtype_of(column)
        row_nbytes = dtype.itemsize * math.prod(row_shape)
        if not row_nbytes or dtype.kind in "OSU":
            return _NO_FRAME
        own = said.output_parameters.get(name)
        if name in binary:
            numbers = v2_tensors.write_raw(column)
            buffers.append((bytes(numbers) if len(numbers) <= COPIED else numbers, row_nbytes))
            own = {**(own or {}), BINARY_DATA_SIZE: rows * row_nbytes}
        text += orjson.dumps(_described(name, column, (rows, *row_shape), own), default=dict)
        if name not in binary:
            printed = _printed_rows(whole, name, column)
            if printed is None:
                return _NO_FRAME
            texts.append((text[:-1] + b',"data":[', printed))
            text = b"]}"
        text += b","
    first = orjson.dumps({"model_name": wanted.model, "model_version": said.version})[:-1]
    return _Frame(first, tuple(texts), text[:-1] + b"]}", tuple(buffers)) if columns else _NO_FRAME


def _printed_rows(whole: Reply, name: str, column: ArrayColumn) -> list[bytes] | None:
    """The numbers of each row, printed once for all who want them; None: some have no text that orjson knows."""
    key = (_printed_rows, name)
    rows: list[bytes] | None = whole.memo.get(key)
    if rows is None:
        numbers = _printable(column.array)
        if isinstance(numbers, orjson.Fragment):
            return None
        text = orjson.dumps(numbers.reshape(len(column.array), -1), option=orjson.OPT_SERIALIZE_NUMPY)
        rows = whole.memo[key] = text[2:-2].split(b"],[")
    return rows


# ---------------------------------------------------------------- inside


def _ordered(columns: Columns, wanted: Wanted) -> Columns:
    return {name: columns[name] for name in wanted.outputs} if wanted.outputs else columns


def _described(name: str, column: ArrayColumn, shape: Sequence[int], own: Parameters | None) -> dict[str, Any]:
    """What is said of a tensor beside its values."""
    tensor: dict[str, Any] = {"name": name, "datatype": v2_tensors.datatype_of(name, column), "shape": shape}
    if own:
        tensor["parameters"] = own
    return tensor


def _json_data(name: str, column: ArrayColumn) -> Any:
    """Values for ``orjson``, flat."""
    array = column.array
    if array.dtype.kind not in "OSU":
        return _printable(array)
    try:
        return [v2_tensors.as_bytes(item).decode() for item in array.ravel().tolist()]
    except UnicodeDecodeError:
        raise RequestError(
            f"tensor {name!r} holds bytes that are no UTF-8, which JSON cannot carry: ask for binary_data"
        ) from None


def _printable(array: Array) -> Array | orjson.Fragment:
    """Numbers for ``orjson``, flat: shortest texts that give the same numbers again."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.dtype.kind in "biu":
        return flat
    if flat.dtype not in (np.float32, np.float64):
        flat = flat.astype(np.float32)
    if np.isfinite(flat).all():
        return flat
    return orjson.Fragment(json.dumps(flat.tolist()))  # with NaN and Infinity, as Triton and Python write them
