r"""Request bodies to columns in one go with orjson and numpy, for the bodies of which we can be sure. Refuses nothing.

``None`` means "not sure": the exact way (``tfs_parse``, ``tfs_exact``) then decides and words the error. So a body that
succeeds here must give the very arrays it would give there. What could tell the two apart, and how it is excluded:

* a repeated key (orjson keeps the last, TF Serving the first): every key is followed by a colon, so when there are as
  many colons as keys in the parsed document, no key was lost (``Quick.of``);
* a NUL in a key (TF Serving cuts the key there): any ``\u0000`` escape is left to the exact way;
* decimals (orjson rounds correctly, TF Serving nearly): see ``_float32`` and ``_exact_decimals``;
* what numpy would convert and TF Serving refuse (booleans among numbers, numbers in strings): types are looked at
  whenever the body has a string or a boolean in it.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
import orjson

from batchproxy.codecs import _dtypes
from batchproxy.codecs.tensor_proto import MAX_RANK
from batchproxy.codecs.tfs_exact import INTEGER_RANGES, PLAIN_INPUT, narrowed
from batchproxy.codecs.tfs_numbers import Numbers
from batchproxy.core.columns import Array
from batchproxy.core.shapes import Signature

_KEY_END = re.compile(rb'"[ \n\r\t]*:')
_DEPTH = 70  # deeper than any array; it also bounds our own recursion
_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_POINT_TO_ZERO = bytes.maketrans(b"123456789.", b"0000000000")
LONG = 4096  # bytes from which on looking for a lone array of numbers costs less than it spares
_SMALL = 512  # bytes up to which looking at decimals costs less than looking at numbers
_LONG_RUN = b"0" * 21
_LONG_DECIMAL = b"0" * 16
_FAR_EXPONENT = re.compile(rb"[0-9][eE](?![+-]?0?[1-7](?![0-9]))")

_INT64_END = 2.0**63  # numpy makes doubles of whole numbers from there on

_UP = 1 + 2.0**-50
_DOWN = 1 - 2.0**-50


class Quick:
    """A body that orjson could read, with no key sent twice.

    Args:
        body: the request.
        doc: its top level.
        keys: how many keys there are at all levels.
        numbers: what the only list of the request stands for; None where lists stand for themselves.
    """

    __slots__ = ("_body", "_numbers", "_plain", "doc")

    def __init__(self, body: bytes, doc: dict[str, Any], keys: int, numbers: Numbers | None = None) -> None:
        self._body = body
        self._numbers = numbers
        self.doc = doc
        signature_name = "signature_name" in doc
        only_numbers = body.count(b'"') == 2 * (keys + signature_name)
        self._plain = only_numbers and b"true" not in body and b"false" not in body

    @classmethod
    def of(cls, body: bytes) -> Quick | None:
        """Read a body; None where the exact way must."""
        numbers = None
        if len(body) >= LONG:
            start, stop = body.find(b"["), body.rfind(b"]") + 1
            before = body[:start]
            if b"\\" not in before and before.count(b'"') % 2 == 0:  # not in a string
                numbers = Numbers.of(body[start:stop])
            if numbers is not None:  # no other list is left then but an empty one in its place
                body = before + b"[]" + body[stop:]
        try:
            doc = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        if type(doc) is not dict or b"\\u0000" in body:
            return None
        keys = len(doc)
        colons = body.count(b":")
        if colons != keys:
            keys = _keys(doc, _DEPTH)
            if colons != keys and (b"\\" in body or len(_KEY_END.findall(body)) != keys):
                return None
        return cls(body, doc, keys, numbers)

    def columns(self, signature: Signature) -> tuple[dict[str, Array], bool] | None:
        """Arrays by input alias and whether it was row form; None where the exact way must decide."""
        specs = signature.inputs if signature.declared else None
        doc = self.doc
        row_form = "instances" in doc
        if row_form == ("inputs" in doc):
            return None
        if row_form:
            rows = doc["instances"]
            values = _row_values(rows, specs) if self._numbers is None else _plain_value(rows, specs)
        else:
            values = _column_values(doc["inputs"], specs)
        if values is None:
            return None
        arrays = {}
        for name, value in values.items():
            array = self._array(value, None if specs is None else specs[name].dtype)
            if array is None:
                return None
            arrays[name] = array
        return arrays, row_form

    def _array(self, value: Any, dtype: str | None) -> Array | None:
        if self._numbers is not None and type(value) is list:
            return self._numbers.array(dtype)
        leaf = value
        while type(leaf) is list and leaf:
            leaf = leaf[0]
        if dtype == "string" or (dtype is None and isinstance(leaf, (str, dict))):
            return _strings(value)
        if not self._plain and not _of_one_kind(value):
            return None  # before numpy sees it: it would make long texts of numbers beside a long text
        try:
            array = np.array(value)
        except ValueError:  # ragged, or nested too deep
            return None
        if array.size == 0 and array.dtype.kind == "f":  # what numpy makes of empty lists
            return array.astype(_dtypes.numpy_dtype(dtype or "float32"))
        match array.dtype.kind:
            case "b" if dtype in {None, "bool"}:
                return array
            case "i" if dtype is None:
                return array
            case "i" | "u" if dtype is not None and dtype in INTEGER_RANGES:
                return _integers(array, dtype)
            case "i" | "u" if dtype in {"float32", "float64"}:
                return narrowed(array.astype(np.float64), _dtypes.numpy_dtype(dtype))
            case "f" if dtype == "float32" or (dtype is None and bool((abs(array) < _INT64_END).all())):
                return self._float32(array)
            case "f" if dtype == "float64" and self._exact_decimals():
                return array
        return None

    def _float32(self, array: Array) -> Array | None:
        """Cast, if the double that TF Serving reads cannot lie on the other side of a rounding boundary.

        It is within six roundings of the correctly rounded one, less than ``2**-50`` of it, as long as no run of
        digits is longer than 20: each digit over that costs two roundings. Where that does not move the float32,
        both agree. An infinite one may be an error there, and so is zero times ``10**309``; a denormal one is zero
        there. A small body may be spared that.
        """
        if len(self._body) <= _SMALL and self._exact_decimals():
            return array.astype(np.float32)
        if _LONG_RUN in self._body.translate(_TO_ZERO):
            return None
        if (b"e" in self._body or b"E" in self._body) and not (abs(array) >= _dtypes.LEAST_NORMAL["float32"]).all():
            return None
        with np.errstate(over="ignore"):
            low, high = (array * _DOWN).astype(np.float32), (array * _UP).astype(np.float32)
        if (low == high).all() and np.isfinite(high).all():
            return low
        return None

    def _exact_decimals(self) -> bool:
        """Whether no decimal has over 15 digits or an exponent beyond 7: TF Serving rounds those correctly, too."""
        return _LONG_DECIMAL not in self._body.translate(_POINT_TO_ZERO) and _FAR_EXPONENT.search(self._body) is None


def _keys(value: Any, depth: int) -> int:
    """Keys at all levels. Lists that start with a number are skipped: an undercount only means the exact way."""
    if not depth:
        return 0
    if type(value) is dict:
        return len(value) + sum(_keys(item, depth - 1) for item in value.values() if type(item) in {dict, list})
    if value and not isinstance(value[0], (int, float)):
        return sum(_keys(item, depth - 1) for item in value if type(item) in {dict, list})
    return 0


def _row_values(rows: Any, specs: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if type(rows) is not list or not rows:
        return None
    first = rows[0]
    if type(first) is not dict or _is_base64(first):
        return _plain_value(rows, specs)
    names = list(first if specs is None else specs)
    if not names or "b64" in names:  # a later row could be base64 data
        return None
    try:
        if any(len(row) != len(names) for row in rows):
            return None
        return {name: [row[name] for row in rows] for name in names}
    except (KeyError, TypeError):
        return None


def _column_values(value: Any, specs: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if type(value) is not dict or _is_base64(value):
        return _plain_value(value, specs)
    names = list(value if specs is None else specs)
    if not names or any(name not in value for name in names):
        return None
    return {name: value[name] for name in names}


def _plain_value(value: Any, specs: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if specs is None:
        return {PLAIN_INPUT: value}
    return dict.fromkeys(specs, value) if len(specs) == 1 else None


def _is_base64(value: dict[str, Any]) -> bool:
    return len(value) == 1 and type(value.get("b64")) is str


def _flat(value: Any) -> tuple[tuple[int, ...], list[Any]] | None:
    """The shape and the leaves of evenly nested lists; None where they are not even."""
    shape: list[int] = []
    flat = [value]
    while flat and type(flat[0]) is list:
        size = len(flat[0])
        if len(shape) == MAX_RANK or any(type(item) is not list or len(item) != size for item in flat):
            return None
        shape.append(size)
        flat = list(chain.from_iterable(flat))
    return tuple(shape), flat


def _of_one_kind(value: Any) -> bool:
    """Whether all leaves are numbers, or all are booleans."""
    even = _flat(value)
    if even is None:
        return False
    kinds = set(map(type, even[1]))
    return kinds <= {int, float} or kinds == {bool}


def _strings(value: Any) -> Array | None:
    even = _flat(value)
    if even is None:
        return None
    shape, leaves = even
    array = np.empty(len(leaves), np.object_)
    for index, leaf in enumerate(leaves):
        if type(leaf) is str:
            array[index] = leaf.encode()
        elif type(leaf) is dict and _is_base64(leaf):
            text = leaf["b64"]
            if len(text) % 4 or text.endswith("==="):  # Abseil's rules decide; Python takes "YWJj=", too
                return None
            try:
                array[index] = binascii.a2b_base64(text, strict_mode=True)
            except ValueError:
                return None
        else:
            return None
    return array.reshape(shape)


def _integers(array: Array, dtype: str) -> Array | None:
    low, high = INTEGER_RANGES[dtype]
    if int(array.min()) < low or int(array.max()) > high:
        return None
    return narrowed(array, _dtypes.numpy_dtype(dtype))
