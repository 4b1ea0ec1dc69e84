"""One of two servers fails every call, and nobody notices: what may run again runs on the other one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.scene import ROUTES, Scene, good, scene, told
from tests.faults.script import Fault
from tests.faults.table import ELSEWHERE, PROTOCOLS, protocols_of

CASES = [(protocol, fault) for protocol in PROTOCOLS for fault in ELSEWHERE if protocol in protocols_of(fault)]
BY_NAME = {route.name: route for route in ROUTES}


@pytest.fixture(scope="module", name="stage")
def _stage(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with scene(BY_NAME[request.param], servers=2) as found:
        yield found


@pytest.mark.parametrize(
    ("stage", "fault"), CASES, ids=[f"{protocol}-{fault.name}" for protocol, fault in CASES], indirect=["stage"]
)
def test_the_other_server(stage: Scene, fault: Fault) -> None:
    """Four callers share a batch that one server fails: the other one answers all of them."""
    model, (bad, well) = stage.model(), stage.servers
    rows = [stage.row() for _ in range(4)]
    bad.script.strike(model, fault)
    callers = stage.together(model, rows, lambda: bad.hold(model))
    bad.release(model)  # only now, when the other one has room
    answers = told(callers)
    bad.script.forgive(model)

    assert [good(stage.route, row) for row in rows] == answers
    assert sorted(rows) in [sorted(call) for call in bad.script.rows_of(model)]
    assert sorted(rows) in [sorted(call) for call in well.script.rows_of(model)]
