"""Tests of batchproxy.core.canary: who runs again and when, and what the answers prove; nothing is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from batchproxy.core import canary as canary_module
from batchproxy.core.assembly import merge, split
from batchproxy.core.balancer import Endpoint
from batchproxy.core.batch import Batch, Bisection, Dispatch, Release
from batchproxy.core.canary import Canary, Trial, Verdict
from batchproxy.core.columns import Array, ArrayColumn, ListColumn
from batchproxy.core.policy import Policy
from batchproxy.core.request import BatchKey, Entry, Reply, Request
from batchproxy.testing import StubWaiter

Model = Callable[[Array], Array]

FIRSTS = (101.0, 111.0, 132.0, 167.0)
"""The first row of each member: none is the mean, a sum or twice another one."""


class Bench:
    """A canary, its endpoint, and what it said and stopped.

    Args:
        every: the model's ``canary_every``.
        policy: further fields of its policy.
    """

    def __init__(self, every: int = 1000, *, idempotent: bool = True) -> None:
        self.endpoint = Endpoint("e", max_relayed=2)
        self.endpoint.up = True
        self.notices: list[str] = []
        self.stopped: list[tuple[BatchKey, str]] = []
        policy = Policy(canary_every=every, idempotent=idempotent)
        self.canary = Canary(
            {"m": policy, "n": policy}, lambda key, why: self.stopped.append((key, why)), self.notices.append
        )
        self.run: list[list[float]] = []

    def draw(self, model: Model = lambda x: x, *, sizes: Sequence[int] = (1, 1), name: str = "m") -> Trial | None:
        """A batch of so many rows a member was answered by ``model``."""
        members = [_entry(rows, first, name) for rows, first in zip(sizes, FIRSTS, strict=False)]
        dispatch = Dispatch(Batch(list(members), merged=True), self.endpoint, 0.0, Release.IDLE, 64, None)
        columns, sent = merge(members, None)
        return self.canary.draw(dispatch, members, split(members, _reply(model, columns["x"]), sent))

    def judge(self, trial: Trial, model: Model) -> Verdict:
        """Make the calls that the trial asks for."""
        while (step := trial.step) is not None:
            columns, sent = merge(step.members, None)
            self.run.append(columns["x"].array.tolist())  # type: ignore[attr-defined]
            trial.tell(split(step.members, _reply(model, columns["x"]), sent)[step.place].columns)
        self.canary.ended(trial)
        return trial.verdict

    def verdict(self, model: Model, sizes: Sequence[int] = (1, 1)) -> Verdict:
        """Of the first batch."""
        trial = self.draw(model, sizes=sizes)
        assert trial is not None
        return self.judge(trial, model)

    def batches_drawn(self, count: int) -> list[int]:
        """Which of so many batches had a canary."""
        drawn = []
        for number in range(1, count + 1):
            if (trial := self.draw()) is not None:
                drawn.append(number)
                self.judge(trial, lambda x: x)
        return drawn


def f32(values: Any) -> Array:
    """A tensor of float32."""
    return np.array(values, np.float32)


def _entry(rows: int, first: float, name: str = "m") -> Entry:
    column = ArrayColumn(np.arange(first, first + rows, dtype=np.float32))
    return Entry(Request(BatchKey(name, 1, "s"), {"x": column}, rows, 0), StubWaiter(), 0.0)


def _reply(model: Model, column: object) -> Reply:
    assert isinstance(column, ArrayColumn)
    return Reply({"y": ArrayColumn(model(column.array))}, 1)


# ---------------------------------------------------------------- which batches


def test_the_first_batches_are_checked_earlier() -> None:
    """What is wrong from the start is seen at the start; later one in canary_every is checked."""
    assert [1, 10, 100, 200, 300] == Bench(every=100).batches_drawn(350)
    assert [1, 4, 7, 10] == Bench(every=3).batches_drawn(12)
    assert [] == Bench(every=0).batches_drawn(20)


def test_what_may_not_run_twice_does_not() -> None:
    """R3: ``idempotent: false`` forbids it."""
    assert [] == Bench(idempotent=False).batches_drawn(20)


def test_a_batch_of_one_has_no_company() -> None:
    """However many rows it has; it does not count as a batch."""
    bench = Bench()

    assert bench.draw(sizes=[5]) is None
    assert bench.draw(sizes=[1, 1]) is not None


def test_pieces_of_a_rejected_batch_are_left_alone() -> None:
    """They are run again already."""
    bench = Bench()
    members = [_entry(1, 0.0), _entry(1, 1.0)]
    batch = Batch(list(members), merged=True)
    batch.family = Bisection(2)
    dispatch = Dispatch(batch, bench.endpoint, 0.0, Release.AGAIN, 64, None)

    assert bench.canary.draw(dispatch, members, [Reply({}, 1), Reply({}, 1)]) is None


def test_one_at_a_time_and_what_is_due_waits() -> None:
    """Another model's first batch has none while one is under way; its next has."""
    bench = Bench()
    trial = bench.draw()
    assert trial is not None

    assert bench.draw(name="n") is None
    bench.judge(trial, lambda x: x)
    assert bench.draw(name="n") is not None


@pytest.mark.parametrize("state", ["crowded", "draining", "relayed", "down"])
def test_an_endpoint_that_has_no_room_sees_none(state: str) -> None:
    """More batches than partial ones may fill, one that is being timed, too many relays, or out of use: it waits."""
    bench = Bench()
    endpoint, limit = bench.endpoint, bench.endpoint.limit
    before = endpoint.relayed, limit.in_flight
    if state == "crowded":
        limit.in_flight = limit.partial + 1
    endpoint.relayed = 2 if state == "relayed" else 0
    limit.draining = state == "draining"
    endpoint.up = state != "down"

    assert bench.draw() is None
    endpoint.relayed, limit.in_flight = before
    limit.draining, endpoint.up = False, True
    assert bench.draw() is not None


def test_it_has_a_place_of_a_relay() -> None:
    """And gives it back."""
    bench = Bench()
    trial = bench.draw(sizes=[2, 3])
    assert trial is not None

    assert (1, 3, 0) == (bench.endpoint.relayed, bench.endpoint.rows, bench.endpoint.in_flight)
    bench.judge(trial, lambda x: x)
    assert (0, 0) == (bench.endpoint.relayed, bench.endpoint.rows)


def test_members_are_drawn_evenly_and_never_the_first_one_first() -> None:
    """A model may leak from each row to the next ones only."""
    bench = Bench(every=1)
    drawn = []
    for _ in range(100):
        trial = bench.draw(sizes=[1] * 4)
        assert trial is not None
        bench.judge(trial, lambda x: x)
        drawn.append(FIRSTS.index(bench.run[-1][0]))

    assert 0 != drawn[0]
    assert {0, 1, 2, 3} == set(drawn)
    assert max(map(drawn.count, range(4))) - min(map(drawn.count, range(4))) <= 2


def test_answers_that_cannot_be_compared_have_no_canary() -> None:
    """Python objects, and answers without any column."""
    bench = Bench(every=1)
    members = [_entry(1, 0.0), _entry(1, 1.0)]
    dispatch = Dispatch(Batch(list(members), merged=True), bench.endpoint, 0.0, Release.IDLE, 64, None)

    for reply in (Reply({}, 1), Reply({"y": ListColumn([1])}, 1)):
        assert bench.canary.draw(dispatch, members, [reply, reply]) is None
    assert 0 == bench.endpoint.relayed


def test_models_that_are_counted_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten, whether or not it has had a canary, and begins anew."""
    monkeypatch.setattr(canary_module, "MAX_TARGETS", 1)
    bench = Bench()
    trial = bench.draw(name="m")
    assert trial is not None

    assert bench.draw(name="n") is None
    bench.judge(trial, lambda x: x)
    assert bench.draw(name="m") is not None


# ---------------------------------------------------------------- what the answers prove


def test_the_same_answer_is_all_there_is_to_it() -> None:
    """One call; nothing is said."""
    bench = Bench()

    assert Verdict.SAME is bench.verdict(lambda x: x * 2, [2, 3])
    assert [[111, 112, 113]] == bench.run
    assert {("m", Verdict.SAME): 1} == bench.canary.verdicts
    assert [] == [*bench.notices, *bench.stopped]


def test_last_digits_may_differ() -> None:
    """R1's third law."""
    assert Verdict.SAME is Bench().verdict(lambda x: x * np.float32(1 + 1e-6 * (len(x) == 1)))


@pytest.mark.parametrize(
    "model",
    [lambda x: x - x.mean(), np.cumsum, lambda x: x - x[0], lambda x: x / x.max(), lambda x: np.roll(x, 1)],
    ids=["mean", "running sum", "first row", "largest", "next row"],
)
def test_rows_that_influence_each_other_are_found_at_the_first_batch(model: Model) -> None:
    """And batching is stopped, with the reason and what to do."""
    bench = Bench()

    assert Verdict.INFLUENCE is bench.verdict(model, [1, 1, 1])
    ((key, why),) = bench.stopped
    assert ("m", 1, "s") == key.target
    assert "what is in the other rows" in why
    assert "canary_every: 0" in why
    assert [] == bench.notices


@pytest.mark.parametrize("model", [lambda x: x / len(x), lambda x: x + 100 * np.arange(len(x), dtype=np.float32)])
def test_the_number_of_rows_must_not_matter_either(model: Model) -> None:
    """Nor a row's place; the neighbours' values are innocent, and the reason says so."""
    bench = Bench()

    assert Verdict.INFLUENCE is bench.verdict(model)
    assert "the number of rows, or its place" in bench.stopped[0][1]


def test_an_answer_of_another_shape_is_another_answer() -> None:
    """A model that drops the axis of a lone row: alone its answer comes as it is, whatever it is like."""
    bench = Bench()
    trial = bench.draw()
    assert trial is not None
    while (step := trial.step) is not None:
        lone = len(step.members) == 1
        trial.tell({"y": ArrayColumn(f32(111) if lone else f32([111]))})
    bench.canary.ended(trial)

    assert Verdict.INFLUENCE is trial.verdict
    assert "nothing alike" in bench.stopped[0][1]


def test_another_set_of_outputs_is_another_answer() -> None:
    """Names count, too."""
    trial = Bench().draw()
    assert trial is not None
    trial.tell({"z": ArrayColumn(f32([1]))})

    assert float("inf") == trial.apart


def test_kernels_that_round_in_another_way_are_no_influence() -> None:
    """A batch of the same size with other neighbours gives the same; it is said once, and batching goes on."""
    bench = Bench(every=1)

    def tf32(x: Array) -> Array:
        return x * np.float32(1 + 1e-3 * (len(x) > 1))

    for _ in range(3):
        assert Verdict.ROUNDING is bench.verdict(tf32)
    assert [] == bench.stopped
    (line,) = bench.notices
    assert "rounded in another way" in line
    assert "0.001 of the largest number" in line


def test_copies_take_the_place_of_the_neighbours_rows() -> None:
    """As many as there were before and after it, all like its first row."""
    bench = Bench()
    bench.verdict(lambda x: x - x.mean(), [2, 3, 1])

    assert [[111, 112, 113], [111, 112, 113], [111, 111, 111, 112, 113, 111]] == bench.run[:3]
    assert [101, 102, 111, 112, 113, 132] == bench.run[3]


def test_a_model_that_draws_lots_stays_batched_and_is_named_once() -> None:
    """Nobody could tell what its rows do to each other."""
    bench = Bench(every=1)
    lots = np.random.default_rng(1)

    for _ in range(3):
        assert Verdict.RANDOM is bench.verdict(lambda x: x + lots.normal(size=len(x)).astype(np.float32))
    assert [] == bench.stopped
    (line,) = bench.notices
    assert "not deterministic" in line
    assert {("m", Verdict.RANDOM): 3} == bench.canary.verdicts


def test_weights_that_were_replaced_meanwhile_are_no_influence() -> None:
    """The batch was answered by the old ones, each call of the canary by the new ones."""
    bench = Bench()
    trial = bench.draw(lambda x: x)
    assert trial is not None

    assert Verdict.RANDOM is bench.judge(trial, lambda x: x * 2)
    assert [] == bench.stopped


@pytest.mark.parametrize("seed", range(40))
def test_two_versions_behind_one_address_are_no_influence(seed: int) -> None:
    """Each call goes to either: an unlucky order of three or four must not do."""
    lots = np.random.default_rng(seed)
    bench = Bench(every=1)
    for _ in range(5):
        bench.verdict(lambda x: x * np.float32(1 + lots.integers(2)))

    assert [] == bench.stopped


def test_a_canary_without_an_answer_says_nothing() -> None:
    """It is only counted."""
    bench = Bench()
    trial = bench.draw()
    assert trial is not None
    bench.canary.ended(trial)

    assert {("m", Verdict.FAILED): 1} == bench.canary.verdicts
    assert [] == [*bench.notices, *bench.stopped]


def test_who_says_that_such_answers_are_good_enough_is_batched_again() -> None:
    """By ``canary_every: 0``, once; other changes are no such word."""
    bench = Bench()
    policies = {"m": Policy(canary_every=1)}
    bench.canary._policies = policies
    assert Verdict.INFLUENCE is bench.verdict(lambda x: x - x.mean())
    found = [set(bench.canary.forgiven())]
    policies["m"] = Policy(canary_every=1, max_delay_s=1.0)
    found.append(set(bench.canary.forgiven()))
    policies["m"] = Policy(canary_every=0)
    found += [set(bench.canary.forgiven()), set(bench.canary.forgiven())]

    target = bench.stopped[0][0].target
    assert [set(), set(), {target}, set()] == found
