"""PredictRequests that differ in nothing but their numbers: told by comparing bytes, not by reading. No checks here.

A protobuf message says how long each of its fields is before the field. So two messages of one length that are equal
everywhere outside the buffers of their tensors, the buffers' own lengths included, have the same fields at the same
places, whatever the buffers hold; and where every value of a buffer is a valid one, whatever was found out about
the first message holds for the second. It is found out once, in the general way, and kept with the bytes to compare.

That is so for ``tensor_content`` and for packed ``float_val`` and ``double_val``. It is not for numbers of varying
length (``int_val``), for strings, nor for booleans, of which there are two. See docs/architecture.md, "The hot path".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from batchproxy.codecs import _dtypes
from batchproxy.core.columns import ArrayColumn, Columns, Layout, PackedColumn

T = TypeVar("T")

MAX_PLANS = 1024
"""Kinds of messages remembered; with more of them, all are forgotten and learned again."""

MAX_PLANS_A_LENGTH = 24
"""Kinds of one length: four inputs can come in 24 orders, and a client's order varies from process to process."""

MAX_COMPARED = 4096
"""Bytes outside the buffers; what is longer is no usual request."""

COPIED = 4096
"""Bytes of a buffer up to which a copy costs less than a view."""

# Tags: a field's number and, in the lowest three bits, how it is written: 0 a varint, 2 a length and bytes.
_VARINT, _BYTES = 0, 2
_SPEC, _INPUTS, _FILTER = 0x0A, 0x12, 0x1A  # PredictRequest
_KEY, _VALUE = 0x0A, 0x12  # an entry of its map
_DTYPE, _SHAPE, _CONTENT, _FLOAT_VAL, _DOUBLE_VAL = 0x08, 0x12, 0x22, 0x2A, 0x32  # TensorProto
_HOLDERS = {_CONTENT: "", _FLOAT_VAL: "float32", _DOUBLE_VAL: "float64"}  # what holds numbers, and the dtype it is for


class Slot(NamedTuple):
    """Where one input's numbers lie."""

    alias: str
    start: int
    stop: int
    layout: Layout


@dataclass(frozen=True, slots=True)
class Plan(Generic[T]):
    """What is known of messages of one kind.

    Attributes:
        before: what they begin with.
        others: further (start, stop, bytes) that they have in common.
        slots: where their numbers lie.
        value: what was found out about the first one.
        own: where else they differ: (start, stop) of the caller's id; TF Serving has none.
    """

    before: bytes
    others: tuple[tuple[int, int, bytes], ...]
    slots: tuple[Slot, ...]
    value: T
    own: tuple[int, int] = (0, 0)

    def columns(self, message: bytes) -> dict[str, ArrayColumn]:
        """The inputs of a message that this plan was found for."""
        columns: dict[str, ArrayColumn] = {}
        for alias, start, stop, layout in self.slots:
            few = stop - start <= COPIED
            columns[alias] = PackedColumn(message[start:stop] if few else memoryview(message)[start:stop], layout)
        return columns


class Templates(Generic[T]):
    """Plans for the messages that came lately.

    Args:
        plan_of: makes a plan of a message, its inputs and a value, or nothing; left out, of PredictRequests.
    """

    __slots__ = ("_plan_of", "_plans", "_seen", "_size")

    def __init__(self, plan_of: Callable[[bytes, Columns, T], Plan[T] | None] | None = None) -> None:
        self._plan_of = plan_of or _plan
        self._plans: dict[int, list[Plan[T]]] = {}
        self._seen: set[int] = set()  # lengths that came once: most of those never come again
        self._size = 0

    def find(self, message: bytes) -> Plan[T] | None:
        """The plan for a message; None: it must be read in the general way."""
        for plan in self._plans.get(len(message), ()):
            if message.startswith(plan.before):
                for start, stop, piece in plan.others:
                    if message[start:stop] != piece:
                        break
                else:
                    return plan
        return None

    def learn(self, message: bytes, columns: Columns, value: T) -> None:
        """Remember what was found out about a message, if others can be told to be of its kind.

        Args:
            message: for which ``find`` found nothing.
            columns: its inputs, as they were read.
            value: holds for every message with these inputs' names, dtypes and shapes, and all else equal.
        """
        length = len(message)
        if length not in self._seen:
            if len(self._seen) >= MAX_PLANS:
                self._seen.clear()
            self._seen.add(length)
            return
        plan = self._plan_of(message, columns, value)
        if plan is None:
            return
        if self._size >= MAX_PLANS:
            self.forget()
        plans = self._plans.setdefault(length, [])
        if len(plans) >= MAX_PLANS_A_LENGTH:
            self._size -= len(plans)
            plans.clear()
        plans.append(plan)
        self._size += 1

    def forget(self) -> None:
        """What was found out may not hold any longer."""
        self._plans.clear()
        self._size = 0


class Unsure(Exception):
    """A message is not of the usual build."""


class Field(NamedTuple):
    """A field of a message: its tag, and where what it holds begins and ends."""

    tag: int
    start: int
    stop: int


def _plan(message: bytes, columns: Columns, value: T) -> Plan[T] | None:
    if not columns or sum(column.nbytes for column in columns.values()) >= len(message):
        return None
    try:
        slots = _slots(message, columns)
    except (Unsure, UnicodeDecodeError):
        return None
    return plan_between(message, slots, value)


def plan_between(message: bytes, slots: Sequence[Slot], value: T, own: tuple[int, int] = (0, 0)) -> Plan[T] | None:
    """The plan of messages that are equal outside ``slots`` and ``own``; None: that is too much to compare."""
    pieces = []
    at = 0
    for start, stop in sorted([*((slot.start, slot.stop) for slot in slots), *([own] if any(own) else [])]):
        pieces.append((at, start, message[at:start]))
        at = stop
    pieces.append((at, len(message), message[at:]))
    if sum(len(piece) for _, _, piece in pieces) > MAX_COMPARED:
        return None
    (_, _, before), *others = pieces
    return Plan(before, tuple(other for other in others if other[2]), tuple(slots), value, own)


def _slots(message: bytes, columns: Columns) -> list[Slot]:
    slots: list[Slot] = []
    specs = 0
    for field in fields_of(message, 0, len(message)):
        if field.tag == _INPUTS:
            slots.append(_slot(message, field, columns))
        elif field.tag == _SPEC:
            specs += 1
        elif field.tag != _FILTER:
            raise Unsure
    if specs != 1 or len(slots) != len(columns) or len({slot.alias for slot in slots}) != len(slots):
        raise Unsure  # a spec or an input that came twice would be merged, or replaced
    return slots


def _slot(message: bytes, entry: Field, columns: Columns) -> Slot:
    parts = _once(message, entry)
    if parts.keys() != {_KEY, _VALUE}:
        raise Unsure
    alias = message[parts[_KEY].start : parts[_KEY].stop].decode()
    tensor = _once(message, parts[_VALUE])
    held = [tag for tag in tensor if tag in _HOLDERS]
    if alias not in columns or len(held) != 1 or tensor.keys() != {_DTYPE, _SHAPE, *held}:
        raise Unsure
    column, (_, start, stop) = columns[alias], tensor[held[0]]
    if not isinstance(column, ArrayColumn):
        raise Unsure
    array = column.array
    row = _dtypes.by_numpy(array.dtype)
    if row.name in {"bool", "string"} or _HOLDERS[held[0]] not in {"", row.name}:
        raise Unsure
    if array.ndim == 0 or not array.nbytes or array.tobytes() != message[start:stop]:
        raise Unsure  # values may be left out or be too many, and rank 0 has no rows
    return Slot(alias, start, stop, Layout.of(array))


def _once(message: bytes, outer: Field) -> dict[int, Field]:
    """The fields of a message within the message, each of which came once."""
    fields = list(fields_of(message, outer.start, outer.stop))
    found = {field.tag: field for field in fields}
    if len(found) != len(fields):
        raise Unsure
    return found


def fields_of(message: bytes, at: int, end: int) -> list[Field]:
    """The fields between two places, varints and those with a length; the message is known to be well-formed."""
    fields = []
    while at < end:
        tag, start = _varint(message, at)
        if tag & 7 == _VARINT:
            _, stop = _varint(message, start)
        elif tag & 7 == _BYTES:
            size, start = _varint(message, start)
            stop = start + size
        else:
            raise Unsure
        fields.append(Field(tag, start, stop))
        at = stop
    if at != end:
        raise Unsure
    return fields


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise Unsure
