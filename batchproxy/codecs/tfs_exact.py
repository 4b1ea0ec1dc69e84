"""A parsed request body to columns, step by step as TF Serving does it, with its texts. Slow and sure.

The order of checks and every text are those of tensorflow/serving ``util/json_tensor.cc``. The fast way is
``tfs_fast``; whatever it is not sure of comes here. No bytes are parsed here.
"""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np

from batchproxy.codecs import _dtypes
from batchproxy.codecs.tensor_proto import MAX_RANK
from batchproxy.codecs.tfs_echo import echo, type_name
from batchproxy.codecs.tfs_parse import MISSING, Members, Value
from batchproxy.core.columns import Array
from batchproxy.core.errors import Code, DecodeError
from batchproxy.core.shapes import Signature, TensorSpec

PLAIN_INPUT = "x"
"""The input that an unnamed value is, where a model declares nothing."""

_INT32 = (-(2**31), 2**31 - 1)
_RANGES = {
    "int8": _INT32,  # the narrow ones are held as int32 on the wire and wrap without a word
    "uint8": _INT32,
    "int16": _INT32,
    "int32": _INT32,
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
_WIDE = {"float32": np.float64, "float64": np.float64, "uint64": np.uint64}
"""The wire's own type, other than int64, before the cast to the dtype: floats are rounded twice, integers wrap."""

INTEGER_RANGES: Mapping[str, tuple[int, int]] = _RANGES
"""What an integer token may be, by dtype: the range of the wire field, not of the dtype."""

_WHITE = b" \t\n\v\f\r"
_BASE64 = re.compile(rb"([A-Za-z0-9+/]*)([=.]*)")
_PADDING = {0: 0, 2: 2, 3: 1}  # of the last group of four: characters there, characters missing

Convert = Callable[[Value], Any]
Shape = tuple[int, ...]


def is_base64(value: Value) -> bool:
    """Whether it is ``{"b64": "..."}`` and nothing else."""
    return isinstance(value, Members) and len(value.pairs) == 1 and isinstance(value.find(b"b64"), bytes)


def is_named(value: Value) -> bool:
    """Whether it is an object of named values, which one with base64 data is not."""
    return isinstance(value, Members) and not is_base64(value)


def unbase64(text: bytes) -> bytes:
    """Bytes of base64 text by Abseil's rules: white space anywhere, padding optional, a dot for an equals sign.

    Raises:
        DecodeError: not the standard alphabet, or the wrong padding.
    """
    found = _BASE64.fullmatch(text.translate(None, _WHITE))
    if found is not None:
        letters, padding = found.groups()
        missing = _PADDING.get(len(letters) % 4)
        if missing is not None and len(padding) in {0, missing}:
            return binascii.a2b_base64(letters + b"=" * missing)
    raise DecodeError("Unable to base64 decode")


def exact_columns(doc: Members, signature: Signature, signature_name: str) -> tuple[dict[str, Array], bool]:
    """Arrays by input alias, and whether the request was in row form.

    Args:
        doc: the request's top level.
        signature: what the model says of its inputs.
        signature_name: as sent, for an error text; empty for none.

    Raises:
        DecodeError: as TF Serving says it.
    """
    rows, inputs = doc.find(b"instances"), doc.find(b"inputs")
    if not signature.declared:
        signature = _guess(rows, inputs)
    if not signature.inputs:
        raise DecodeError(f"Failed to get input map for signature: {signature_name or 'DEFAULT'}")
    if rows is MISSING and inputs is MISSING:
        raise DecodeError("Missing 'inputs' or 'instances' key")
    if rows is MISSING:
        return _column_form(inputs, signature.inputs), False
    if inputs is not MISSING:
        _refuse(doc, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ")
    if not isinstance(rows, list):
        _refuse(doc, "Expecting 'instances' to be an list/array")
    if not rows:
        _refuse(doc, "No values in 'instances' array")
    return _row_form(rows, signature.inputs), True


def _refuse(value: Value, text: str) -> NoReturn:
    raise DecodeError(f"JSON Value: {echo(value)} {text}")


# ---------------------------------------------------------------- the two forms


def _column_form(value: Value, specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if not is_named(value):
        if len(specs) > 1:
            raise DecodeError(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        return {name: _tensor(value, name, spec.dtype) for name, spec in specs.items()}
    arrays = {}
    for name, spec in specs.items():
        item = value.find(name.encode())
        if item is MISSING:
            raise DecodeError(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = _tensor(item, name, spec.dtype)
    return arrays


def _tensor(value: Value, name: str, dtype: str) -> Array:
    shape = _shape(value)
    values: list[Any] = []
    _fill(value, shape, _converter(dtype), values)
    return _array(values, shape, name, dtype)


class _Input:
    """One input's values as rows come in. The first row says what the shape is."""

    def __init__(self, dtype: str) -> None:
        self.convert = _converter(dtype)
        self.values: list[Any] = []
        self.size: int | None = None
        self.shape: Shape = ()

    def add(self, value: Value) -> None:
        shape, before = _shape(value), len(self.values)
        _fill(value, shape, self.convert, self.values)
        size = len(self.values) - before
        if self.size is None:
            self.size, self.shape = size, shape
        elif size != self.size:
            raise DecodeError(f"Expecting tensor size: {self.size} but got: {size}")
        elif shape != self.shape:
            raise DecodeError(f"Expecting shape {_listed(self.shape)} but got: {_listed(shape)}")


def _row_form(rows: list[Value], specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if not isinstance(rows[0], Members) and len(specs) > 1:
        raise DecodeError(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    named = is_named(rows[0])
    taken = {name: _Input(spec.dtype) for name, spec in specs.items()}
    plain = min(specs)  # of several the first one in TF Serving's map, which has no order
    for index, row in enumerate(rows):
        if named:
            if not is_named(row):
                raise DecodeError(f"Expecting object but got list at item {index} of input list")
            _add_named(row, index, taken)
            continue
        if is_named(row):
            raise DecodeError(f"Expecting value/list but got object at item {index} of input list")
        try:
            taken[plain].add(row)
        except DecodeError as error:
            raise _in_row(error, f"{index}") from None
    if not named and len(specs) > 1:  # rows of base64 objects pass the first check, and feed one input
        expected = ",".join(sorted(specs))
        raise DecodeError(
            f"input size does not match signature: 1!={len(specs)} len({{{plain}}}) != len({{{expected}}}). "
            f"Sent extra: {{}}. Missing but required: {{{','.join(sorted(set(specs) - {plain}))}}}."
        )
    return {
        name: _array(item.values, (len(rows), *item.shape), name, specs[name].dtype) for name, item in taken.items()
    }


def _add_named(row: Members, index: int, taken: Mapping[str, _Input]) -> None:
    seen = set()
    for key, value in row.pairs:
        name = key.partition(b"\0")[0].decode("utf-8", "surrogateescape")  # read as a C string
        seen.add(name)
        try:
            if name not in taken:
                raise DecodeError(f"JSON object: does not have named input: {name}")
            taken[name].add(value)  # a repeated name adds its values again: the surplus is cut off at the end
        except DecodeError as error:
            raise _in_row(error, f"{index} key: {name}") from None
    if seen != taken.keys():
        expected = ",".join(sorted(taken))
        raise DecodeError(
            f"Failed to process element: {index} of 'instances' list. JSON object: {echo(row)} "
            f"keys must be equal to: {expected}"
        )


def _in_row(error: DecodeError, where: str) -> DecodeError:
    """Row form wraps whatever was wrong with a value, and forgets its code."""
    text = f"Failed to process element: {where} of 'instances' list. Error: {error.code.name}: {error.message}"
    return DecodeError(text)


# ---------------------------------------------------------------- one tensor


def _listed(shape: Shape) -> str:
    return f"[{','.join(map(str, shape))}]"


def _shape(value: Value) -> Shape:
    """The shape that the first element of each level claims."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _fill(value: Value, shape: Shape, convert: Convert, values: list[Any]) -> None:
    """Append all leaves in order, checking that the nesting is what the shape says. Keeps its own stack."""
    rank = len(shape)
    walks: list[Iterator[Value]] = [iter((value,))]
    while walks:
        for item in walks[-1]:
            level = len(walks) - 1
            if not isinstance(item, list):
                if level != rank:
                    raise DecodeError(
                        f"JSON Value: {echo(item)} found at incorrect level: {level + 1} in the JSON DOM. "
                        f"Expected at level: {rank}"
                    )
                values.append(convert(item))
                continue
            if level >= rank:
                raise DecodeError(f"Encountered list at unexpected level: {level} expected < {rank}")
            if len(item) != shape[level]:
                raise DecodeError(
                    f"Encountered list at unexpected size: {len(item)} at level: {level} expected size: {shape[level]}"
                )
            walks.append(iter(item))
            break
        else:
            walks.pop()


def _converter(dtype: str) -> Convert:
    """How a leaf becomes a value of this dtype."""
    kind = _dtypes.short_name(dtype)

    def wrong_type(value: Value) -> DecodeError:
        return DecodeError(f"JSON Value: {echo(value)} Type: {type_name(value)} is not of expected type: {kind}")

    def integer(value: Value) -> int:
        if type(value) is int and low <= value <= high:
            return value
        raise wrong_type(value)

    def number(value: Value) -> float:
        if type(value) is float or type(value) is int:
            return float(value)
        raise wrong_type(value)

    def boolean(value: Value) -> bool:
        if isinstance(value, bool):
            return value
        raise wrong_type(value)

    def string(value: Value) -> bytes:
        if isinstance(value, bytes):
            return value
        if not isinstance(value, Members):
            raise wrong_type(value)
        if not is_base64(value):
            raise DecodeError(f"JSON Value: {echo(value)} not formatted correctly for base64 data")
        return unbase64(value.pairs[0][1])

    def unknown(value: Value) -> NoReturn:
        if isinstance(value, Members):
            raise wrong_type(value)
        raise DecodeError(f"Conversion of JSON Value: {echo(value)} to type: {kind}", code=Code.UNIMPLEMENTED)

    if dtype in _RANGES:
        low, high = _RANGES[dtype]
        return integer
    return {"float32": number, "float64": number, "bool": boolean, "string": string}.get(dtype, unknown)


def _array(values: list[Any], shape: Shape, name: str, dtype: str) -> Array:
    if len(shape) > MAX_RANK:
        raise DecodeError(f"input {name!r} is nested {len(shape)} lists deep; at most {MAX_RANK} can be taken")
    target = _dtypes.numpy_dtype(dtype)
    held = values[: math.prod(shape)]
    if dtype == "string":
        array = np.empty(len(held), target)
        array[:] = held
    else:
        array = without_denormals(narrowed(np.array(held, _WIDE.get(dtype, np.int64)), target))
    return array.reshape(shape)


def narrowed(array: Array, target: np.dtype[Any]) -> Array:
    """Cast as C does: integers wrap, floats beyond the range become infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(target)


def without_denormals(array: Array) -> Array:
    """The array with zeros, of their sign, where denormal numbers were; what is no float32 or float64 has none.

    >>> without_denormals(np.array([1e-40, -1e-40, 1e-30], np.float32))
    array([ 0.e+00, -0.e+00,  1.e-30], dtype=float32)
    """
    least = _dtypes.LEAST_NORMAL.get(array.dtype.name)
    if least is None:
        return array
    return np.where(abs(array) < least, np.copysign(array.dtype.type(0), array), array)


# ---------------------------------------------------------------- models that declare nothing


def _guess(rows: Value, inputs: Value) -> Signature:
    """Inputs by what was sent: integers are int64, numbers float32, else bool and string; one kind for each input."""
    if isinstance(rows, list) and rows:
        values = {PLAIN_INPUT: rows}
        if is_named(rows[0]):
            values = {name: [row.find(name.encode()) for row in rows if is_named(row)] for name in _names(rows[0])}
    elif is_named(inputs):
        values = {name: inputs.find(name.encode()) for name in _names(inputs)}
    else:
        values = {PLAIN_INPUT: inputs}
    return Signature({name: TensorSpec(_guess_dtype(name, value)) for name, value in values.items()})


def _names(members: Members) -> list[str]:
    try:
        return [key.decode() for key, _ in members.pairs]
    except UnicodeDecodeError as error:
        raise DecodeError(f"an input's name is not UTF-8: {error.object!r}") from None


def _guess_dtype(name: str, value: Value) -> str:
    kinds = {_kind(name, leaf) for leaf in _leaves(value)}
    if not kinds:
        return "float32"
    if kinds == {"int64", "float32"}:
        return "float32"
    if len(kinds) > 1:
        raise DecodeError(
            f"input {name!r} mixes {' and '.join(sorted(kinds))}; the model declares no inputs, so send one kind of "
            "value, or declare them with batchproxy.signature"
        )
    return kinds.pop()


def _kind(name: str, leaf: Value) -> str:
    match leaf:
        case bool():
            return "bool"
        case int():
            return "int64"
        case float():
            return "float32"
        case bytes():
            return "string"
    if is_base64(leaf):
        return "string"
    raise DecodeError(
        f"input {name!r}: JSON Value: {echo(leaf)} Type: {type_name(leaf)} is no number, boolean, string or base64 data"
    )


def _leaves(value: Value) -> Iterator[Value]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting.extend(item)
        elif item is not MISSING:
            yield item
