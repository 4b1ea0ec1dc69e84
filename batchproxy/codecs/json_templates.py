"""Predict bodies that differ in nothing but their numbers: told by their skeleton. Nothing is refused here.

Take the digits and the white space out of an array of numbers, and its brackets and commas are left: its shape. So two
bodies that are equal, byte by byte, before their first bracket and after their last, and have equal skeletons, ask the
same thing of the same model with other numbers, provided that all there is between is numbers, brackets and commas, and
that a JSON parser takes it. What was found out about the first one, in the general way, then holds for the second.

What depends on the numbers themselves is looked at each time, and left to the general way where it might decide
otherwise: see ``NumberPlan.read``.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

import orjson

from batchproxy.codecs import _dtypes
from batchproxy.core.columns import ArrayColumn, Columns, Layout, PackedColumn

T = TypeVar("T")

MAX_PLANS = 512
"""Kinds of bodies remembered; with more of them, all are forgotten and learned again."""

MAX_SKELETON = 4096
"""Bytes of a skeleton: a plan of a row of 4,000 numbers is worth its memory, 2 MiB in all at most."""

MAX_BODY = 1 << 17
"""Longer bodies, whose numbers take the time, are not looked at."""

LEFT_OUT = b"0123456789.eE+- \n\r\t"
"""What a skeleton is without."""

_TO_ZERO = bytes.maketrans(b"123456789.", b"0000000000")
_LONG_NUMBER = b"0" * 16
_FORMATS = {"float32": "f", "float64": "d", "int64": "q", "int32": "i"}


class Plan(Protocol):
    """What is known of bodies of one kind."""

    @property
    def start(self) -> int:
        """Where their first bracket is."""

    def read(self, body: bytes) -> Columns | None:
        """The input of a body with this plan's skeleton; None: the general way must read it."""


P = TypeVar("P", bound=Plan)


class JsonTemplates(Generic[P]):
    """Plans for the bodies that came lately."""

    __slots__ = ("_plans", "_size")

    def __init__(self) -> None:
        self._plans: dict[Hashable, dict[tuple[bytes, bytes], P]] = {}
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
        start = body.find(b"[")
        return plans.get((body[:start], body[start:].translate(None, LEFT_OUT)))

    def learn(self, target: Hashable, body: bytes, plan: P | None) -> None:
        """Remember a plan that was made of a body; None: there is nothing to remember."""
        if plan is None:
            return
        before, skeleton = body[: plan.start], body[plan.start :].translate(None, LEFT_OUT)
        if len(before) + len(skeleton) > MAX_SKELETON:
            return
        if self._size >= MAX_PLANS:
            self.forget()
        plans = self._plans.setdefault(target, {})
        self._size += (before, skeleton) not in plans
        plans[before, skeleton] = plan

    def forget(self) -> None:
        """What was found out may not hold any longer."""
        self._plans.clear()
        self._size = 0


def only_array(body: bytes) -> tuple[int, int] | None:
    """Where the array in a body begins and ends, if it is the only one and holds nothing but numbers and arrays."""
    start, stop = body.find(b"["), body.rfind(b"]") + 1
    if len(body) > MAX_BODY or not 0 <= start < stop or body[start:stop].translate(None, LEFT_OUT + b"[],"):
        return None
    return start, stop


@dataclass(frozen=True, slots=True)
class NumberPlan(Generic[T]):
    """A plan that makes the numbers of a body those of an array.

    Attributes:
        start: where the first bracket is.
        after: what follows the last one.
        alias: the input's name.
        layout: of the numbers.
        pack: makes all of them bytes.
        decimals: whether one of them at least must be a decimal, since the model does not say what it takes.
        value: what was found out about the first body.
    """

    start: int
    after: bytes
    alias: str
    layout: Layout
    pack: struct.Struct
    decimals: bool
    value: T

    def read(self, body: bytes) -> dict[str, ArrayColumn] | None:
        """See ``Plan``.

        Up to 15 digits and without an exponent a decimal has one nearest double, which TF Serving finds, too. What
        does not fit a type is an error, or wraps, there; here ``pack`` refuses it, as it does decimals for whole
        numbers, and numbers that are too few or too many.
        """
        if not body.endswith(self.after):
            return None
        text = body[self.start : len(body) - len(self.after)]
        if b"e" in text or b"E" in text or _LONG_NUMBER in text.translate(_TO_ZERO):
            return None
        if self.decimals and b"." not in text:
            return None
        try:
            values: Any = orjson.loads(text)
            for _ in self.layout.row_shape:
                values = values[0] if type(values) is list and len(values) == 1 else chain.from_iterable(values)
            data = self.pack.pack(*values)
        except (ValueError, TypeError, OverflowError, struct.error):
            return None
        return {self.alias: PackedColumn(data, self.layout)}


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
    pack = struct.Struct(f"{array.size}{_FORMATS[name]}")
    plan = NumberPlan(found[0], body[found[1] :], alias, Layout.of(array), pack, not declared, value)
    again = plan.read(body)
    return plan if again is not None and again[alias].array.tobytes() == array.tobytes() else None
