"""Answers as TF Serving's JSON: its number texts and its white space. Arrays in, bytes out; nothing is read here.

The layout is that of rapidjson's ``PrettyWriter`` as ``util/json_tensor.cc`` of tensorflow/serving drives it.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from batchproxy.codecs import _dtypes
from batchproxy.codecs.tfs_echo import indent, quoted
from batchproxy.core.columns import Array
from batchproxy.core.errors import BackendProtocolError, RequestError
from batchproxy.core.request import Share

BYTES_SUFFIX = "_bytes"
"""String outputs with such a name are written as base64 (``kBytesTensorNameSuffix``)."""

_FEW = 20  # up to so many numbers a loop is quicker than numpy: 0.7 us each against 14 us and 0.04 us each
_FLOAT32 = struct.Struct("<f")
_NORMAL_FLOAT32, _NORMAL_FLOAT64 = _dtypes.LEAST_NORMAL["float32"], _dtypes.LEAST_NORMAL["float64"]
_LEAST, _BEYOND = 1e-4, 1e6  # sizes that ``%g`` writes without an exponent
_LEAST_BINADE = -13  # of ``_LEAST``, as frexp counts them
_DECADES = [math.floor(math.log10(2.0 ** (binade - 1))) for binade in range(_LEAST_BINADE, 21)]  # where a binade begins
_SCALES = np.array([float(f"1e{5 - decade}") for decade in _DECADES])  # makes 6 digits of such a number whole
_NEXT_DECADE = np.array([float(f"1e{decade + 1}") for decade in _DECADES])
_FRAME = b'{\n    "predictions": [%b\n    ]\n}'
_NOWHERE = np.empty(0, np.intp)
_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_LONG = b"0" * 7  # more digits than ``%g`` writes
_INTEGERS = frozenset({"int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"})

Layout = Callable[[list[bytes], int], bytes]
"""Joins the items of one array that stands inside so many brackets."""


class Rows(NamedTuple):
    """The texts of an answer's rows, and what stands between two of them."""

    texts: list[bytes]
    between: bytes


def predictions(arrays: Mapping[str, Array]) -> bytes:
    """The answer to a request in row form: one element for each row.

    Raises:
        RequestError: an output without rows, outputs with unequal numbers of rows, or a type that JSON has none for.
    """
    rows = row_texts(arrays)
    return framed(rows, 0, len(rows.texts))


def row_texts(arrays: Mapping[str, Array]) -> Rows:
    """What ``framed`` makes answers of, for any number of callers.

    Raises:
        RequestError: as ``predictions``.
    """
    _refuse_nothing(arrays)
    rows = -1
    for name, array in arrays.items():
        if array.ndim == 0:
            raise RequestError(f"Tensor name: {name} has no shape information ")
        if rows not in {-1, array.shape[0]}:
            raise RequestError(f"Tensor name: {name} has inconsistent batch size: {array.shape[0]} expecting: {rows}")
        rows = array.shape[0]
    if not rows:
        return Rows([], b"")
    if len(arrays) == 1:
        (items,) = (_items(name, array, 2, 1, _on_one_line) for name, array in arrays.items())
        return Rows(items, b", ")
    members = []
    for name, array in arrays.items():
        start = indent(3) + quoted(name.encode()) + b": "
        members.append([start + item for item in _items(name, array, 3, 1, _on_one_line)])
    return Rows([indent(2) + b"{" + b",".join(row) + indent(2) + b"}" for row in zip(*members, strict=True)], b",")


def framed(rows: Rows, start: int, stop: int) -> bytes:
    """The answer that has the rows from ``start`` up to ``stop``."""
    if start == stop:
        return b'{\n    "predictions": []\n}'
    texts = rows.texts
    text = texts[start] if stop - start == 1 else rows.between.join(texts[start:stop])
    return _FRAME % text


def framed_each(rows: Rows, shares: Sequence[Share]) -> list[bytes]:
    """As ``framed``, for each of those who have a share of the rows."""
    texts, frame = rows.texts, _FRAME
    if len(texts) == len(shares):  # nobody has more than one row, then, and none is left over
        return [frame % text for text in texts]
    return [framed(rows, share.start, share.stop) for share in shares]


def outputs(arrays: Mapping[str, Array]) -> bytes:
    """The answer to a request in column form: each output as a whole.

    Raises:
        RequestError: no output at all, or one of a type that JSON has none for.
    """
    _refuse_nothing(arrays)
    if len(arrays) == 1:
        ((item,),) = (_items(name, array, 1, 0, _on_many_lines) for name, array in arrays.items())
        return b'{\n    "outputs": ' + item + b"\n}"
    members = []
    for name, array in arrays.items():
        (item,) = _items(name, array, 2, 0, _on_many_lines)
        members.append(indent(2) + quoted(name.encode()) + b": " + item)
    return b'{\n    "outputs": {' + b",".join(members) + b"\n    }\n}"


def _refuse_nothing(arrays: Mapping[str, Array]) -> None:
    if not arrays:
        raise RequestError("Cannot convert empty tensor map to JSON")


# ---------------------------------------------------------------- layout


def _on_one_line(items: list[bytes], _level: int) -> bytes:
    return b"[" + b", ".join(items) + b"]"


def _on_many_lines(items: list[bytes], level: int) -> bytes:
    inner = indent(level + 1)
    return b"[" + inner + (b"," + inner).join(items) + indent(level) + b"]"


def _items(name: str, array: Array, level: int, axis: int, layout: Layout) -> list[bytes]:
    """The texts of what lies below ``axis``, each standing inside ``level`` brackets."""
    if layout is _on_one_line and (rows := _number_rows(array)) is not None:
        return rows
    return _joined(_texts(name, array, level + array.ndim - axis), array.shape, axis, level, layout)


def _joined(items: list[bytes], whole: tuple[int, ...], axis: int, level: int, layout: Layout) -> list[bytes]:
    """The items of an array of this shape, put together up to ``axis``."""
    shape = whole[axis:]
    for depth in range(len(shape) - 1, -1, -1):
        size = shape[depth]
        if size:
            items = [layout(items[at : at + size], level + depth) for at in range(0, len(items), size)]
        else:
            items = [b"[]"] * math.prod(whole[: axis + depth])
    return items


def _number_rows(array: Array) -> list[bytes] | None:
    """The texts of rows of many numbers; None where these are others, or few. Mostly orjson prints them as a whole."""
    if array.ndim < 2 or array.size <= _FEW:
        return None
    row = _dtypes.by_numpy(array.dtype)
    if row.name in _INTEGERS:
        return _printed_rows(np.ascontiguousarray(array, row.numpy))
    if row.name not in {"float32", "float64"}:
        return None
    numbers = np.ascontiguousarray(array, row.numpy)
    flat = numbers.ravel()
    if _is_short(_dumped(flat[:_FEW])) and _is_short(text := _dumped(numbers)):
        return _cut(text, array.ndim)
    decimals, rest = _decimals(flat)
    if not rest.size:
        return _printed_rows(decimals.reshape(array.shape))
    return _joined(_spelled(flat, decimals, rest), array.shape, 1, 2, _on_one_line)


def _printed_rows(numbers: Array) -> list[bytes]:
    return _cut(_dumped(numbers), numbers.ndim)


def _dumped(numbers: Array) -> bytes:
    return orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY)


def _is_short(text: bytes) -> bool:
    """Whether each number in orjson's text of floats, the shortest that reads back, is TF Serving's text, too.

    It is if it has no exponent and up to 6 digits: no other decimal of 6 digits is read as that float, so ``%g`` makes
    the same of it. Zeros that only say where the point is are counted, too: such numbers may be short all the same.
    """
    digits = text.translate(_TO_ZERO, b".")
    return _LONG not in digits and b"e" not in digits and b"null" not in digits


def _cut(text: bytes, depth: int) -> list[bytes]:
    """The texts of the rows in orjson's text of an array with so many axes."""
    start, end = b"[" * (depth - 1), b"]" * (depth - 1)
    rows = text[1:-1].replace(b",", b", ").replace(end + b", " + start, end + b"\n" + start)
    return rows.split(b"\n")


def _texts(name: str, array: Array, level: int) -> list[bytes]:
    """The text of each element."""
    row = _dtypes.by_numpy(array.dtype)
    flat = array.ravel()
    if flat.size == 0:  # whatever the type
        return []
    if row.name in {"float32", "float64"}:
        return float_texts(flat.astype(row.numpy, copy=False))  # in our byte order
    if row.name in _INTEGERS:
        return orjson.dumps(flat.tolist())[1:-1].split(b",")
    if row.name == "bool":
        return [b"true" if value else b"false" for value in flat.tolist()]
    if row.name == "string":
        held = [_as_bytes(name, value) for value in flat.tolist()]
        if not name.endswith(BYTES_SUFFIX):
            return [quoted(value) for value in held]
        start, end = b"{" + indent(level + 1) + b'"b64": "', b'"' + indent(level) + b"}"
        return [start + base64.b64encode(value) + end for value in held]
    raise RequestError(f"Failed to write JSON value for tensor type: {row.short_name}")


def _as_bytes(name: str, value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    raise BackendProtocolError(f"output {name!r} holds a {type(value).__name__}; only str and bytes are strings")


# ---------------------------------------------------------------- numbers


def float_texts(flat: Array) -> list[bytes]:
    """TF Serving's text of each float32 or float64, in native byte order.

    That is ``%g`` where it reads back as the same number, else 9 (float32) or 17 digits, and ``.0`` after whole ones.
    Denormal numbers are zeros.

    >>> float_texts(np.array([0.1, 1 / 3, 9e6, 999999, float("inf")], np.float32))
    [b'0.1', b'0.333333343', b'9e+06', b'999999.0', b'Infinity']
    """
    single = flat.dtype == np.float32
    if flat.size <= _FEW:
        return [_float_text(value, single) for value in flat.tolist()]
    return _spelled(flat, *_decimals(flat))


def _spelled(flat: Array, decimals: Array, rest: Array) -> list[bytes]:
    """The text of each number, where ``_decimals`` found these."""
    texts = orjson.dumps(decimals, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    if rest.size:
        for index, text in zip(rest.tolist(), _any_texts(flat[rest]), strict=True):
            texts[index] = text
    return texts


def _decimals(flat: Array) -> tuple[Array, Array]:
    """The double nearest to each number's text, as orjson prints it; and where in the array it does not do."""
    values = flat.astype(np.float64)
    size = abs(values)
    printed = ((size >= _LEAST) & (size < _BEYOND)) | (size == 0)
    every = printed.all()
    if not every:
        values, size = np.where(printed, values, 0), np.where(printed, size, 0)
    single = flat.dtype == np.float32
    decimals, short = _printed(values, size, single)
    if single and every:
        return decimals, _NOWHERE
    if not single:
        printed &= short
    return decimals, np.flatnonzero(~printed)


def _printed(values: Array, size: Array, single: bool) -> tuple[Array, Array]:
    """The double nearest to each number's text, which no other text of up to 15 digits is, and where 6 digits do.

    The digits are made by arithmetic, which orjson prints 10 times as quickly as ``%`` makes them: of a double that
    was made of a decimal of up to 15 digits, that decimal is the shortest text. In this range the product of a
    float32 (24 bits) with the power of ten (at most ``5**12``, 28 bits, but for twos) is exact, and so the rounding
    to a whole number is that of ``%``; a quotient of a whole number and a power up to ``10**22`` is rounded once.
    For 6 digits it need not be exact: a float that a decimal of 6 digits is read as lies that near to it.

    Args:
        values: zero, or from ``_LEAST`` up to ``_BEYOND``.
        size: without their signs.
        single: whether they are float32, and 9 digits tell them all apart; else those that need more stay wrong.
    """
    binade = np.frexp(size)[1] - _LEAST_BINADE
    scale = _SCALES.take(binade)
    np.divide(scale, 10, out=scale, where=size >= _NEXT_DECADE.take(binade))
    decimals = np.rint(values * scale) / scale
    if not single:
        return decimals, decimals == values
    # Rounding twice, to double and then to float32, is rounding once here: of all decimals of six digits in float32's
    # range none lies so close to the middle of two float32 that its double is that middle (all of them were tried).
    short = decimals.astype(np.float32) == values
    scale *= 1000
    return np.where(short, decimals, np.rint(values * scale) / scale), short


def _any_texts(values: Array) -> list[bytes]:
    """As ``float_texts``, by printing and reading."""
    single = values.dtype == np.float32
    normal = np.isfinite(values) & (abs(values) >= _dtypes.LEAST_NORMAL[values.dtype.name])
    regular = np.where(normal, values, 0)
    text = (b"%g," * values.size % tuple(regular.tolist()))[:-1]
    texts = text.split(b",")
    read: Array = np.array(orjson.loads(b"[" + text + b"]"), np.float64)
    long = np.flatnonzero(read.astype(values.dtype) != regular)
    if long.size:
        held = tuple(regular[long].tolist())
        more = ((b"%.9g," if single else b"%.17g,") * len(held) % held)[:-1].split(b",")
        for index, digits in zip(long.tolist(), more, strict=True):
            texts[index] = digits
    for index in np.flatnonzero(regular == np.trunc(regular)).tolist():  # others have a point or an exponent
        texts[index] = _pointed(texts[index])
    for index in np.flatnonzero(~normal).tolist():
        texts[index] = _odd_text(float(values[index]))
    return texts


def _float_text(value: float, single: bool) -> bytes:
    if not (_NORMAL_FLOAT32 if single else _NORMAL_FLOAT64) <= abs(value) < math.inf:
        return _odd_text(value)
    text = b"%g" % value
    read = float(text)
    if single:
        (read,) = _FLOAT32.unpack(_FLOAT32.pack(read))
    if read != value:
        text = (b"%.9g" if single else b"%.17g") % value
    return _pointed(text)


def _pointed(text: bytes) -> bytes:
    return text if b"." in text or b"e" in text else text + b".0"


def _odd_text(value: float) -> bytes:
    if math.isnan(value):
        return b"NaN"
    if math.isinf(value):
        return b"Infinity" if value > 0 else b"-Infinity"
    return b"0.0" if math.copysign(1.0, value) > 0 else b"-0.0"


def document(value: Any) -> bytes:
    """Objects, lists, strings and booleans as protobuf prints them: one space a level, a newline at the end.

    >>> print(document({"a": {}, "b": ["c"]}).decode(), end="")
    {
     "a": {},
     "b": [
      "c"
     ]
    }
    """
    return _proto(value, 0) + b"\n"


def _proto(value: Any, level: int) -> bytes:
    line = b"\n" + b" " * level
    match value:
        case dict() if value:
            members = [
                line + b" " + _proto(name, level) + b": " + _proto(item, level + 1) for name, item in value.items()
            ]
            return b"{" + b",".join(members) + line + b"}"
        case list() if value:
            return b"[" + b",".join(line + b" " + _proto(item, level + 1) for item in value) + line + b"]"
        case str():  # it also escapes what would end a script in a page
            return quoted(value.encode()).replace(b"<", b"\\u003c").replace(b">", b"\\u003e")
    return orjson.dumps(value)
