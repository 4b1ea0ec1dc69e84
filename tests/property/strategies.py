"""What the property tests draw from: policies, requests, and columns of all the kinds there are."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from batchproxy.core.columns import ArrayColumn, Column, ListColumn
from batchproxy.core.policy import Policy
from batchproxy.core.request import Request
from batchproxy.core.shapes import UNDECLARED
from batchproxy.testing import FIXED, a_request

MODELS = ("m", "n")


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Small numbers, so that every bound is met."""
    top = draw(st.sampled_from((32, 16, 8, 4, 1)))
    return Policy(
        max_batch_rows=top,
        max_delay_s=draw(st.sampled_from((0.0, 0.02))),
        max_queued_rows=draw(st.sampled_from((12, 200))),
        allowed_batch_sizes=draw(st.sampled_from(((), (1, top)))) if top > 1 else (),
        batching=draw(st.sampled_from((True, True, True, False))),
        idempotent=draw(st.sampled_from((True, True, False))),
        hedging=draw(st.booleans()),
        hedging_delay_s=draw(st.sampled_from((0.005, 0.005, 0.04, 0.0))),
        max_batch_bytes=draw(st.sampled_from((1 << 20, 1 << 20, 40))),
        priority=draw(st.sampled_from((1, 1, 0, 2))),
    )


REQUESTS = st.builds(
    a_request,
    rows=st.sampled_from((1, 1, 1, 2, 3, 5, 20)),
    model=st.sampled_from((*MODELS, MODELS[0])),
    width=st.sampled_from((0, 0, 3)),
    signature=st.sampled_from((UNDECLARED, UNDECLARED, UNDECLARED, FIXED)),
    name=st.sampled_from(("serving_default", "serving_default", "other")),
    priority=st.sampled_from((None, None, None, 0, 1, 2)),
    tenant=st.sampled_from(("", "", "a")),
)
"""Requests of two models, two tenants, three shape classes and odd row counts, some of which travel alone."""

DTYPES = st.sampled_from([np.dtype(name) for name in ("float32", "int64", "bool", "uint8", "complex64", "object")])


@st.composite
def column_families(draw: st.DrawFn, sizes: list[int]) -> list[Column]:
    """Columns of one shape class with the given row counts."""
    if draw(st.booleans()):
        return [ListColumn([draw(st.integers()) for _ in range(size)]) for size in sizes]
    dtype = draw(DTYPES)
    inner = draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
    elements = st.binary(max_size=3) if dtype.hasobject else None
    return [ArrayColumn(draw(hnp.arrays(dtype, (size, *inner), elements=elements))) for size in sizes]


@st.composite
def families_of_requests(draw: st.DrawFn) -> list[Request]:
    """Requests with one key, of several columns each."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    names = ("a", "b", "c")[: draw(st.integers(1, 3))]
    columns = {name: draw(column_families(sizes)) for name in names}
    key = a_request().key
    return [Request(key, {name: columns[name][place] for name in names}, size, 0) for place, size in enumerate(sizes)]
