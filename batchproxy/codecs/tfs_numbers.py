r"""Long arrays of JSON numbers, read in one go: shape by the brackets, values by simdjson. Refuses nothing.

``None`` means "not sure", as in ``tfs_fast``: the exact way decides then. What is taken is what the exact way takes,
with the same values to the last bit. That needs care in two places.

* Structure. simdjson tells all numbers in a row, whatever lists they stand in (``[[1],[2,3,4]]`` is four numbers). So
  brackets and commas are taken out of the text: they must be those of a regular array. Since simdjson saw that the
  text is JSON, and nothing but numbers, one value stands in each place; and there are as many numbers as places.
* Values. simdjson rounds decimals correctly, TF Serving nearly (``tfs_floats``). For float32 that hardly ever matters,
  and those numbers for which it might are read again, one by one. For float64 TF Serving's own steps are taken, all
  numbers at once; those of unusual form are read one by one.

A 224 x 224 x 3 image takes a quarter to a third of the time of ``orjson.loads`` and ``np.array`` (measured).
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Literal

import numpy as np
import simdjson

from batchproxy.codecs import _dtypes
from batchproxy.codecs.tensor_proto import MAX_RANK
from batchproxy.codecs.tfs_exact import INTEGER_RANGES, narrowed, without_denormals
from batchproxy.codecs.tfs_parse import parse
from batchproxy.core.columns import Array
from batchproxy.core.errors import DecodeError

_PIECE = 1 << 16
"""Bytes of a text that numpy looks at in one go: they and what is made of them stay in the processor's cache, where all
of a text would take fresh memory at each step (0.7 ms against 3 and more for 3 MB, measured)."""

_KEPT_TEXT = 4 << 20
"""Bytes of a text up to which its parser is used again: it holds some 14 bytes for each of them. Fresh memory would
take longer to be handed out than the numbers to be read (3 ms against 1.7 for 1 MB, measured)."""

_LONG_RUN = 20
"""Digits in a row up to which TF Serving's double is within 2^-50 of the correct one: see ``doubtful``."""

_RUN_STEPS = (1, 2, 4, 8, 5)
"""By these steps places that begin 1, 2, 4, 8, 16 and 21 digits in a row are found, each from those before."""

_UP = 1 + 2.0**-50
_DOWN = 1 - 2.0**-50

_COMMA, _POINT, _MINUS, _LETTER, _ZERO = b",.-e0"
_BRACKET, _EITHER = 0b1011111, 0b110  # a bracket of lists with the bits set that tell them apart; and these
_LOWER = 32  # makes a capital letter a small one
_MOST_DIGITS = 17  # of a number that is read by ``_as_tensorflow_scales``, zeros in front aside
_HELD_DIGITS = 19  # fit 64 bits
_ALL_GATHERED = 10 * 2**53
_POWERS = np.array([float(f"1e{power}") for power in range(_HELD_DIGITS + 1)])


_parsers: list[simdjson.Parser] = []  # that nobody uses; two threads read numbers, so there are two at most


class Numbers:
    """The numbers of one array.

    Args:
        text: the array, from its first bracket to its last; the commas and brackets in it are those of ``shape``.
        shape: its product is how many numbers there must be; empty for a list of any length but 0.

    Raises:
        ValueError: that is not so, or it is no JSON, or a whole number is beyond 64 bits.
    """

    __slots__ = ("__dict__", "_raw", "_shape", "_values")

    def __init__(self, text: bytes, shape: tuple[int, ...]) -> None:
        self._raw = text
        some_decimals = b"." in text or b"e" in text or b"E" in text
        self._values: Array = _values(text, "d" if some_decimals else "i")
        self._shape = shape or self._values.shape
        if not self._values.size or self._values.size != math.prod(self._shape):
            raise ValueError("a list of one is empty")

    @classmethod
    def of(cls, text: bytes) -> Numbers | None:
        """Take an array apart; None: it is not regular, or not of numbers alone.

        Args:
            text: from its first bracket to its last.

        >>> Numbers.of(b"[[1, 2.5], [3, 4e5]]").array("float32")
        array([[1.0e+00, 2.5e+00],
               [3.0e+00, 4.0e+05]], dtype=float32)
        """
        if b'"' in text:
            return None
        flat = text.find(b"[", 1) < 0  # no other list in it: as many numbers as there are
        shape = () if flat else _shape(_bones(text))
        if shape is None:
            return None
        try:
            return cls(text, shape)
        except ValueError:
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

    @property
    def exact(self) -> Array:
        """The numbers as JSON says them: int64 where all are whole, else doubles, correctly rounded."""
        return self._values.reshape(self._shape)

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
        """Where each number ends: the offset of the comma behind it, or of the end; brackets may stand before that."""
        return np.append(_places(self._raw, _COMMA), len(self._raw))

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
        if b"e" in self._raw or b"E" in self._raw:
            doubt |= abs(array) < _dtypes.LEAST_NORMAL["float32"]
        runs = _long_runs(self._raw)
        if runs.size:
            doubt[np.searchsorted(self._ends, runs)] = True
        return doubt

    def _read_again(self, array: Array, where: Array) -> bool:
        """Put in what the exact way reads; False where it refuses a number."""
        starts = np.append(-1, self._ends)[where] + 1
        texts = [self._raw[start:end] for start, end in zip(starts.tolist(), self._ends[where].tolist(), strict=True)]
        try:
            array[where] = [float(parse(text.translate(None, b"[]"))) for text in texts]
        except DecodeError:
            return False
        return True

    def _scale(self, array: Array) -> Array:
        """Put in the doubles that TF Serving reads (``tfs_floats``), and say which numbers it was not done for.

        That is: of a number with up to 17 digits and no exponent, all digits as a whole number, divided by a power of
        ten. The whole number is a double already where it is below ``10 * 2**53``, else its last digit is added to
        ten times the double of those before.
        """
        text = self._raw.translate(None, b"[]- \n\r\t")  # the sign is that of ``array``
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


def _values(text: bytes, letter: Literal["d", "i"]) -> Array:
    """All numbers of a text, as doubles (``d``) or as whole ones (``i``).

    Raises:
        ValueError: it is no JSON, or has numbers out of range.
    """
    parser = _parsers.pop() if _parsers else simdjson.Parser()
    try:
        array = parser.parse(text)
        if not isinstance(array, simdjson.Array):
            raise TypeError("no array")
        buffer = array.as_buffer(of_type=letter)
    except (RuntimeError, TypeError) as error:  # a whole number of more than 64 bits, a string among them
        raise ValueError(str(error)) from error
    del array  # a parser is used again only where nobody has what it read
    if len(text) <= _KEPT_TEXT:
        _parsers.append(parser)
    return np.frombuffer(buffer, np.float64 if letter == "d" else np.int64)


def _bones(text: bytes) -> bytes:
    """The brackets and commas of a text without strings."""
    held = np.frombuffer(text, np.uint8)
    bones = []
    for at in range(0, len(held), _PIECE):
        piece = held[at : at + _PIECE]
        bones.append(piece[(piece == _COMMA) | ((piece | _EITHER) == _BRACKET)].tobytes())
    return b"".join(bones)


def _places(text: bytes, byte: int) -> Array:
    """Where a byte stands in a text."""
    held = np.frombuffer(text, np.uint8)
    places = [np.flatnonzero(held[at : at + _PIECE] == byte) + at for at in range(0, len(held), _PIECE)]
    return np.concatenate(places)


def _long_runs(text: bytes) -> Array:
    """Where more than ``_LONG_RUN`` digits in a row stand in a text, of each such run once at least."""
    held = np.frombuffer(text, np.uint8)
    runs = []
    for at in range(0, len(held), _PIECE):
        run = (held[at : at + _PIECE + _LONG_RUN] - np.uint8(_ZERO)) < 10
        for step in _RUN_STEPS:
            run = run[:-step] & run[step:]
        runs.append(np.flatnonzero(run) + at)
    return np.concatenate(runs)


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
