"""Tests of batchproxy.core.policy."""

from __future__ import annotations

import pytest

from batchproxy.core.policy import Policies, Policy


@pytest.mark.parametrize(("rows", "padded"), [(1, 2), (2, 2), (3, 8), (8, 8), (9, 9)])
def test_rows_are_padded_to_the_next_allowed_size(rows: int, padded: int) -> None:
    """The next size that is not smaller; what is larger than all of them goes as it is."""
    assert padded == Policy(max_batch_rows=8, allowed_batch_sizes=(2, 8)).padded(rows)


def test_no_allowed_sizes_no_padding() -> None:
    """By default any size is fine."""
    assert 5 == Policy().padded(5)


def test_policies_have_one_for_every_other_name() -> None:
    """Unless others are not served; listing names only those that were configured."""
    small, other = Policy(max_batch_rows=2), Policy(max_batch_rows=3)
    policies = Policies({"small": small}, other)

    assert (small, other) == (policies["small"], policies["anything"])
    assert (["small"], 1) == (list(policies), len(policies))
    with pytest.raises(KeyError):
        Policies({"small": small})["anything"]
