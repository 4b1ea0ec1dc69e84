"""Columns: named inputs and outputs that can be sliced and joined along axis 0. Nothing is parsed here.

``ArrayColumn`` over a numpy array (servers, arrays in the library), ``PackedColumn`` for one that is still bytes,
``TensorColumn`` for one that a server sent, and ``ListColumn`` over Python objects (lists in the library). All are
immutable by convention: views are shared.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt

from batchproxy.core import compare

Array = npt.NDArray[Any]


class Column(Protocol):
    """One named input or output of a request or a reply."""

    @property
    def rows(self) -> int | None:
        """Length of axis 0; None for a value of rank 0, which has no rows."""

    @property
    def rank(self) -> int | None:
        """The number of axes; None where it cannot be told here."""

    @property
    def nbytes(self) -> int:
        """Approximate size in memory, for queue bounds."""

    @property
    def shape_class(self) -> Hashable:
        """What must be equal, beside the signature, for two columns to be joined."""

    def take(self, start: int, stop: int) -> Self:
        """The rows from ``start`` up to ``stop``, as a view where that is possible."""

    def concat(self, others: Sequence[Self]) -> Self:
        """These rows, then those of ``others``: all of one shape class."""


Columns = Mapping[str, Column]


@lru_cache(maxsize=256)  # numpy builds the name anew each time, in Python: 1.6 us against 0.1
def _dtype_name(dtype: np.dtype[Any]) -> str:
    return dtype.name


class ArrayColumn:
    """A tensor. Strings are object arrays of ``bytes``."""

    __slots__ = ("array",)

    def __init__(self, array: Array) -> None:
        self.array = array

    @property
    def rows(self) -> int | None:
        shape = self.array.shape
        return shape[0] if shape else None

    @property
    def rank(self) -> int | None:
        return self.array.ndim

    @property
    def nbytes(self) -> int:
        array = self.array
        if array.dtype.hasobject:  # 33 bytes is CPython's own overhead of a bytes object
            return sum(len(item) + 33 for item in array.flat)
        return array.nbytes

    @property
    def shape_class(self) -> Hashable:
        array = self.array
        return (_dtype_name(array.dtype), array.shape[1:])

    def take(self, start: int, stop: int) -> ArrayColumn:
        return ArrayColumn(self.array[start:stop])

    def concat(self, others: Sequence[ArrayColumn]) -> ArrayColumn:
        return ArrayColumn(np.concatenate([self.array, *(other.array for other in others)]))

    def deviation(self, other: ArrayColumn) -> float:
        """How far apart two answers to the same rows are; see ``compare.arrays``."""
        return compare.arrays(self.array, other.array)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.array.dtype.name}, shape={self.array.shape})"


class TensorColumn(ArrayColumn):
    """A tensor as a server sent it, with what its caller is to see again beside the values.

    Args:
        array: the values.
        content: whether they came as a raw buffer (``TensorProto.tensor_content``), not in the field of their type.
        extras: fields of the tensor's message that we do not know, serialized; each slice carries them all.
    """

    __slots__ = ("content", "extras")

    def __init__(self, array: Array, content: bool = False, extras: bytes = b"") -> None:
        super().__init__(array)
        self.content = content
        self.extras = extras

    def take(self, start: int, stop: int) -> TensorColumn:
        return TensorColumn(self.array[start:stop], self.content, self.extras)

    def concat(self, others: Sequence[ArrayColumn]) -> TensorColumn:
        return TensorColumn(super().concat(others).array, self.content, self.extras)


class Layout(NamedTuple):
    """What tells how packed numbers are meant; made once for many columns.

    Attributes:
        dtype: of a number, in native byte order.
        row_shape: the axes behind the first one.
        row_nbytes: bytes of a row, more than 0.
        rows: length of axis 0.
        shape_class: that of an ``ArrayColumn`` of the same dtype and shape.
    """

    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]
    row_nbytes: int
    rows: int
    shape_class: Hashable

    @classmethod
    def of(cls, array: Array) -> Layout:
        """That of an array with rows that are not empty; not of strings."""
        return cls(array.dtype, array.shape[1:], array.nbytes // len(array), len(array), ArrayColumn(array).shape_class)


class PackedColumn(ArrayColumn):
    """A tensor whose numbers still lie in the message it came in; ``array`` is made where somebody asks for it.

    Joining those of single rows is one join of their bytes: 0.1 us a row, where numpy takes 0.6 to make each an array.

    Args:
        data: the numbers, in native byte order, row after row.
        layout: what they are.
    """

    __slots__ = ("data", "layout")

    def __init__(self, data: bytes | memoryview, layout: Layout) -> None:
        self.data = data
        self.layout = layout

    def __getattr__(self, name: str) -> Any:
        """Reached once for ``array``, while its slot is empty."""
        if name != "array":
            raise AttributeError(name)
        layout = self.layout
        self.array = np.frombuffer(self.data, layout.dtype).reshape(layout.rows, *layout.row_shape)
        return self.array

    @property
    def rows(self) -> int:
        return self.layout.rows

    @property
    def rank(self) -> int:
        return 1 + len(self.layout.row_shape)

    @property
    def nbytes(self) -> int:
        return self.layout.row_nbytes * self.layout.rows

    @property
    def shape_class(self) -> Hashable:
        return self.layout.shape_class

    def take(self, start: int, stop: int) -> PackedColumn:
        size = self.layout.row_nbytes
        return PackedColumn(self.data[start * size : stop * size], self.layout._replace(rows=stop - start))

    def concat(self, others: Sequence[ArrayColumn]) -> ArrayColumn:
        try:
            data = b"".join([self.data, *[other.data for other in others]])  # type: ignore[attr-defined]
        except AttributeError:  # one of them is an array by now
            return super().concat(others)
        return PackedColumn(data, self.layout._replace(rows=len(data) // self.layout.row_nbytes))


class ListColumn:
    """Python objects, one a row: what ``Batcher`` sends through a function over lists."""

    __slots__ = ("items",)

    def __init__(self, items: Sequence[object]) -> None:
        self.items = items

    @property
    def rows(self) -> int | None:
        return len(self.items)

    @property
    def rank(self) -> int | None:
        return None

    @property
    def nbytes(self) -> int:
        return 8 * len(self.items)  # pointers: how much an object holds cannot be known cheaply

    @property
    def shape_class(self) -> Hashable:
        return "list"

    def take(self, start: int, stop: int) -> ListColumn:
        return ListColumn(self.items[start:stop])

    def concat(self, others: Sequence[ListColumn]) -> ListColumn:
        joined = list(self.items)
        for other in others:
            joined.extend(other.items)
        return ListColumn(joined)

    def __repr__(self) -> str:
        return f"ListColumn({len(self.items)} items)"
