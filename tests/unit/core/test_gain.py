"""Tests of batchproxy.core.gain: when merging is off, what that means, and that it is tried again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.batch import Dispatch
from batchproxy.core.cost import Cost
from batchproxy.core.gain import AGAIN, LOOK, SAMPLES, Worth
from batchproxy.core.outcome import Outcome
from batchproxy.testing import Playbook, a_request

CAP = 64


def a_cost(alpha: float, beta: float, *, sizes: tuple[int, ...] = (1, 64), samples: int = 2 * SAMPLES) -> Cost:
    """What was learned from batches of these sizes, each alone on an endpoint that takes exactly so long."""
    cost = Cost()
    for turn in range(samples):
        rows = sizes[turn % len(sizes)]
        cost.learn(rows, alpha + beta * rows, turn)
    return cost


def settled(cost: Cost) -> Worth:
    """Judged once."""
    for _ in range(LOOK):
        cost.worth.rows(cost, CAP, 1, 1)
    return cost.worth


def test_off_where_merging_gains_next_to_nothing() -> None:
    """0.1 ms a call, 10 ms a row: batches of 64 are 1 % faster."""
    worth = settled(a_cost(0.0001, 0.01))

    assert worth.off
    assert "Worth(off)" == repr(worth)


def test_on_where_it_gains() -> None:
    """1 ms a call, 4 ms a row: 25 %."""
    worth = settled(a_cost(0.001, 0.004))

    assert not worth.off
    assert "Worth(on)" == repr(worth)


def test_on_until_there_is_evidence() -> None:
    """Of enough batches, of sizes far enough apart, and once they have been looked at."""
    assert not settled(a_cost(0.0001, 0.01, samples=SAMPLES - 1)).off
    assert not settled(a_cost(0.0001, 0.01, sizes=(2, 7))).off
    assert not settled(a_cost(0.0001, 0.01, sizes=(8,))).off
    assert not settled(Cost()).off
    assert not a_cost(0.0001, 0.01).worth.off


def test_rows_go_one_by_one_while_there_is_room() -> None:
    """More than the endpoint has places for are merged all the same: then it is short of time."""
    cost = a_cost(0.0001, 0.01)
    worth = settled(cost)

    assert 1 == worth.rows(cost, CAP, 4, 4)
    assert CAP == worth.rows(cost, CAP, 5, 4)
    assert CAP == worth.rows(cost, CAP, 1, 0)


def test_it_is_tried_again() -> None:
    """On for a few batches, and judged anew: a model that moved to an accelerator stays merged."""
    cost = a_cost(0.0001, 0.01)
    worth = settled(cost)
    for _ in range(AGAIN - 1):
        assert 1 == worth.rows(cost, CAP, 1, 1)

    assert [CAP] * LOOK == [worth.rows(cost, CAP, 1, 1) for _ in range(LOOK)]
    assert 1 == worth.rows(cost, CAP, 1, 1)
    for turn in range(200):
        cost.learn(1 + 63 * (turn % 2), 0.01, 1000 + turn)
    for _ in range(AGAIN + 2 * LOOK):
        worth.rows(cost, CAP, 1, 1)
    assert not worth.off


@given(st.floats(0, 0.1), st.floats(1e-5, 0.1), st.floats(0, 0.2), st.randoms(use_true_random=False))
def test_never_off_by_mistake(alpha: float, beta: float, noise: float, chance: object) -> None:
    """What gains far more than the bound is never switched off, whatever noise there is."""
    cost = Cost()
    for turn in range(3 * SAMPLES):
        rows = (1, 4, 16, 64)[turn % 4]
        jitter = 1 + noise * (2 * chance.random() - 1)  # type: ignore[attr-defined]
        cost.learn(rows, (alpha + beta * rows) * jitter, turn)
    worth = settled(cost)

    assert not worth.off or (alpha + beta) * CAP / (alpha + beta * CAP) < 1.5


def test_the_scheduler_asks() -> None:
    """Three requests that wait for an endpoint with two places go as one batch, two that wait go one by one."""
    play = Playbook(max_inflight=2)
    endpoint = play.endpoints[0]
    requests = [a_request(first=number) for number in range(6)]
    cost = endpoint.cost(requests[0].key)
    for turn in range(2 * SAMPLES):
        rows = 1 + 63 * (turn % 2)
        cost.learn(rows, 0.0001 + 0.01 * rows, turn)
    assert settled(cost).off

    def submit(count: int) -> list[Dispatch]:
        first = len(play.in_flight)
        for request in requests[:count]:
            play.submit(request)
        del requests[:count]
        while (dispatch := play.scheduler.poll(play.now)) is not None:
            play.in_flight.append(dispatch)
        return play.in_flight[first:]

    together = submit(3)
    assert [3] == [dispatch.rows for dispatch in together]
    play.scheduler.settle(together[0], 0.5, Outcome.OK)
    assert [1, 1] == [dispatch.rows for dispatch in submit(2)]
