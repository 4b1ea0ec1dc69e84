"""What callers of the library give, as arrays that a signature takes; what servers answer, as arrays to keep. No names.

A tensor's type is part of its meaning to a server, so little is converted: numbers only towards more general kinds
(whole to fractional, never back), whole numbers only where every one arrives unchanged, and nothing into infinity.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from batchproxy.codecs import _dtypes
from batchproxy.core.columns import Array
from batchproxy.core.errors import BackendProtocolError, ConfigError, ShapeMismatch
from batchproxy.core.shapes import TensorSpec

_WHOLE, _FRACTIONAL = 1, 2
_KINDS = (("bool", 0), ("int", _WHOLE), ("uint", _WHOLE), ("float", _FRACTIONAL), ("bfloat", _FRACTIONAL))
_COMPLEX = 3
"""Kinds of numbers, each more general than the one before; by the beginning of a dtype's name."""


def read(alias: str, value: Any) -> tuple[Array, bool]:
    r"""What a caller gave for one input.

    Args:
        alias: the input's name, for error texts.
        value: an array, or anything that ``numpy.asarray`` takes: numbers, text, nested lists of either.

    Returns:
        The array, strings as objects of type ``bytes``; and whether its dtype is numpy's guess from Python numbers.

    Raises:
        ShapeMismatch: no array, or one of a type that TensorFlow does not have.

    Example:
        >>> read("x", [["a", b"b\0"]])
        (array([[b'a', b'b\x00']], dtype=object), False)
        >>> read("x", 1.5)
        (array(1.5), True)
    """
    try:
        array = np.asarray(value)
        if array.dtype.kind in "SU" and not isinstance(value, np.ndarray):
            array = np.asarray(value, np.object_)  # numpy's fixed width would lose zero bytes at the end
    except (ValueError, TypeError) as error:
        raise ShapeMismatch(f"input {alias!r} cannot be made an array: {error}") from None
    if array.dtype.kind in "OSU":
        return _strings(alias, array), False
    try:
        _dtypes.by_numpy(array.dtype)
    except BackendProtocolError:
        raise ShapeMismatch(f"input {alias!r} is of dtype {array.dtype}, which no TensorFlow type holds") from None
    return array, isinstance(value, bool | int | float | complex | list | tuple)


def fit(alias: str, array: Array, spec: TensorSpec, *, guessed: bool = False) -> Array:
    """The array in the dtype that a signature names: itself where it has it.

    Args:
        alias: the input's name, for error texts.
        array: as ``read`` gave it.
        spec: what the signature says of the input.
        guessed: whether the dtype is numpy's guess: that of an empty list means nothing.

    Raises:
        ShapeMismatch: it cannot be converted, or not without changing values.

    Example:
        >>> fit("x", np.array([1, 2]), TensorSpec("float32", (None,)))
        array([1., 2.], dtype=float32)
    """
    try:
        expected = _dtypes.numpy_dtype(spec.dtype)
    except ConfigError:
        return array  # a type that we do not carry: the server says so
    given = array.dtype
    if given == expected:
        return array
    if guessed and not array.size:
        return array.astype(expected)
    kind, wanted = _kind(given), _kind(expected)
    if kind is None or wanted is None or kind > wanted:
        raise _mismatch(alias, array, spec)
    with np.errstate(all="ignore"):
        cast = array.astype(expected)
        if kind >= _FRACTIONAL:
            good = np.isfinite(cast) == np.isfinite(array)
        else:
            number = cast.real
            good = (number.astype(given) == array) & ((number < 0) == (array < 0))  # a sign that turned would turn back
    if not np.all(good):
        raise _mismatch(alias, array, spec, array[~good].flat[0])
    return cast


def own(array: Array) -> Array:
    """An answer's array to keep: writable, and not holding on to the answer of a whole batch."""
    return array if array.flags.owndata and array.flags.writeable else array.copy()


def _strings(alias: str, array: Array) -> Array:
    found = np.empty(array.size, np.object_)
    for index, item in enumerate(array.flat):
        if isinstance(item, bytes):
            found[index] = bytes(item)
        elif isinstance(item, str):
            try:
                found[index] = item.encode()
            except UnicodeEncodeError as error:
                raise ShapeMismatch(f"input {alias!r} holds text that UTF-8 cannot write: {error}") from None
        else:
            raise ShapeMismatch(
                f"input {alias!r} holds an object of type {type(item).__name__}; give numbers of a numpy dtype, "
                "or bytes or str"
            )
    return found.reshape(array.shape)


@lru_cache(256)  # reading a dtype's name makes it anew each time: as ``_dtypes.by_numpy``
def _kind(dtype: np.dtype[Any]) -> int | None:
    if dtype.name.startswith("complex"):
        return _COMPLEX
    return next((rank for name, rank in _KINDS if dtype.name.startswith(name)), None)


def _mismatch(alias: str, array: Array, spec: TensorSpec, value: object = None) -> ShapeMismatch:
    given = _dtypes.by_numpy(array.dtype).name
    which = "" if value is None else f": {value} does not fit"
    return ShapeMismatch(f"input {alias!r} is of dtype {given}, the model takes {spec.dtype}{which}")
