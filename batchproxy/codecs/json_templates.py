"""Predict bodies that differ in nothing but their numbers: told by their skeleton. Nothing is refused here.

Take the digits and the white space out of an array of numbers, and its brackets and commas are left: its shape. So two
bodies that are equal, byte by byte, before their first bracket and after their last, and have equal skeletons, ask the
same thing of the same model with other numbers, provided that all there is between is numbers, brackets and commas, and
that a JSON parser takes it. What was found out about the first one, in the general way, then holds for the second.

What depends on the numbers themselves is looked at each time, and left to the general way where it might decide
otherwise: see ``Plan.read``.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, TypeVar

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

_LEFT_OUT = b"0123456789.eE+- \n\r\t"
_TO_ZERO = bytes.maketrans(b"123456789.", b"0000000000")
_LONG_NUMBER = b"0" * 16
_FORMATS = {"float32": "f", "float64": "d", "int64": "q", "int32": "i"}


@dataclass(frozen=True, slots=True)
class Plan(Generic[T]):
    """What is known of bodies of one kind.

    Attributes:
        start: where their first bracket is.
        after: what they end with, after the last one.
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
        """The input of a body with this plan's skeleton; None: the general way must read it.

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


class JsonTemplates(Generic[T]):
    """Plans for the bodies that came lately."""

    __slots__ = ("_plans", "_size")

    def __init__(self) -> None:
        self._plans: dict[Hashable, dict[tuple[bytes, bytes], Plan[T]]] = {}
        self._size = 0

    def find(self, target: Hashable, body: bytes) -> tuple[Plan[T], dict[str, ArrayColumn]] | None:
        """The plan for a body and the input in it; None: it must be read in the general way.

        Args:
            target: what the request's path asks for.
            body: the request's.
        """
        plans = self._plans.get(target)
        if plans is None or len(body) > MAX_BODY:
            return None
        start = body.find(b"[")
        plan = plans.get((body[:start], body[start:].translate(None, _LEFT_OUT)))
        if plan is None:
            return None
        columns = plan.read(body)
        return None if columns is None else (plan, columns)

    def learn(self, target: Hashable, body: bytes, columns: Columns, value: T, *, declared: bool) -> None:
        """Remember what was found out about a body, if others can be told to be of its kind.

        Args:
            target: what the request's path asks for.
            body: for which ``find`` found nothing.
            columns: its inputs, as they were read.
            value: holds for every body with an input of this name, dtype and shape, and all else equal.
            declared: whether the model says what types it takes; else the numbers decide.
        """
        plan = _plan(body, columns, value, declared)
        if plan is None:
            return
        before, skeleton = body[: plan.start], body[plan.start :].translate(None, _LEFT_OUT)
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


def _plan(body: bytes, columns: Columns, value: T, declared: bool) -> Plan[T] | None:
    start, stop = body.find(b"["), body.rfind(b"]") + 1
    if len(body) > MAX_BODY or len(columns) != 1 or not 0 <= start < stop:
        return None
    if body[start:stop].translate(None, _LEFT_OUT + b"[],"):
        return None
    ((alias, column),) = columns.items()
    if not isinstance(column, ArrayColumn):
        return None
    array = column.array
    name = _dtypes.by_numpy(array.dtype).name
    if name not in _FORMATS or not array.size or (not declared and name != "float32"):
        return None
    pack = struct.Struct(f"{array.size}{_FORMATS[name]}")
    plan = Plan(start, body[stop:], alias, Layout.of(array), pack, not declared, value)
    found = plan.read(body)
    return plan if found is not None and found[alias].array.tobytes() == array.tobytes() else None
