r"""Long arrays of JSON numbers, read in one go: their shape by their brackets, their values by orjson. Refuses nothing.

``None`` means "not sure", as in ``tfs_fast``: the exact way decides then. What is taken is what the exact way takes,
with the same values to the last bit. That needs care in two places.

* Structure. Take everything but brackets and commas out of the text: what is left must be that of a regular array.
  Then all ``],[``, ``]],[[`` and so on, from the longest down, are replaced by a comma. Where no bracket is left
  between the outer ones, none stood anywhere else; and since orjson reads the rest, a number stood on either side of
  each comma.
* Values. orjson rounds decimals correctly, TF Serving nearly (``tfs_floats``). For float32 that hardly ever matters,
  and those numbers for which it might are read again, one by one. For float64 TF Serving's own steps are taken, all
  numbers at once; those of unusual form are read one by one.
"""

from __future__ import annotations

import math
import struct
from functools import cached_property

import numpy as np
import orjson

from batchproxy.codecs import _dtypes
from batchproxy.codecs.tensor_proto import MAX_RANK
from batchproxy.codecs.tfs_exact import INTEGER_RANGES, narrowed, without_denormals
from batchproxy.codecs.tfs_parse import parse
from batchproxy.core.columns import Array
from batchproxy.core.errors import DecodeError

_NUMERIC = b"0123456789.eE+- \n\r\t"
_PIECE = 1 << 15  # bytes read in one go: what that makes still fits the processor's cache
_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_LONG_RUN = 20
"""Digits in a row up to which TF Serving's double is within 2^-50 of the correct one: see ``doubtful``."""

_UP = 1 + 2.0**-50
_DOWN = 1 - 2.0**-50

_COMMA, _POINT, _MINUS, _LETTER, _ZERO = b",.-e0"
_LOWER = 32  # makes a capital letter a small one
_MOST_DIGITS = 17  # of a number that is read by ``_as_tensorflow_scales``, zeros in front aside
_HELD_DIGITS = 19  # fit 64 bits
_ALL_GATHERED = 10 * 2**53
_POWERS = np.array([float(f"1e{power}") for power in range(_HELD_DIGITS + 1)])


class Numbers:
    """The numbers of one array.

    Args:
        text: the numbers with commas between them, no list among them.
        shape: its product is how many they are.

    Raises:
        ValueError, struct.error: they are not all JSON numbers, or whole ones beyond 64 bits.
    """

    __slots__ = ("__dict__", "_shape", "_text", "_values")

    def __init__(self, text: bytes, shape: tuple[int, ...]) -> None:
        self._text = text
        self._shape = shape
        some_decimals = b"." in text or b"e" in text or b"E" in text
        self._values: Array = np.empty(math.prod(shape), np.float64 if some_decimals else np.int64)
        letter = self._values.dtype.char
        done = start = 0
        while start <= len(text):
            end = text.find(b",", start + _PIECE)
            if end < 0:
                end = len(text)
            values = orjson.loads(b"[%b]" % text[start:end])
            stop = done + len(values)
            self._values[done:stop] = np.frombuffer(struct.pack(f"{len(values)}{letter}", *values), letter)
            done, start = stop, end + 1
        if done < self._values.size:
            raise ValueError("no number at all")

    @classmethod
    def of(cls, text: bytes) -> Numbers | None:
        """Take an array apart; None: it is not regular, not of numbers alone, or oddly spaced.

        Args:
            text: from its first bracket to its last.

        >>> Numbers.of(b"[[1, 2.5], [3, 4e5]]").array("float32")
        array([[1.0e+00, 2.5e+00],
               [3.0e+00, 4.0e+05]], dtype=float32)
        """
        if b'"' in text:
            return None
        shape = _shape(text.translate(None, _NUMERIC))
        if shape is None:
            return None
        rank = len(shape)
        for comma in (b",", b", "):
            flat = text
            for level in range(rank - 1, 0, -1):
                flat = flat.replace(b"]" * level + comma + b"[" * level, b",")
            inner = flat[rank:-rank]
            if b"[" not in inner and b"]" not in inner and flat[:rank] == b"[" * rank and flat[-rank:] == b"]" * rank:
                try:
                    return cls(inner, shape)
                except (ValueError, struct.error):
                    return None
        return None

    def array(self, dtype: str | None) -> Array | None:
        """The array as a model takes it.

        Args:
            dtype: by its TensorFlow name; None where the model does not say: whole numbers are int64, else float32.
        """
        whole = self._values.dtype.kind == "i"
        if whole and dtype is not None and dtype in INTEGER_RANGES:
            array = self._integers(dtype)
        elif whole and dtype is None:
            array = self._values
        elif whole and dtype in {"float32", "float64"}:
            array = narrowed(self._values.astype(np.float64), _dtypes.numpy_dtype(dtype))
        elif not whole and dtype in {None, "float32", "float64"}:
            array = self._floats(dtype or "float32")
        else:
            return None
        return None if array is None else array.reshape(self._shape)

    def _integers(self, dtype: str) -> Array | None:
        low, high = INTEGER_RANGES[dtype]
        if int(self._values.min()) < low or int(self._values.max()) > high:
            return None
        return narrowed(self._values, _dtypes.numpy_dtype(dtype))

    def _floats(self, dtype: str) -> Array | None:
        array = self._values.copy()
        where = np.flatnonzero(self._scale(array) if dtype == "float64" else self._doubtful(array))
        if where.size and not self._read_again(array, where):
            return None
        floats = narrowed(array, _dtypes.numpy_dtype(dtype))
        return without_denormals(floats) if where.size else floats  # which are read again, all of them

    # -- what TF Serving may round otherwise -------------------------------------------------------

    @cached_property
    def _ends(self) -> Array:
        """Where each number ends: the offset of the comma behind it."""
        return np.append(np.flatnonzero(np.frombuffer(self._text, np.uint8) == _COMMA), len(self._text))

    @cached_property
    def _sizes(self) -> Array:
        """How many bytes each number has, white space included."""
        return np.diff(self._ends, prepend=-1) - 1

    def _doubtful(self, array: Array) -> Array:
        """Of which numbers the float32 is not sure.

        The double that TF Serving reads is within six roundings of the correctly rounded one, less than ``2**-50`` of
        it, as long as no run of digits is longer than 20: each digit over that costs two roundings. Where that does
        not move the float32, both agree. An infinite one may be an error there, and so is zero times ``10**309``; a
        denormal one is zero there.
        """
        with np.errstate(over="ignore"):
            low, high = (array * _DOWN).astype(np.float32), (array * _UP).astype(np.float32)
        doubt: Array = (low != high) | ~np.isfinite(high)
        if b"e" in self._text or b"E" in self._text:
            doubt |= abs(array) < _dtypes.LEAST_NORMAL["float32"]
        if b"0" * (_LONG_RUN + 1) in self._text.translate(_TO_ZERO):
            doubt |= self._sizes > _LONG_RUN
        return doubt

    def _read_again(self, array: Array, where: Array) -> bool:
        """Put in what the exact way reads; False where it refuses a number."""
        text = self._text
        ends, sizes = self._ends[where].tolist(), self._sizes[where].tolist()
        try:
            array[where] = [float(parse(text[end - size : end])) for end, size in zip(ends, sizes, strict=True)]
        except DecodeError:
            return False
        return True

    def _scale(self, array: Array) -> Array:
        """Put in the doubles that TF Serving reads (``tfs_floats``), and say which numbers it was not done for.

        That is: of a number with up to 17 digits and no exponent, all digits as a whole number, divided by a power of
        ten. The whole number is a double already where it is below ``10 * 2**53``, else its last digit is added to
        ten times the double of those before.
        """
        text = self._text.translate(None, b"- \n\r\t")  # the sign is that of ``array``
        held = np.frombuffer(text, np.uint8)
        ends = np.append(np.flatnonzero(held == _COMMA), len(text))
        points = np.flatnonzero(held == _POINT)
        before = np.searchsorted(points, ends)
        pointed = np.diff(before, prepend=0)  # no number has two
        places = np.where(pointed, ends - 1 - points[before - 1], 0) if points.size else pointed
        digits = np.diff(ends, prepend=-1) - 1 - pointed
        odd: Array = digits > _HELD_DIGITS
        letters = np.flatnonzero((held | _LOWER) == _LETTER)
        odd[np.searchsorted(ends, letters)] = True
        number = np.zeros(len(ends), np.uint64)
        for place in range(min(int(digits.max()), _HELD_DIGITS)):
            at = np.maximum(ends - 1 - place - (pointed & (place >= places)), 0)
            number += np.where(place < digits, held[at] - np.uint8(_ZERO), 0).astype(np.uint64) * np.uint64(10**place)
        odd |= number >= 10**_MOST_DIGITS
        whole = np.where(odd, 0, number).astype(np.int64)
        value = np.where(
            whole < _ALL_GATHERED, whole.astype(np.float64), (whole // 10).astype(np.float64) * 10 + whole % 10
        )
        scaled = np.copysign(value / _POWERS[np.minimum(places, _HELD_DIGITS)], array)
        array[:] = np.where(odd, array, scaled)
        return odd


def _shape(bones: bytes) -> tuple[int, ...] | None:
    """The shape of an array of which only brackets and commas are left; an empty one passes for one of one number.

    >>> _shape(b"[[,,],[,,]]"), _shape(b"[[,],[,,]]")
    ((2, 3), None)
    """
    rank = len(bones) - len(bones.lstrip(b"["))
    if not 0 < rank <= MAX_RANK:
        return None
    shape: list[int] = []
    item = b""
    for level in range(1, rank + 1):
        end = bones.find(b"]" * level) + level
        whole = bones[rank - level : end]
        size, rest = divmod(len(whole) - 1, len(item) + 1)
        if rest or size < 1 or whole != b"[" + (item + b",") * (size - 1) + item + b"]":
            return None
        shape.append(size)
        item = whole
    return tuple(reversed(shape)) if item == bones else None
