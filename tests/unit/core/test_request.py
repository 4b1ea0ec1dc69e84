"""Tests of batchproxy.core.request."""

from __future__ import annotations

import numpy as np
import pytest

from batchproxy.core.columns import ArrayColumn
from batchproxy.core.request import Entry, Reply, Request, Shares, build_request
from batchproxy.core.shapes import UNDECLARED, Signature, TensorSpec
from batchproxy.testing import FIXED, StubWaiter, a_request

TARGET = ("m", 3, "serving_default")


def _build(outputs: tuple[str, ...] | None = None, signature: Signature = UNDECLARED, **arrays: object) -> Request:
    columns = {name: ArrayColumn(np.asarray(array)) for name, array in arrays.items()}
    return build_request(TARGET, signature, columns, outputs)


def test_key_does_not_depend_on_the_order_of_names() -> None:
    """Inputs and outputs are sorted: how a caller lists them is no reason to travel apart."""
    one = _build(("p", "q"), a=[1], b=[2.0])
    other = _build(("q", "p"), b=[2.0], a=[1])

    assert one.key == other.key
    assert TARGET == one.key.target[:3]


def test_no_filter_is_all_outputs() -> None:
    """An empty list of outputs means all of them, as None does."""
    assert _build((), a=[1]).key == _build(None, a=[1]).key


LOOSE = Signature({"x": TensorSpec("int64"), "y": TensorSpec("int64")})


@pytest.mark.parametrize(
    "other",
    [_build(a=[1.5]), _build(a=[[1]]), _build(b=[1]), _build(("y",), a=[1]), _build(a=[1], b=[1])],
    ids=["dtype", "shape", "name", "outputs", "more"],
)
def test_key_tells_apart_what_may_not_ride_together(other: Request) -> None:
    """Another dtype, inner shape, name or output filter is another key."""
    assert _build(a=[1]).key != other.key


@pytest.mark.parametrize(
    ("request_", "rows"),
    [
        (_build(a=[1, 2], b=[3, 4]), 2),
        (_build(a=[1, 2], b=[3]), None),
        (_build(a=[]), None),
        (_build(a=1), None),
        (_build(a=[1], b=1), None),
        (_build(), None),
        (_build(signature=FIXED, x=[1]), None),
        (_build(signature=Signature({"x": TensorSpec("int64", (None,))}), x=[1]), 1),
        (_build(signature=Signature({"x": TensorSpec("int64", (None,))}), x=[[1]]), None),
        (_build(signature=Signature({"x": TensorSpec("int64", (None, 2))}), x=[1]), None),
        (_build(signature=Signature({"x": TensorSpec("int64")}), x=[[1]]), 1),
        (_build(signature=LOOSE, x=[[1, 2]], y=[[3, 4]]), 1),
        (_build(signature=LOOSE, x=[[1, 2]], y=[3]), None),
    ],
    ids=[
        *("equal", "unequal", "zero", "scalar", "scalar beside", "no inputs", "fixed", "open"),
        *("above the rank", "below the rank", "unknown rank", "equal ranks", "ranks that would be broadcast"),
    ],
)
def test_rows_decide_what_travels_alone(request_: Request, rows: int | None) -> None:
    """Rows are given only where every input has the same number of them, above zero, and the model leaves it open."""
    assert rows == request_.rows


def test_bytes_are_summed() -> None:
    """What the queue bounds count."""
    assert 8 * 2 + 8 == _build(a=[1, 2], b=[1.0]).nbytes


def test_entry_expires_at_its_deadline() -> None:
    """The deadline itself is too late; without one it never is."""
    entry = Entry(a_request(deadline=2.0), StubWaiter(), 1.0)

    assert not entry.expired(1.999)
    assert entry.expired(2.0)
    assert not Entry(a_request(), StubWaiter(), 1.0).expired(1e9)
    assert "Entry(m, rows=1, QUEUED, arrival=1.000000)" == repr(entry)


def test_shares_are_made_where_they_are_asked_for() -> None:
    """As often as they are; the first of them without the others."""
    whole = Reply({"y": ArrayColumn(np.arange(6))}, 1)
    shares = Shares(whole, [1, 3, 6])

    assert [(0, 1), (1, 3), (3, 6)] == [(share.start, share.stop) for share in shares]
    assert [(0, 1), (1, 3), (3, 6)] == [(shares[number].start, shares[number].stop) for number in range(3)]
    assert [(3, 6)] == [(share.start, share.stop) for share in shares[2:]]
    assert 3 == len(shares)
    assert all(share.whole is whole for share in shares)
