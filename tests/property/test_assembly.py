"""Merging and splitting lose nothing, whatever the columns are."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.assembly import merge, split
from batchproxy.core.columns import ArrayColumn, Column, ListColumn
from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry, Reply, Request
from batchproxy.testing import StubWaiter
from tests.property.strategies import families_of_requests


def _same(one: Column, other: Column) -> bool:
    if isinstance(one, ListColumn) and isinstance(other, ListColumn):
        return list(one.items) == list(other.items)
    assert isinstance(one, ArrayColumn)
    assert isinstance(other, ArrayColumn)
    same_kind = one.array.dtype == other.array.dtype and one.array.shape == other.array.shape
    if one.array.dtype.hasobject:
        return same_kind and one.array.tolist() == other.array.tolist()
    return same_kind and np.ascontiguousarray(one.array).tobytes() == np.ascontiguousarray(other.array).tobytes()


@given(families_of_requests(), st.sampled_from([(), (4, 8, 16), (1, 32)]), st.booleans())
def test_split_undoes_merge(requests: list[Request], sizes: tuple[int, ...], may_pad: bool) -> None:
    """Each member gets its own rows back, bit for bit, with and without padding."""
    members = [Entry(request, StubWaiter(), 0.0) for request in requests]

    columns, sent = merge(members, Policy(max_batch_rows=32, allowed_batch_sizes=sizes) if may_pad else None)
    parts = [share.columns for share in split(members, Reply(columns, 1), sent)]

    assert {sent} == {column.rows for column in columns.values()}
    assert may_pad or sent == sum(request.rows or 0 for request in requests)
    assert len(members) == len(parts)
    for request, part in zip(requests, parts, strict=True):
        assert request.columns.keys() == part.keys()
        assert all(_same(request.columns[name], part[name]) for name in part)
