"""REST requests of the Open Inference Protocol that differ in nothing but numbers and ids. Nothing is refused here.

As for TF Serving's bodies (``json_templates``) and for gRPC's messages (``templates``): what was found out about the
first request of a kind, in the general way, holds for every other one that is equal outside its numbers. An ``id`` in
front, where every known client writes it, is set aside first: what stands before its text and behind it is compared.

* Buffers: their JSON says of each how long it is. So two requests with equal JSON and equally long bodies have the
  same buffers at the same places; where all bytes of a buffer are some number, nothing is left to look at.
* Numbers as JSON: equal beginnings and ends, and equal skeletons, as in ``json_templates``. Several arrays are cut
  apart by what stands between them, which holds something that no array of numbers does.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import orjson

from batchproxy.codecs import v2_tensors
from batchproxy.codecs.json_templates import LEFT_OUT, MAX_BODY, MAX_SKELETON, JsonTemplates
from batchproxy.codecs.v2_calls import InferCall
from batchproxy.core.columns import ArrayColumn, Columns, Layout, PackedColumn

T = TypeVar("T")

MAX_HEAD = 4096
"""Bytes of JSON before buffers that are compared; what is longer is no usual request."""

MAX_PLANS = 1024
"""Kinds of requests with buffers remembered; with more of them, all are forgotten and learned again."""

_ID = re.compile(rb'([ \n\r\t]*\{[ \n\r\t]*"id"[ \n\r\t]*:[ \n\r\t]*")([\x20\x21\x23-\x5b\x5d-\x7e]*)')
"""An id in front, of plain text without escapes."""

_ID_KEY = re.compile(rb'"id"[ \n\r\t]*:')
_DATA = re.compile(rb'"data"[ \n\r\t]*:[ \n\r\t]*(\[[][0-9.eE+\- \n\r\t,]*\])?')
"""The key, and an array of numbers, or the beginning of one: up to the last bracket before something else."""

_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_POINT = b"."[0]  # a byte is found in a fifth of the time that a text of one takes

_WHOLE = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
_FORMATS = {
    "float32": ("f", b"0" * 8),
    "float64": ("d", b"0" * 16),
    **{name: (letter, b"") for name, letter in zip(_WHOLE, "bBhHiIqQ", strict=True)},
}
"""Of each type: how ``struct`` calls it, and a run of digits that is not sure to be a whole number which it holds."""


class Found(NamedTuple, Generic[T]):
    """A request that is like an earlier one.

    Attributes:
        value: what is known of all of them.
        columns: its inputs.
        id: its own, as JSON writes it between quotation marks; empty for none.
    """

    value: T
    columns: Columns
    id: bytes


class RestTemplates(Generic[T]):
    """Plans for the requests that came lately."""

    __slots__ = ("_heads", "_hopeless", "_seen", "_texts")

    def __init__(self) -> None:
        self._heads: dict[Hashable, _BufferPlan[T]] = {}
        self._texts: JsonTemplates[_TextPlan[T]] = JsonTemplates()
        self._seen: set[int] = set()  # what came once: most of that never comes again
        self._hopeless: set[int] = set()  # of that, what makes no plan

    def find(self, path: str, body: bytes, length: int) -> Found[T] | None:
        """What is known of a request; None: it must be read in the general way.

        Args:
            path: of the request.
            body: all of it.
            length: where its JSON ends.
        """
        columns: Columns | None
        if length == len(body):
            if length > MAX_BODY:
                return None
            opening, own, rest = _opened(body)
            text = self._texts.find((path, opening), rest)
            if text is not None and (columns := text.read(rest)) is not None:
                return Found(text.value, columns, own)
        elif length <= MAX_HEAD:
            opening, own, rest = _opened(body[:length])
            plan = self._heads.get((path, opening, rest))
            if plan is not None and plan.nbytes == len(body) - length:
                return Found(plan.value, plan.columns(body, length), own)
        return None

    def learn(self, path: str, body: bytes, length: int, call: InferCall, value: T) -> None:
        """Remember what was found out about a request, if others can be told to be of its kind.

        Args:
            path: of the request.
            body: for which ``find`` found nothing.
            length: where its JSON ends.
            call: what it says, as it was read.
            value: holds for every request with these inputs' names, types and shapes, and all else equal.
        """
        buffers = length < len(body)
        if length > (MAX_HEAD if buffers else MAX_BODY):
            return
        opening, own, rest = _opened(body[:length])
        if own.decode() != call.id or _ID_KEY.search(rest) or b"\\" in rest:
            return
        if not buffers:
            self._learn_text((path, opening), rest, call, value)
            return
        key = path, opening, rest
        if self._is_new(hash(key)):
            return
        plan = _buffer_plan(len(body) - length, call.inputs, value)
        if plan is not None:
            if len(self._heads) >= MAX_PLANS:
                self._heads.clear()
            self._heads[key] = plan

    def _learn_text(self, target: Hashable, body: bytes, call: InferCall, value: T) -> None:
        """What makes no plan is found out before most of the work: it comes again and again."""
        if body.count(b",") > MAX_SKELETON or any(
            column.array.dtype.name not in _FORMATS for column in call.inputs.values()
        ):
            return
        number = hash((target, body.translate(None, LEFT_OUT)))
        if self._is_new(number) or number in self._hopeless:
            return
        plan = _text_plan(body, call.inputs, value)
        if plan is not None:
            self._texts.learn(target, body, plan)
            return
        if len(self._hopeless) >= MAX_PLANS:
            self._hopeless.clear()
        self._hopeless.add(number)

    def forget(self) -> None:
        """What was found out may not hold any longer."""
        self._heads.clear()
        self._texts.forget()

    def _is_new(self, number: int) -> bool:
        if number in self._seen:
            return False
        if len(self._seen) >= MAX_PLANS:
            self._seen.clear()
        self._seen.add(number)
        return True


def _opened(head: bytes) -> tuple[bytes, bytes, bytes]:
    """What stands before the text of an id in front, that text, and the rest; all is rest where there is none."""
    found = _ID.match(head)
    if found is None or head[found.end() : found.end() + 1] != b'"':
        return b"", b"", head
    return found[1], found[2], head[found.end() :]


# ---------------------------------------------------------------- buffers


@dataclass(frozen=True, slots=True)
class _BufferPlan(Generic[T]):
    """What is known of requests with equal JSON.

    Attributes:
        slots: (input name, first byte behind the JSON, the byte after the last one, type, layout).
        nbytes: of all buffers.
        value: what was found out about the first request.
    """

    slots: tuple[tuple[str, int, int, str, Layout], ...]
    nbytes: int
    value: T

    def columns(self, body: bytes, length: int) -> dict[str, ArrayColumn]:
        """The inputs of a request of this kind, whose JSON is ``length`` bytes long."""
        columns: dict[str, ArrayColumn] = {}
        for alias, start, stop, datatype, layout in self.slots:
            columns[alias] = PackedColumn(v2_tensors.cut(body, length + start, length + stop, datatype), layout)
        return columns


def _buffer_plan(nbytes: int, inputs: Mapping[str, ArrayColumn], value: T) -> _BufferPlan[T] | None:
    slots: list[tuple[str, int, int, str, Layout]] = []
    at = 0
    for alias, column in inputs.items():
        if not isinstance(column, PackedColumn):  # strings and booleans have to be looked at, and JSON is no buffer
            return None
        slots.append((alias, at, at + column.nbytes, v2_tensors.datatype_of(alias, column), column.layout))
        at += column.nbytes
    return _BufferPlan(tuple(slots), nbytes, value) if slots and at == nbytes else None


# ---------------------------------------------------------------- numbers as JSON


class _Slot(NamedTuple):
    """An array of numbers in a text.

    Attributes:
        alias: the input's name.
        layout: of its numbers.
        lone: for each list but the innermost ones, whether it and those around it hold one item.
        pack: makes all numbers bytes.
        unsure: a run of digits that, where there is no decimal, is left to the general way; empty for none.
        until: what stands behind it; empty for the last one.
    """

    alias: str
    layout: Layout
    lone: tuple[bool, ...]
    pack: Callable[..., bytes]
    unsure: bytes
    until: bytes

    def read(self, text: bytes) -> PackedColumn | None:
        """The column of an array with equal brackets and commas; None: the general way must read it.

        Both ways round as orjson and IEEE 754 do. What does not fit a type is refused by ``pack``, as are decimals for
        whole numbers, and numbers that are too few or too many. Whole numbers for a type of fractions have to arrive
        unchanged, which a few digits do; beside a decimal they need not, for numpy makes doubles of all.
        """
        if self.unsure and _POINT not in text and self.unsure in text.translate(_TO_ZERO):
            return None
        try:
            values: Any = orjson.loads(text)
            for lone in self.lone:
                values = values[0] if lone else chain.from_iterable(values)
            return PackedColumn(self.pack(*values), self.layout)
        except (ValueError, TypeError, LookupError, OverflowError, struct.error):
            return None


@dataclass(frozen=True, slots=True)
class _TextPlan(Generic[T]):
    """A plan that makes arrays of the numbers in a body; see ``json_templates.Plan``.

    Attributes:
        before: what precedes the first array.
        after: what follows the last one.
        slots: the arrays.
        value: what was found out about the first body.
    """

    before: bytes
    after: bytes
    slots: tuple[_Slot, ...]
    value: T

    def read(self, body: bytes) -> dict[str, ArrayColumn] | None:
        """See ``json_templates.Plan``."""
        columns: dict[str, ArrayColumn] = {}
        at, end = len(self.before), len(body) - len(self.after)
        for slot in self.slots:
            until = slot.until
            stop = body.find(until, at, end) if until else end
            column = slot.read(body[at:stop]) if stop >= 0 else None
            if column is None:
                return None
            columns[slot.alias] = column
            at = stop + len(until)
        return columns


def _text_plan(body: bytes, inputs: Mapping[str, ArrayColumn], value: T) -> _TextPlan[T] | None:
    """The plan for bodies like this one, without escapes and without the opening that has their id."""
    arrays = [found.span(1) for found in _DATA.finditer(body)]
    if len(arrays) != len(inputs) or not arrays or arrays[0][0] < 0:
        return None
    slots = []
    for at, ((alias, column), (start, stop)) in enumerate(zip(inputs.items(), arrays, strict=True)):
        until = body[stop : arrays[at + 1][0]] if at + 1 < len(arrays) else b""
        slot = _slot(alias, column.array, body[start:stop], until) if 0 <= start < stop else None
        if slot is None:
            return None
        slots.append(slot)
    plan = _TextPlan(body[: arrays[0][0]], body[arrays[-1][1] :], tuple(slots), value)
    again = plan.read(body)
    if again is None or any(again[alias].array.tobytes() != column.array.tobytes() for alias, column in inputs.items()):
        return None
    return plan


def _slot(alias: str, array: np.ndarray, text: bytes, until: bytes) -> _Slot | None:
    name = array.dtype.name
    if name not in _FORMATS or not array.ndim or not array.size:
        return None
    try:
        shape = np.array(orjson.loads(text)).shape  # of the lists, which the tensor's need not be
    except orjson.JSONDecodeError:  # only its beginning: "[[1], [NaN]]" has other things than numbers
        return None
    lone = tuple(all(size == 1 for size in shape[: axis + 1]) for axis in range(len(shape) - 1))
    letter, unsure = _FORMATS[name]
    # "=", for the machine's own way lets a float overflow
    return _Slot(alias, Layout.of(array), lone, struct.Struct(f"={array.size}{letter}").pack, unsure, until)
