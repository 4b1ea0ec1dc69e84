"""The remote figures, with real processes and a count that proves nothing about speed."""

from __future__ import annotations

import pytest

from benchmarks import remote


def test_direct_and_proxied() -> None:
    """Both ways answer rightly, batching or not, and each process's own cost is seen."""
    routes = [route for route in remote.ROUTES if route.name in {"half_plus_two bridged", "fixed_batch gRPC"}]
    told: list[str] = []
    batched, single = remote.measure(1, 1.0, told.append, routes)

    assert ["half_plus_two bridged", "fixed_batch gRPC"] == [batched.name, single.name]
    assert [(0, ""), (0, "")] == [(line.faults, line.fault) for line in (batched, single)]
    for line in (batched, single):
        assert min(line.direct.per_second, line.proxied.per_second, line.direct.server_us, line.proxy_us) > 0
        assert line.ratio == pytest.approx(line.proxied.per_second / line.direct.per_second)
    assert batched.mean_batch > 1
    assert 2 == len(batched.alone_ms)
    assert [] == single.alone_ms
    assert "one caller: half_plus_two bridged" in told
