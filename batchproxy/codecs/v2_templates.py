"""ModelInferRequests that differ in nothing but their numbers and ids; see ``templates``. No checks here.

That is so for raw contents of numbers, all bytes of which are some number. It is not for strings, booleans, and typed
contents: those are read each time.
"""

from __future__ import annotations

from typing import TypeVar

from batchproxy.codecs.templates import Plan, Slot, Unsure, fields_of, plan_between
from batchproxy.core.columns import Columns, PackedColumn

T = TypeVar("T")

_ID, _INPUT, _RAW = 0x1A, 0x2A, 0x3A  # ModelInferRequest, as ``templates`` has tags
_ONCE = (0x0A, 0x12, _ID)
_MANY = (0x22, _INPUT, 0x32, _RAW)


def plan_of(message: bytes, columns: Columns, value: T) -> Plan[T] | None:
    """The plan of messages like this one; None: others cannot be told to be of its kind.

    Args:
        message: that was read well.
        columns: its inputs, in their order.
        value: what was found out about it.
    """
    if not columns or sum(column.nbytes for column in columns.values()) >= len(message):
        return None
    try:
        fields = fields_of(message, 0, len(message))
    except Unsure:
        return None
    tags = [field.tag for field in fields]
    if any(tags.count(tag) > 1 for tag in _ONCE) or not {*tags} <= {*_ONCE, *_MANY}:
        return None
    raw = [field for field in fields if field.tag == _RAW]
    if not len(raw) == tags.count(_INPUT) == len(columns):
        return None
    slots = []
    for (alias, column), (_, start, stop) in zip(columns.items(), raw, strict=True):
        packed: object = column
        if not isinstance(packed, PackedColumn) or packed.nbytes != stop - start:
            return None
        slots.append(Slot(alias, start, stop, packed.layout))
    own = next(((field.start, field.stop) for field in fields if field.tag == _ID), (0, 0))
    return plan_between(message, slots, value, own)
