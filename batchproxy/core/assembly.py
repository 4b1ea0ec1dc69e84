"""Merging the members of a batch into one call and splitting its answer. Columns only: no queue, no wire."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from batchproxy.core.columns import Columns
from batchproxy.core.errors import Unsplittable
from batchproxy.core.parts import together
from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry, Reply, Shares


def merge(members: Sequence[Entry], policy: Policy | None) -> tuple[Columns, int]:
    """Join the columns of requests with one key, in order.

    A lone member's columns are passed on untouched. Where the policy names ``allowed_batch_sizes``, the result is
    padded up to the next one with copies of row 0 of the last member, as TF Serving does.

    Args:
        members: whose columns are joined.
        policy: says what to pad to; None forbids padding.

    Returns:
        The merged columns, and how many rows they have with the padding.
    """
    rows = 0
    for member in members:
        rows += member.request.rows or 0
    sent = rows if policy is None else policy.padded(rows)
    last = members[-1].columns
    first, *others = together([member.columns for member in members])
    if not others and sent == rows:
        return first, rows
    return {name: _join(name, first, others, last, sent - rows) for name in first}, sent


def _join(name: str, first: Columns, others: Sequence[Columns], last: Columns, filler: int) -> Any:
    parts: list[Any] = [columns[name] for columns in others]
    if filler:
        parts += [last[name].take(0, 1)] * filler
    return first[name].concat(parts)


def split(members: Sequence[Entry], reply: Reply, sent: int) -> Shares:
    """Cut the answer to a merged call: a share a member, in order. The padding is dropped.

    Args:
        members: as they were merged.
        reply: the answer.
        sent: rows the call had.

    Raises:
        Unsplittable: an output does not have one row for each row sent, so it is nobody's in particular.
    """
    for name, column in reply.columns.items():
        if column.rows != sent:
            had = "no rows" if column.rows is None else f"{column.rows} rows"
            raise Unsplittable(f"output {name!r} of a merged call has {had} where {sent} were sent")
    return Shares(reply, list(accumulate([member.request.rows or 0 for member in members])))
