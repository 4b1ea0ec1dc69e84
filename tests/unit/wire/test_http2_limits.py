"""The allowance for frames that bring no work done."""

from __future__ import annotations

import pytest

from batchproxy.wire.frames import ConnectionFault, ErrorCode
from batchproxy.wire.http2_limits import Allowance


def test_a_burst() -> None:
    """As many as there are, and not one more."""
    allowance = Allowance(10, 0.0, 0.0)
    for _ in range(10):
        allowance.spend(1, 5.0, "pings")

    with pytest.raises(ConnectionFault, match="too many pings") as caught:
        allowance.spend(1, 5.0, "pings")
    assert ErrorCode.ENHANCE_YOUR_CALM == caught.value.code


def test_time() -> None:
    """Refills it, to what it was at most; and is looked at only where there is need."""
    allowance = Allowance(10, 2.0, 0.0)
    allowance.spend(10, 0.0, "pings")
    allowance.spend(4, 2.0, "pings")

    assert "<Allowance 0 of 10>" == repr(allowance)
    allowance.spend(1, 1000.0, "pings")
    assert "<Allowance 10 of 10>" == repr(allowance)
    with pytest.raises(ConnectionFault):
        allowance.spend(13, 1001.0, "pings")


def test_work() -> None:
    """Refills it, too."""
    allowance = Allowance(10, 0.0, 0.0)
    allowance.spend(10, 0.0, "pings")
    allowance.earn(8)
    allowance.spend(8, 0.0, "pings")
    allowance.earn(80)

    assert "<Allowance 10 of 10>" == repr(allowance)
