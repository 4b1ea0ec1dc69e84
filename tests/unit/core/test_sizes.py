"""Tests of batchproxy.core.sizes: what is shown and kept of caps and rounding."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from batchproxy.core.cap import Cap
from batchproxy.core.lanes import Lanes
from batchproxy.core.padding import Rounded
from batchproxy.core.policy import Policy
from batchproxy.core.request import BatchKey
from batchproxy.core.sizes import Sizes

GROWS = Policy(max_batch_rows=64, grows=True)


def _sizes(**policies: Policy) -> tuple[Sizes, Lanes]:
    rounded = Rounded(policies or {"m": GROWS})
    lanes = Lanes(rounded, 1 << 30)
    return Sizes(rounded, lanes), lanes


def test_what_nobody_asked_for_is_as_configured() -> None:
    """And nothing of it is kept."""
    sizes, _ = _sizes(m=Policy(max_batch_rows=8, slo_s=0.5), n=Policy())

    assert (8, False, 0.5) == (sizes.rows("m"), sizes.rounded("m"), sizes.objective_s("m"))
    assert inf == sizes.objective_s("n")
    assert {} == sizes.state()


def test_caps_and_rounding_outlive_a_restart() -> None:
    """And what is as it was configured is not told."""
    sizes, lanes = _sizes(m=GROWS, n=GROWS, o=GROWS)
    lanes.book("m").cap.restore(256, 512)
    lanes.book("n")
    again, others = _sizes(m=GROWS, n=GROWS, o=GROWS)
    state: dict[str, Any] = {**sizes.state(), "o": {"rows": 48, "most": 1024, "rounded": 1}}
    faults = again.restore(state)

    assert [] == faults
    assert ["m", "o"] == list(state)
    assert (256, False, 64, False) == (again.rows("m"), again.rounded("m"), again.rows("n"), again.rounded("n"))
    assert (48, True) == (again.rows("o"), again.rounded("o"))
    assert (1, 2, 4) == others.books["o"].policy.allowed_batch_sizes[:3]
    assert again.restore(again.state()) == []
    assert (256, True) == (again.rows("m"), again.rounded("o"))


def test_what_is_configured_bounds_what_was_learned() -> None:
    """It may be another one since."""
    sizes, _ = _sizes(m=Policy(max_batch_rows=16))
    sizes.restore({"m": {"rows": 256, "most": 512, "rounded": 0}, "gone": {"rows": 2, "most": 4, "rounded": 1}})

    assert 16 == sizes.rows("m")


@pytest.mark.parametrize(
    "document", [None, {}, {"rows": 0, "most": 4, "rounded": 0}, {"rows": 4, "most": 4, "rounded": 2}, [1]]
)
def test_nonsense_is_named_and_changes_nothing(document: object) -> None:
    """Of the other models all is taken."""
    sizes, _ = _sizes(m=GROWS, n=GROWS)
    faults = sizes.restore({"m": document, "n": {"rows": 128, "most": 1024, "rounded": 0}})

    assert 1 == len(faults)
    assert faults[0].startswith("model 'm': ")
    assert (64, 128) == (sizes.rows("m"), sizes.rows("n"))
    assert [] == sizes.restore(None)


def test_a_restored_cap_goes_on() -> None:
    """It is tried out from there."""
    cap, again = Cap(64, 1024), Cap(64, 1024)
    again.restore(rows=256, most=512)

    assert not cap.learned
    assert again.learned
    assert {"rows": 256, "most": 512} == again.state()
    assert 256 == again.rows


def test_what_servers_take_at_most() -> None:
    """Lanes that are there go by it, too; who says nothing leaves all as it was."""
    sizes, lanes = _sizes(m=GROWS, n=GROWS)
    lane = lanes.lane(BatchKey("m", None, "s"))
    sizes.declare("m", 4)
    sizes.declare("n", None)
    again = lanes.lane(BatchKey("m", None, "s"))

    assert lane is not again  # it was empty
    assert (4, 4) == (sizes.rows("m"), again.cap)
    assert 64 == sizes.rows("n")
