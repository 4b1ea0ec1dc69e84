"""Merging the members of a batch and splitting its answer. Arrays only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from batchproxy.core.assembly import merge, split
from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry, Reply
from benchmarks.micro import scheduling
from benchmarks.micro.timing import Case, Round

BATCH = scheduling.BATCH


def cases() -> Sequence[Case]:
    """64 single rows, short and long, beside the numpy calls that they cannot do without."""
    found = []
    for width in (8, 784):
        yardstick = f"numpy alone: concatenate and slice 64 x {width}"
        found += [
            Case(yardstick, partial(_numpy, width)),
            Case(f"merge and split, 64 x {width} floats", partial(_merge_split, width), yardstick),
        ]
    return found


def _merge_split(width: int) -> Round:
    members = [Entry(request, scheduling.PATIENT, 0.0) for request in scheduling.requests(1, BATCH, width=width)]
    policy = Policy(max_batch_rows=BATCH)

    def work() -> int:
        columns, sent = merge(members, policy)
        for share in split(members, Reply(columns, 1), sent):
            _ = share.columns
        return BATCH

    return work


def _numpy(width: int) -> Round:
    rows = [np.zeros((1, width), np.float32) for _ in range(BATCH)]

    def work() -> int:
        merged = np.concatenate(rows)
        for start in range(BATCH):
            merged[start : start + 1]
        return BATCH

    return work
