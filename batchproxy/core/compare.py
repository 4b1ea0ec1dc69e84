"""Whether two answers to the same rows are the same, and if not, how far apart they are. Runs nothing, reads no wire.

Kernels for one row add up in another order than kernels for many, so numbers with a fraction may differ in their last
digits; everything else must be equal.
"""

from __future__ import annotations

from decimal import Decimal
from math import inf
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

TOLERANCES = {
    "float16": (4e-3, 2e-3),
    "bfloat16": (3.2e-2, 1.6e-2),
    "float32": (2e-6, 1e-6),
    "float64": (1e-12, 1e-12),
    "complex64": (2e-6, 1e-6),
    "complex128": (1e-12, 1e-12),
}
"""By dtype: how far apart two numbers may be, relative to the larger one, or absolutely where that is more.

float32 is R1's third law (measured with TensorFlow at batch 1, 2, 8 and 64: up to 1.1e-6). The half precisions have
four units in the last place: they are mostly added up in float32 and rounded once a layer. float64 has 4,500 of them,
for long sums. It need not be wider for models that compute in float32 and answer in float64: what is beyond it is
only looked at again.
"""

FLOAT8 = (0.5, 0.1)
"""The same for the kinds of float8, which have 2 or 3 bits of fraction: two units in the last place."""

ROUNDING = 0.05
"""Up to this, as a part of the largest number in the answer, other kernels may explain a difference.

TF32 and bfloat16 products keep 10 and 7 bits (5e-4 and 4e-3 each); a deep network makes several times that of it.
"""


@runtime_checkable
class Comparable(Protocol):
    """A column of an answer that can be held against another one."""

    def deviation(self, other: Any) -> float:
        """As ``arrays``."""


def arrays(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """How far apart two tensors are.

    Args:
        one: of any shape; strings as objects.
        other: what it is held against.

    Returns:
        0 where they are the same within ``TOLERANCES``, NaN counting as equal to itself; else the largest difference
        over the largest finite number in either; ``inf`` where they differ in shape or dtype, in something
        that has no fraction, or in where they are not finite.

    Example:
        >>> x = np.array([1.0, 200.0], np.float32)
        >>> arrays(x, x * np.float32(1.000001)), arrays(x, x + 1)
        (0.0, 0.004975124378109453)
    """
    if one.shape != other.shape or one.dtype != other.dtype:
        return inf
    name = one.dtype.name
    tolerance = FLOAT8 if name.startswith("float8") else TOLERANCES.get(name)
    if tolerance is None:
        return 0.0 if np.array_equal(one, other) else inf
    wide = np.complex128 if name.startswith("complex") else np.float64
    flat, against = (array.ravel().astype(wide).view(np.float64) for array in (one, other))
    return _apart(flat, against, *tolerance)


def _apart(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], relative: float, absolute: float) -> float:
    finite = np.isfinite(one)
    if not np.array_equal(finite, np.isfinite(other)) or not np.array_equal(
        one[~finite], other[~finite], equal_nan=True
    ):
        return inf
    one, other = one[finite], other[finite]
    size = np.maximum(np.abs(one), np.abs(other))
    with np.errstate(over="ignore"):
        gap = np.abs(one - other)
    if np.all(gap <= np.maximum(relative * size, absolute)):
        return 0.0
    return float(gap.max() / size.max())


def values(one: Any, other: Any) -> float:
    """How far apart two values of parsed JSON are; as ``arrays``.

    A number with a fraction in either is held to float32's tolerance, which most models answer in: the text does not
    say. Whole numbers, texts, truth values and names must be equal.
    """
    numbers: tuple[list[float], list[float]] = ([], [])
    pairs = [(one, other)]
    while pairs:
        a, b = pairs.pop()
        if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
            pairs += zip(a, b, strict=True)
        elif isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
            pairs += ((value, b[name]) for name, value in a.items())
        elif _number(a) and _number(b) and (isinstance(a, float) or isinstance(b, float)):
            numbers[0].append(float(a))
            numbers[1].append(float(b))
        elif type(a) is not type(b) or a != b or isinstance(a, list | dict):
            return inf
    return _apart(np.array(numbers[0]), np.array(numbers[1]), *TOLERANCES["float32"])


def _number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)
