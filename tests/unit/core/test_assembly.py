"""Tests of batchproxy.core.assembly."""

from __future__ import annotations

import numpy as np
import pytest

from batchproxy.core.assembly import merge, split
from batchproxy.core.columns import ArrayColumn, Columns
from batchproxy.core.errors import Unsplittable
from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry, Reply, Request
from batchproxy.testing import FIXED, StubWaiter, a_request, numbers_of


def _members(*requests: Request) -> list[Entry]:
    return [Entry(request, StubWaiter(), 0.0) for request in requests]


def test_lone_request_is_passed_on_untouched() -> None:
    """A batch of one is a relay: the very columns, not a copy."""
    request = a_request(3)

    columns, sent = merge(_members(request), Policy())

    assert request.columns is columns
    assert 3 == sent


def test_request_without_rows_is_passed_on_untouched() -> None:
    """What travels alone has no rows to count and is never padded."""
    request = a_request(1, signature=FIXED)

    columns, sent = merge(_members(request), None)

    assert request.columns is columns
    assert 0 == sent


def test_members_are_joined_in_order() -> None:
    """Rows stand in the order in which the requests came."""
    columns, sent = merge(_members(a_request(2, first=5), a_request(1, first=1), a_request(2, first=8)), Policy())

    assert [5, 6, 1, 8, 9] == numbers_of(columns)
    assert 5 == sent


def test_padding_repeats_the_first_row_of_the_last_member() -> None:
    """As TF Serving pads: with copies of real input, up to the next allowed size."""
    policy = Policy(max_batch_rows=8, allowed_batch_sizes=(4, 8))

    columns, sent = merge(_members(a_request(2, first=1), a_request(3, first=7)), policy)

    assert [1, 2, 7, 8, 9, 7, 7, 7] == numbers_of(columns)
    assert 8 == sent


def test_lone_request_is_padded_too() -> None:
    """A batch of one goes out in an allowed size, and larger ones than any go as they are."""
    policy = Policy(max_batch_rows=4, allowed_batch_sizes=(4,))

    assert [3, 3, 3, 3] == numbers_of(merge(_members(a_request(1, first=3)), policy)[0])
    assert 6 == merge(_members(a_request(6)), policy)[1]


def test_no_policy_no_padding() -> None:
    """Where padding was found not to be undoable, the rows go as they are."""
    assert 3 == merge(_members(a_request(1), a_request(2)), None)[1]


def test_split_gives_each_its_rows_and_drops_the_padding() -> None:
    """Each member gets its own slice of each output, as a view."""
    outputs = {"y": ArrayColumn(np.arange(8)), "z": ArrayColumn(np.arange(16).reshape(8, 2))}

    first, second = split(_members(a_request(2), a_request(3)), Reply(outputs, 7, b"more", headers=[("a", "b")]), 8)

    assert [0, 1] == numbers_of(first.columns, "y")
    assert [2, 3, 4] == numbers_of(second.columns, "y")
    assert [4, 6, 8] == numbers_of(second.columns, "z")
    assert (7, b"more", [("a", "b")], None) == (second.version, second.extras, second.headers, second.raw)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (np.arange(2), "output 'y' of a merged call has 2 rows where 3 were sent"),
        (np.float32(1), "output 'y' of a merged call has no rows where 3 were sent"),
    ],
)
def test_split_never_trusts(output: object, said: str) -> None:
    """One output without a row for each row sent, and nobody gets anything."""
    outputs: Columns = {"x": ArrayColumn(np.arange(3)), "y": ArrayColumn(np.asarray(output))}

    with pytest.raises(Unsplittable) as caught:
        split(_members(a_request(1), a_request(2)), Reply(outputs, 1), 3)

    assert said == caught.value.message
