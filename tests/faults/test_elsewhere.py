"""One of two servers fails every call, and nobody notices: what may run again runs on the other one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.faults.scene import Stages, good, told
from tests.faults.script import Fault
from tests.faults.table import ELSEWHERE, PROTOCOLS, protocols_of

CASES = [(protocol, fault) for protocol in PROTOCOLS for fault in ELSEWHERE if protocol in protocols_of(fault)]


@pytest.fixture(scope="module", name="stages")
def _stages() -> Iterator[Stages]:
    with ExitStack() as stack:
        yield Stages(stack, servers=2)


@pytest.mark.parametrize(("protocol", "fault"), CASES, ids=[f"{protocol}-{fault.name}" for protocol, fault in CASES])
def test_the_other_server(stages: Stages, protocol: str, fault: Fault) -> None:
    """Four callers share a batch that one server fails: the other one answers all of them."""
    stage = stages[protocol]
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
