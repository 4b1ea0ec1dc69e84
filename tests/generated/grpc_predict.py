"""Random PredictRequests for generated models: most are meant well, the others wrong somehow. No channels."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from batchproxy.codecs import tensor_proto
from batchproxy.protos import tfs_pb2 as pb
from tests.generated.models import TABLE, Model
from tests.generated.values import Tensor, tensor

UNKNOWN = (b"\x6a\x04abcd", b"\xf8\x7f\x05", b"\x32\x02id")
"""Fields of a PredictRequest that nobody knows."""


def request(model: Model, kind: str, rows: int, source: random.Random) -> bytes:
    """One message.

    Args:
        model: that it asks.
        kind: ``good``, or one of ``KINDS``.
        rows: how many.
        source: of everything else.
    """
    open_size = source.choice([2, 2, 2, 2, 2, 1, 3, 0])
    rows = model.inputs[0].first or rows
    content = source.random() < 0.5
    message = pb.PredictRequest()
    message.model_spec.name = model.name
    if model.signature != "serving_default" or source.random() < 0.2:
        message.model_spec.signature_name = model.signature
    for one in model.inputs:
        array = _array(tensor(one, rows, open_size, source), one.dtype)
        proto = message.inputs[one.alias]
        tensor_proto.write(array, proto)
        if content and one.dtype != "string":
            held = pb.TensorProto(dtype=proto.dtype, tensor_content=array.tobytes())
            held.tensor_shape.CopyFrom(proto.tensor_shape)
            proto.CopyFrom(held)
    if kind in MESSAGES:
        MESSAGES[kind](message, model, source)
    data = message.SerializeToString()
    if kind == "unknown":
        data += source.choice(UNKNOWN)
    if kind == "cut":
        data = data[: source.randrange(len(data))]
    return data


def _array(held: Tensor, dtype: str) -> Any:
    if dtype == "string":
        flat = np.empty(len(held.flat), object)
        flat[:] = [item.encode() if isinstance(item, str) else item for item in held.flat]
        return flat.reshape(held.shape)
    kind = {"half": np.float16, "bfloat16": ml_dtypes.bfloat16}.get(dtype) or np.dtype(dtype)
    return np.array(held.flat, kind).reshape(held.shape)


def _one(message: Any, source: random.Random) -> Any:
    return message.inputs[source.choice(sorted(message.inputs))]


def _type(message: Any, _: Model, source: random.Random) -> None:
    _one(message, source).dtype = source.choice([1, 2, 3, 7, 9, 10, 11, 20, 99, 0])


def _size(message: Any, _: Model, source: random.Random) -> None:
    if dims := _one(message, source).tensor_shape.dim:
        source.choice(dims).size += source.choice([-1, 1, 1, 5])


def _sizes(message: Any, _: Model, source: random.Random) -> None:
    for name in message.inputs:
        message.inputs[name].tensor_shape.dim[0].size += 1


def _axis(message: Any, _: Model, source: random.Random) -> None:
    dims = _one(message, source).tensor_shape.dim
    if source.random() < 0.6:
        dims.add(size=1)
    else:
        del dims[-1:]


def _missing(message: Any, _: Model, source: random.Random) -> None:
    del message.inputs[source.choice(sorted(message.inputs))]


def _extra(message: Any, _: Model, source: random.Random) -> None:
    message.inputs[source.choice(["more", ""])].CopyFrom(_one(message, source))


def _unequal(message: Any, _: Model, source: random.Random) -> None:
    _one(message, source).tensor_shape.dim[0].size = source.choice([1, 0, 2])


def _empty(message: Any, _: Model, source: random.Random) -> None:
    for name in message.inputs:
        message.inputs[name].tensor_shape.dim[0].size = 0


def _filter(message: Any, model: Model, source: random.Random) -> None:
    names = sorted(model.outputs)
    message.output_filter.extend(source.sample(names, source.randint(1, len(names))))
    if source.random() < 0.2:
        message.output_filter.append(source.choice(["none", names[0]]))


def _spec(message: Any, _: Model, source: random.Random) -> None:
    match source.randrange(5):
        case 0:
            message.model_spec.version.value = 1
        case 1:
            message.model_spec.version.value = 7
        case 2:
            message.model_spec.version_label = "none"
        case 3:
            message.model_spec.signature_name = "none"
        case _:
            message.model_spec.name = source.choice(["none", ""])


def _values(message: Any, model: Model, source: random.Random) -> None:
    for one in model.inputs:
        if values := message.inputs[one.alias].int64_val:
            values[source.randrange(len(values))] = source.choice([-1, TABLE, 2**40])


MESSAGES: dict[str, Callable[[Any, Model, random.Random], None]] = {
    "type": _type,
    "size": _size,
    "sizes": _sizes,
    "axis": _axis,
    "missing": _missing,
    "extra": _extra,
    "unequal": _unequal,
    "empty": _empty,
    "filter": _filter,
    "spec": _spec,
    "values": _values,
}
KINDS = (*MESSAGES, "unknown", "cut")
