"""A plan for predict bodies of one row, which rides with others as the text it is. See ``json_templates``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import orjson

from batchproxy.codecs.json_templates import LEFT_OUT, SPACE, only_array
from batchproxy.codecs.tfs_rows import INPUTS, INSTANCES, JsonRows, RawPredict, ShapeClass

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RowPlan(Generic[T]):
    """A plan that cuts the row out of a body.

    Attributes:
        before: what precedes the first bracket.
        after: what follows the last one.
        form: the name of the column.
        shape_class: of the row.
        frail: whether the skeleton of another shape is the same: a list of one number looks like an empty one.
        value: what was found out about the first body.
    """

    before: bytes
    after: bytes
    form: str
    shape_class: ShapeClass
    frail: bool
    value: T

    def read(self, body: bytes) -> dict[str, JsonRows] | None:
        """See ``json_templates.Plan``. The row is known to be JSON: a broken one would spoil what rides with it."""
        text = body[len(self.before) : -len(self.after)].strip(SPACE)
        if self.frail and b"[]" in text.translate(None, SPACE):
            return None
        try:
            orjson.loads(text)
        except ValueError:
            return None
        return {self.form: JsonRows((text[1:-1].strip(SPACE),), self.shape_class, len(body))}


def row_plan(body: bytes, found: RawPredict, value: T) -> RowPlan[T] | None:
    """The plan for bodies like this one, if others can be told to be of its kind.

    Args:
        body: the request's.
        found: what it is, as it was read.
        value: holds for every body with a row of this shape, and all else equal.
    """
    array = only_array(body)
    form = INSTANCES if found.row_form else INPUTS
    column = found.columns.get(form)
    if array is None or column is None or column.rows != 1 or column.shape_class.form != form:
        return None
    start, stop = array
    frail = b"[]" in body[start:stop].translate(None, LEFT_OUT)
    plan = RowPlan(body[:start], body[stop:], form, column.shape_class, frail, value)
    again = plan.read(body)
    return plan if again is not None and bytes(again[form].texts[0]) == bytes(column.texts[0]) else None
