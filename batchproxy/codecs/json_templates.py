"""Predict bodies that differ in nothing but their numbers: told by their skeleton. Nothing is refused here.

Take the digits and the white space out of an array of numbers, and its brackets and commas are left: its shape. So two
bodies that begin equally, byte by byte, up to the first bracket, end equally from the last one on, and have equal
skeletons ask the same thing of the same model with other numbers, provided that a JSON parser takes what is between:
which can be nothing but white space, numbers, brackets and commas. What was found out about the first one, in the
general way, then holds for the second.

What depends on the numbers themselves is looked at each time, and left to the general way where it might decide
otherwise: see ``NumberPlan.read``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

import orjson

from batchproxy.codecs import _dtypes
from batchproxy.core.columns import ArrayColumn, Columns, Layout, PackedColumn
from batchproxy.core.parts import parts

T = TypeVar("T")

MAX_PLANS = 512
"""Kinds of bodies remembered; with more of them, all are forgotten and learned again."""

MAX_ALIKE = 16
"""Kinds with one skeleton: those that differ in the digits or the white space of their names, say."""

MAX_SKELETON = 4096
"""Bytes of a skeleton: a plan of a row of 4,000 numbers is worth its memory, 2 MiB in all at most."""

MAX_BODY = 1 << 17
"""Longer bodies, whose numbers take the time, are not looked at."""

LEFT_OUT = b"0123456789.eE+- \n\r\t"
"""What a skeleton is without."""

SPACE = b" \n\r\t"
"""White space of JSON."""

_TO_ZERO = bytes.maketrans(b"123456789.", b"0000000000")
_LONG_NUMBER = b"0" * 16
_NUL = b"\0"
_E, _CAPITAL_E, _POINT = b"eE."  # a byte is found in a fifth of the time that a text of one takes
_FORMATS = {"float32": "f", "float64": "d", "int64": "q", "int32": "i"}


class Plan(Protocol):
    """What is known of bodies of one kind."""

    @property
    def before(self) -> bytes:
        """What they begin with, up to the first bracket."""

    @property
    def after(self) -> bytes:
        """What they end with, from the last bracket on; something."""

    def read(self, body: bytes) -> Columns | None:
        """The input of a body with this plan's skeleton, beginning and end; None: the general way must read it."""


P = TypeVar("P", bound=Plan)


class JsonTemplates(Generic[P]):
    """Plans for the bodies that came lately."""

    __slots__ = ("_plans", "_size")

    def __init__(self) -> None:
        self._plans: dict[Hashable, dict[bytes, list[P]]] = {}
        self._size = 0

    def find(self, target: Hashable, body: bytes) -> P | None:
        """The plan for a body, which is to read it; None: it must be read in the general way.

        Args:
            target: what the request's path asks for.
            body: the request's.
        """
        plans = self._plans.get(target)
        if plans is None or len(body) > MAX_BODY:
            return None
        for plan in plans.get(body.translate(None, LEFT_OUT), ()):
            if body.startswith(plan.before) and body.endswith(plan.after):
                return plan
        return None

    def learn(self, target: Hashable, body: bytes, plan: P | None) -> None:
        """Remember a plan that was made of a body; None: there is nothing to remember."""
        if plan is None:
            return
        skeleton = body.translate(None, LEFT_OUT)
        if len(plan.before) + len(skeleton) > MAX_SKELETON:
            return
        if self._size >= MAX_PLANS:
            self.forget()
        alike = self._plans.setdefault(target, {}).setdefault(skeleton, [])
        others = [one for one in alike if (one.before, one.after) != (plan.before, plan.after)][: MAX_ALIKE - 1]
        self._size += 1 + len(others) - len(alike)
        alike[:] = [plan, *others]

    def forget(self) -> None:
        """What was found out may not hold any longer."""
        self._plans.clear()
        self._size = 0


def only_array(body: bytes) -> tuple[int, int] | None:
    """Where the array in a body begins and ends, if it is the only one and holds nothing but numbers and arrays."""
    start, stop = body.find(b"["), body.rfind(b"]") + 1
    if len(body) > MAX_BODY or body.count(b",") > MAX_SKELETON:  # ``learn`` would not have it
        return None
    if not 0 <= start < stop or body[start:stop].translate(None, LEFT_OUT + b"[],"):
        return None
    return start, stop


@dataclass(frozen=True, slots=True)
class NumberPlan(Generic[T]):
    """A plan that makes the numbers of a body those of an array.

    Attributes:
        skeleton: of the bodies.
        before: what precedes the first bracket.
        after: what follows the last one.
        start: the length of the one.
        stop: that of the other, below zero.
        alias: the input's name.
        layout: of the numbers.
        count: how many numbers there are.
        kind: of them, for ``struct``.
        lone: for each axis but the last, whether it and those before it are of length 1.
        edge: how many brackets come first, and last, if there are no others; else 0.
        pack: makes all of them bytes.
        decimals: whether one of them at least must be a decimal, since the model does not say what it takes.
        value: what was found out about the first body.
    """

    skeleton: bytes
    before: bytes
    after: bytes
    start: int
    stop: int
    alias: str
    layout: Layout
    count: int
    kind: str
    lone: tuple[bool, ...]
    edge: int
    pack: Callable[..., bytes]
    decimals: bool
    value: T

    def read(self, body: bytes) -> dict[str, ArrayColumn] | None:
        """See ``Plan``.

        Up to 15 digits and without an exponent a decimal has one nearest double, which TF Serving finds, too. What
        does not fit a type is an error, or wraps, there; here ``pack`` refuses it, as it does decimals for whole
        numbers, and numbers that are too few or too many.
        """
        text = body[self.start : self.stop]
        if _is_odd(text) or (self.decimals and _POINT not in text):
            return None
        try:
            values: Any = orjson.loads(text)
            for lone in self.lone:
                values = values[0] if lone else chain.from_iterable(values)
            data = self.pack(*values)
        except (ValueError, TypeError, LookupError, OverflowError, struct.error):
            return None
        return {self.alias: PackedColumn(data, self.layout)}

    def read_each(self, bodies: Sequence[bytes]) -> Sequence[Columns | None]:
        """``read`` of bodies of this plan's kind."""
        return self.read_alike(bodies) or [self.read(body) for body in bodies]

    def read_alike(self, bodies: Sequence[bytes]) -> list[Columns] | None:
        """``read`` of bodies that are all of this plan's kind, parsed as one; None: one of them is not, or not well.

        With a skeleton goes how many numbers there are at most, as commas part them. So where all of them together are
        as many as they can be, each has its own.
        """
        edge, count = self.edge, self.count * len(bodies)
        joined = _NUL.join(bodies)  # which no plan's body has, so what is between two of them is theirs
        if joined.translate(None, LEFT_OUT) != ((self.skeleton + _NUL) * len(bodies))[:-1]:
            return None
        before, after = self.before + b"[" * edge, b"]" * edge + self.after
        if not (joined.startswith(before) and joined.endswith(after)):
            return None
        texts = joined[len(before) : -len(after)].split(after + _NUL + before)
        text = b",".join(texts)
        if len(texts) < len(bodies) or _is_odd(text):
            return None
        if self.decimals and text.count(_POINT) < count and any(_POINT not in each for each in texts):
            return None
        try:
            values: Any = orjson.loads(b"[%b]" % text)
            for _ in range(0 if edge else 1 + len(self.lone)):
                values = chain.from_iterable(values)
            data = _packer(count, self.kind)(*values)
        except (ValueError, TypeError, OverflowError, struct.error):
            return None
        each = self.layout.rows
        layout = self.layout._replace(rows=each * len(bodies))
        whole: ArrayColumn = PackedColumn(data, layout)
        return parts({self.alias: whole}, layout.rows, each)


def _is_odd(text: bytes) -> bool:
    """Whether a number in it has an exponent, or digits that are too many."""
    return _E in text or _CAPITAL_E in text or text.translate(_TO_ZERO).find(_LONG_NUMBER) >= 0


@lru_cache(maxsize=256)
def _packer(count: int, kind: str) -> Callable[..., bytes]:
    return struct.Struct(f"{count}{kind}").pack


def number_plan(body: bytes, columns: Columns, value: T, *, declared: bool) -> NumberPlan[T] | None:
    """The plan for bodies like this one, if others can be told to be of its kind.

    Args:
        body: the request's.
        columns: its inputs, as they were read.
        value: holds for every body with an input of this name, dtype and shape, and all else equal.
        declared: whether the model says what types it takes; else the numbers decide.
    """
    found = only_array(body)
    if found is None or len(columns) != 1:
        return None
    ((alias, column),) = columns.items()
    if not isinstance(column, ArrayColumn):
        return None
    array = column.array
    name = _dtypes.by_numpy(array.dtype).name
    if name not in _FORMATS or not array.size or (not declared and name != "float32"):
        return None
    lone = tuple(all(size == 1 for size in array.shape[: axis + 1]) for axis in range(array.ndim - 1))
    start, stop = found[0], found[1] - len(body)
    plan = NumberPlan(
        skeleton=body.translate(None, LEFT_OUT),
        before=body[:start],
        after=body[stop:],
        start=start,
        stop=stop,
        alias=alias,
        layout=Layout.of(array),
        count=array.size,
        kind=_FORMATS[name],
        lone=lone,
        edge=array.ndim if all(lone) else 0,
        pack=_packer(array.size, _FORMATS[name]),
        decimals=not declared,
        value=value,
    )
    again = plan.read(body)
    return plan if again is not None and again[alias].array.tobytes() == array.tobytes() else None
