"""``:predict`` between JSON and arrays: requests and answers in row and column form (facts 1.5-1.9). No HTTP."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.tfserving.faults import Fault, invalid
from tests.tfserving.inference import DEFAULT_SIGNATURE, Inference
from tests.tfserving.json_read import MISSING, Pairs, Value
from tests.tfserving.json_write import Writer, decimal, echo, quoted
from tests.tfserving.tensors import KINDS, Array, Kind

INT32 = (-(1 << 31), (1 << 31) - 1)
RANGES = {
    "int32": INT32,
    "int16": INT32,
    "int8": INT32,
    "uint8": INT32,
    "uint32": (0, (1 << 32) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint64": (0, (1 << 64) - 1),
}
"""What an integer must be within. The narrow types are checked as int32, and wrap (facts 1.7)."""


def predict(inference: Inference, spec: Any, document: Pairs, *, timeout_ms: int, content: bool) -> bytes:
    """The body of the answer.

    Args:
        inference: runs it.
        spec: the ModelSpec of the path; its signature name is filled in.
        document: the request.
        timeout_ms: of the run.
        content: the server writes tensors as ``tensor_content``, which its own JSON writer cannot read.

    Raises:
        Fault: with REST's texts.
    """
    fill_signature_name(spec, document)
    servable = inference.repository.find(spec)
    name = spec.signature_name or DEFAULT_SIGNATURE
    if name not in servable.signatures:
        raise invalid(f'Serving signature name: "{name}" not found in signature def')
    infos = servable.signatures[name].inputs
    if not infos:
        raise invalid(f"Failed to get input map for signature: {spec.signature_name or 'DEFAULT'}")
    kinds = {alias: KINDS[infos[alias].dtype] for alias in sorted(infos)}
    instances, columns = document.find("instances"), document.find("inputs")
    if instances is not MISSING and columns is not MISSING:
        raise invalid(
            f"JSON Value: {echo(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' keys "
            "to exist "
        )
    if instances is not MISSING:
        arrays = _from_rows(document, instances, kinds)
    elif columns is not MISSING:
        arrays = _from_columns(columns, kinds)
    else:
        raise invalid("Missing 'inputs' or 'instances' key")
    predicted = inference.predict(spec, arrays, timeout_ms=timeout_ms, decode=lambda array: array)
    outputs = {alias: _Output(alias, array, content=content) for alias, array in predicted.outputs.items()}
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    return _rows(outputs) if instances is not MISSING else _columns(outputs)


def fill_signature_name(spec: Any, document: Value) -> None:
    """Checks what comes before the look-up of the model.

    Raises:
        Fault: no object, or a name that is no string.
    """
    if not isinstance(document, Pairs):
        raise invalid(f"JSON Value: {echo(document)} Is not object")
    name = document.find("signature_name")
    if name is MISSING:
        return
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {echo(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    spec.signature_name = as_text(name)


# ---------------------------------------------------------------- requests


def _from_rows(document: Pairs, instances: Value, kinds: Mapping[str, Kind]) -> dict[str, Array]:
    if not isinstance(instances, list):
        raise invalid(f"JSON Value: {echo(document)} Expecting 'instances' to be an list/array")
    if not instances:
        raise invalid(f"JSON Value: {echo(document)} No values in 'instances' array")
    if len(kinds) > 1 and not isinstance(instances[0], Pairs):
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    named = _names_inputs(instances[0])
    tensors: dict[str, _Rows] = {}
    for index, element in enumerate(instances):
        place = f"element: {index}"
        if named and not _names_inputs(element):
            raise invalid(f"Expecting object but got list at item {index} of input list")
        if not named and _names_inputs(element):
            raise invalid(f"Expecting value/list but got object at item {index} of input list")
        members = [(c_string(key), value) for key, value in element.pairs] if named else [(min(kinds), element)]
        for alias, value in members:
            where = f"{place} key: {alias}" if named else place
            try:
                if alias not in kinds:
                    raise invalid(f"JSON object: does not have named input: {alias}")
                tensors.setdefault(alias, _Rows(kinds[alias])).add(value)
            except Fault as fault:
                raise invalid(f"Failed to process {where} of 'instances' list. Error: {fault}") from None
        if named and {alias for alias, _ in members} != set(kinds):
            raise invalid(
                f"Failed to process {place} of 'instances' list. "
                f"JSON object: {echo(element)} keys must be equal to: {','.join(sorted(kinds))}"
            )
    return {alias: rows.array(len(instances)) for alias, rows in tensors.items()}


class _Rows:
    """One input over all rows: each must have the size and the shape of the first."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._flat: list[Any] = []
        self._shape: list[int] | None = None
        self._size = 0

    def add(self, value: Value) -> None:
        shape, before = _shape_of(value), len(self._flat)
        _flatten(value, 0, shape, self._kind, self._flat)
        size = len(self._flat) - before
        if self._shape is None:
            self._shape, self._size = shape, size
        if size != self._size:
            raise invalid(f"Expecting tensor size: {self._size} but got: {size}")
        if shape != self._shape:
            raise invalid(f"Expecting shape {_bracketed(self._shape)} but got: {_bracketed(shape)}")

    def array(self, rows: int) -> Array:
        # A duplicate key adds its values, too; those beyond the shape are not looked at.
        return _array(self._flat[: rows * self._size], [rows, *(self._shape or [])], self._kind)


def _from_columns(value: Value, kinds: Mapping[str, Kind]) -> dict[str, Array]:
    if not _names_inputs(value):
        if len(kinds) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        return {alias: _column(value, kind) for alias, kind in kinds.items()}
    for alias in kinds:
        if value.find(alias) is MISSING:
            raise invalid(f"Missing named input: {alias} in 'inputs' object.")
    return {alias: _column(value.find(alias), kind) for alias, kind in kinds.items()}


def _column(value: Value, kind: Kind) -> Array:
    flat: list[Any] = []
    shape = _shape_of(value)
    _flatten(value, 0, shape, kind, flat)
    return _array(flat, shape, kind)


def _names_inputs(value: Value) -> bool:
    return isinstance(value, Pairs) and not is_base64(value)


def is_base64(value: Value) -> bool:
    """Whether an object stands for bytes: one member, ``b64``, a string."""
    return (
        isinstance(value, Pairs)
        and len(value.pairs) == 1
        and value.pairs[0][0] == "b64"
        and isinstance(value.pairs[0][1], str)
    )


def c_string(name: str) -> str:
    """A name as C reads it: up to a NUL."""
    return name.partition("\0")[0]


def as_text(name: str) -> str:
    """A name that a protobuf message of Python's can hold; C++ takes any bytes."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def _shape_of(value: Value) -> list[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def _flatten(value: Value, level: int, shape: list[int], kind: Kind, flat: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {echo(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        flat.append(_element(value, kind))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for element in value:
        _flatten(element, level + 1, shape, kind, flat)


def _element(value: Value, kind: Kind) -> Any:
    right = False
    if kind.name in {"float", "double"}:
        right = isinstance(value, int | float) and not isinstance(value, bool)
    elif kind.name in RANGES:
        low, high = RANGES[kind.name]
        right = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    elif kind.name == "bool":
        right = isinstance(value, bool)
    elif kind.name == "string":
        if isinstance(value, Pairs):
            if not is_base64(value):
                raise invalid(f"JSON Value: {echo(value)} not formatted correctly for base64 data")
            return from_base64(value)
        if isinstance(value, str):
            return value.encode(errors="surrogateescape")
    elif not isinstance(value, Pairs):
        raise Fault("UNIMPLEMENTED", f"Conversion of JSON Value: {echo(value)} to type: {kind.name}")
    if not right:
        raise invalid(f"JSON Value: {echo(value)} Type: {type_name(value)} is not of expected type: {kind.name}")
    return value


def type_name(value: Value) -> str:
    """rapidjson's name of a value's type."""
    if isinstance(value, bool):
        return "True" if value else "False"
    names = {type(None): "Null", int: "Number", float: "Number", str: "String", list: "Array", Pairs: "Object"}
    return names[type(value)]


def from_base64(value: Pairs) -> bytes:
    """The bytes of a base64 object: standard alphabet, padding optional, dots stand for equals signs, spaces ignored.

    Raises:
        Fault: it is not base64.
    """
    text = "".join(value.pairs[0][1].split()).replace(".", "=")
    digits = text.rstrip("=")
    padding = -len(digits) % 4
    if padding == 3 or len(text) - len(digits) not in {0, padding}:
        raise invalid("Unable to base64 decode")
    try:
        return base64.b64decode(digits + "=" * padding, validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def _bracketed(shape: list[int]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _array(flat: list[Any], shape: list[int], kind: Kind) -> Array:
    if kind.name == "string":
        return np.fromiter(flat, dtype=object, count=len(flat)).reshape(shape)
    if kind.name in {"float", "double"}:
        with np.errstate(over="ignore"):
            return _flushed(np.array(flat, np.float64).astype(kind.numpy)).reshape(shape)
    wide = np.uint64 if kind.name == "uint64" else np.bool_ if kind.name == "bool" else np.int64
    return np.array(flat, wide).astype(kind.numpy).reshape(shape)


def _flushed(array: Array) -> Array:
    """The server's threads take denormal numbers for zero (facts 8)."""
    return np.where(np.abs(array) < np.finfo(array.dtype).tiny, np.copysign(array.dtype.type(0), array), array)


# ---------------------------------------------------------------- answers


class _Output:
    """One output, its elements as tokens."""

    def __init__(self, alias: str, array: Array, *, content: bool) -> None:
        self._alias = alias
        self._kind = next(kind for kind in KINDS.values() if kind.numpy == array.dtype)
        self.shape = array.shape
        if content:
            if self._kind.name == "string":
                os.abort()  # as the real one does, reading strings that are not in the field
            array = np.zeros_like(array)
        self._array = _flushed(array) if self._kind.name in {"float", "double"} else array

    def write(self, writer: Writer, *at: int) -> None:
        """The element, or the nested lists, at an index."""
        value = self._array[at]
        if len(at) < len(self.shape):
            writer.begin("[")
            for index in range(self.shape[len(at)]):
                self.write(writer, *at, index)
            writer.end()
        elif self._kind.name in {"float", "double"}:
            writer.token(decimal(value, self._kind.name))
        elif self._kind.name == "bool":
            writer.token("true" if value else "false")
        elif self._kind.name in RANGES:
            writer.token(str(int(value)))
        elif self._kind.name == "string" and self._alias.endswith("_bytes"):
            writer.begin("{")
            writer.token('"b64"')
            writer.token(f'"{base64.b64encode(value).decode()}"')
            writer.end()
        elif self._kind.name == "string":
            writer.token(quoted(value.decode(errors="surrogateescape")))
        else:
            raise invalid(f"Failed to write JSON value for tensor type: {self._kind.name}")


def _rows(outputs: Mapping[str, _Output]) -> bytes:
    rows: int | None = None
    for alias, output in outputs.items():
        if not output.shape:
            raise invalid(f"Tensor name: {alias} has no shape information ")
        if rows is not None and output.shape[0] != rows:
            raise invalid(f"Tensor name: {alias} has inconsistent batch size: {output.shape[0]} expecting: {rows}")
        rows = output.shape[0]
    writer = Writer()
    writer.begin("{")
    writer.token('"predictions"')
    writer.begin("[")
    for row in range(rows or 0):
        if len(outputs) == 1:
            next(iter(outputs.values())).write(_on_one_line(writer), row)
            continue
        writer.begin("{")
        for alias, output in outputs.items():
            writer.token(quoted(alias))
            output.write(_on_one_line(writer), row)
            writer.one_line = False
        writer.end()
    writer.one_line = False
    writer.end()
    writer.end()
    return writer.text().encode(errors="surrogateescape")


def _on_one_line(writer: Writer) -> Writer:
    writer.one_line = True
    return writer


def _columns(outputs: Mapping[str, _Output]) -> bytes:
    writer = Writer()
    writer.begin("{")
    writer.token('"outputs"')
    if len(outputs) == 1:
        next(iter(outputs.values())).write(writer)
    else:
        writer.begin("{")
        for alias, output in outputs.items():
            writer.token(quoted(alias))
            output.write(writer)
        writer.end()
    writer.end()
    return writer.text().encode(errors="surrogateescape")
