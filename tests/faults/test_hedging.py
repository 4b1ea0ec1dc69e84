"""One of two servers takes calls and never answers, and nobody notices: what takes too long goes to the other one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.faults.scene import PLUG, Scene, good, scene, told
from tests.faults.scene import ROUTES as ALL
from tests.faults.script import Fault

MODELS = {"*": {"hedging": True, "hedging_delay_ms": 20}, PLUG: {}}
CALLERS = 4
"""One after another: in all tests of a scene fewer than may be hedged however few calls there are."""


@pytest.fixture(scope="module", name="stage", params=ALL, ids=lambda route: route.name)
def _stage(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield stack.enter_context(scene(request.param, servers=2, models=MODELS))


def hedges(stage: Scene, model: str) -> dict[str, float]:
    """How many there were of a model, by what became of them."""
    text = stage.proxy.get(f"{stage.proxy.admin}/metrics")[1].decode()
    lines = [line for line in text.splitlines() if line.startswith(f'batchproxy_hedges_total{{model="{model}"')]
    return {line.split('outcome="')[1].split('"')[0]: float(line.split()[-1]) for line in lines}


def test_callers_of_a_server_that_hangs_are_answered_by_the_other_one(stage: Scene) -> None:
    """One after another, so that each server is tried; without hedging they would wait until their time is up."""
    model, (bad, _) = stage.model(), stage.servers
    bad.script.strike(model, Fault.HANG)
    rows = [stage.row() for _ in range(CALLERS)]
    answers = [stage.ask(model, row) for row in rows]
    bad.script.forgive(model)
    bad.release(model)

    assert [good(stage.route, row) for row in rows] == answers
    assert hedges(stage, model)["won"] > 0


def test_a_batch_that_hangs_is_answered_by_the_other_server(stage: Scene) -> None:
    """All of its callers get their own rows."""
    model, (bad, well) = stage.model(), stage.servers
    bad.script.strike(model, Fault.HANG)
    rows = [stage.row() for _ in range(4)]
    answers = told(stage.together(model, rows))
    bad.script.forgive(model)
    bad.release(model)

    assert [good(stage.route, row) for row in rows] == answers
    assert sorted(rows) in [sorted(call) for call in bad.script.rows_of(model)]
    assert sorted(rows) in [sorted(call) for call in well.script.rows_of(model)]


def test_a_caller_is_answered_once_where_both_servers_answer(stage: Scene) -> None:
    """The late answer is for nobody, and those who come next get theirs."""
    model, (bad, _) = stage.model(), stage.servers
    bad.script.strike(model, Fault.SLOW)
    rows = [stage.row() for _ in range(CALLERS)]
    answers = []
    for row in rows:
        answers.append(stage.ask(model, row))
        bad.release(model)

    bad.script.forgive(model)
    bad.release(model)
    assert [good(stage.route, row) for row in rows] == answers
