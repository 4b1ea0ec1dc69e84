"""Each line of docs/reliability.md: a fault strikes the batch of four callers, and each is told what the line says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from tests.faults.scene import Said, Scene, Stages, good, told
from tests.faults.script import POISON, Fault, right
from tests.faults.table import cases, sees

TOGETHER = 4
PATIENCE_S = 1.5
"""Of callers whom nothing but their own deadline helps."""

CASES = list(cases())
IDS = [f"{protocol}-{fault.name}" for protocol, fault in CASES]


@pytest.fixture(scope="module", name="stages")
def _stages() -> Iterator[Stages]:
    with ExitStack() as stack:
        yield Stages(stack)


def struck(stage: Scene, fault: Fault, times: int | None) -> tuple[list[int], list[Said]]:
    """Four callers, whose batch a fault strikes: their rows, and what they are told."""
    model, script = stage.model(), stage.server.script
    rows = [stage.row() for _ in range(TOGETHER)]
    if fault is Fault.POISON_ROW:
        rows[1] = POISON
    patience_s = PATIENCE_S if fault is Fault.HANG else 30.0
    callers = stage.together(model, rows, lambda: script.strike(model, fault, times), patience_s)
    if fault is Fault.SLOW:
        stage.server.wait_for_waiting(model)
        script.forgive(model)
        stage.server.release(model)
    answers = told(callers)
    script.forgive(model)
    stage.server.release(model)
    after = stage.row()

    assert 4 in map(len, script.rows_of(model))
    assert good(stage.route, after) == _once_up(stage, model, after)
    return rows, answers


def _once_up(stage: Scene, model: str, row: int) -> Said:
    """What the next caller is told, once the server is used again."""
    stage.until_up()
    return stage.ask(model, row)


@pytest.mark.parametrize(("protocol", "fault"), CASES, ids=IDS)
def test_once(stages: Stages, protocol: str, fault: Fault) -> None:
    """A fault that strikes one call: who can be helped is helped, and nobody gets another's row."""
    rows, answers = struck(stages[protocol], fault, 1)

    check(stages[protocol], fault, rows, answers, always=False)


@pytest.mark.parametrize(("protocol", "fault"), CASES, ids=IDS)
def test_always(stages: Stages, protocol: str, fault: Fault) -> None:
    """A fault that strikes every call: an honest answer to each caller, of the caller's own row."""
    rows, answers = struck(stages[protocol], fault, None)

    check(stages[protocol], fault, rows, answers, always=True)


def check(stage: Scene, fault: Fault, rows: Sequence[int], answers: Sequence[Said], *, always: bool) -> None:
    """What each caller was told is what the page says, and tells of no other's row."""
    due = sees(fault, stage.route.name, always=always)
    if fault is Fault.NAN:
        assert 1 == sum(answer.nan for answer in answers)
    for row, answer in zip(rows, answers, strict=True):
        others = {str(other) for other in rows if other not in {row, POISON}}
        fine = good(stage.route, row)
        assert not any(other in answer.text for other in others), answer
        if due.right or (fault is Fault.POISON_ROW and row != POISON) or (fault is Fault.NAN and not answer.nan):
            assert fine == answer
            continue
        assert due.code == answer.code
        match fault:
            case Fault.NAN:
                assert [right(row)[0]] == [y for y, _ in answer.values or ()]
            case Fault.FEWER_ROWS:
                assert () == answer.values
            case Fault.MORE_ROWS:
                assert good(stage.route, row, row) == answer
            case Fault.POISON_ROW:
                assert f"row {POISON} is not among ({POISON},)" == answer.text
            case _:
                assert answer.values is None
                assert due.text in answer.text or due.code in {0, 200}
