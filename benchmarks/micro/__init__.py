"""Micro figures: microseconds of processor time per request for each part by itself, without sockets."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.micro import columns, engine, grpc_codec, observing, rest_batch, rest_codec, routes, scheduling
from benchmarks.micro.timing import Case


def all_cases() -> Sequence[Case]:
    """Every case, in the order of the printed table."""
    modules = (scheduling, engine, columns, grpc_codec, rest_codec, rest_batch, observing, routes)
    return [case for module in modules for case in module.cases()]
