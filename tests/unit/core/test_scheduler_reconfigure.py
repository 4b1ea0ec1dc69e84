"""Policies that change while requests wait."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.errors import QueueFull
from batchproxy.core.lane import MAX_TEXT_BYTES
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policies, Policy
from batchproxy.core.raw import REST, RawCall
from batchproxy.testing import Playbook, a_request
from tests.unit.plays import requests


class Play:
    """A playbook whose policies can change."""

    def __init__(self, **policy: Any) -> None:
        self.policies = Policies({"m": Policy(**policy)})
        self.play = Playbook(self.policies, max_inflight=1)

    def change(self, **policy: Any) -> Playbook:
        """The model has another policy from now on."""
        self.policies.change({"m": Policy(**policy)}, None)
        self.play.scheduler.reconfigure()
        return self.play


def test_who_waits_goes_by_the_new_policy() -> None:
    """In the order in which they came."""
    a, b, c, d, e = requests(5)
    scene = Play(max_batch_rows=8)
    scene.play.submit(a).expect_dispatch([a]).submit(b, c, d, e)
    scene.change(max_batch_rows=3).settle(Outcome.OK).expect_dispatch([b, c, d])
    scene.play.settle(Outcome.OK).expect_dispatch([e]).settle(Outcome.OK).expect_answered(a, b, c, d, e)


def test_a_delay_begins_and_ends() -> None:
    """Whoever waits for company without need leaves."""
    a, b = requests(2)
    scene = Play()
    scene.change(max_delay_s=1.0).submit(a).expect_nothing().expect_wake(1.0)
    scene.change().expect_dispatch([a])
    scene.change(max_delay_s=1.0).settle(Outcome.OK).submit(b).expect_nothing()
    scene.play.at(1.0).expect_dispatch([b])


def test_bounds_hold_for_who_comes() -> None:
    """Nobody who waits already is refused."""
    a, b, c, d = requests(4)
    scene = Play()
    scene.play.submit(a).expect_dispatch([a]).submit(b, c)
    with pytest.raises(QueueFull, match=r"max_queued_rows \(2\)"):
        scene.change(max_batch_rows=2, max_queued_rows=2).submit(d)
    scene.play.settle(Outcome.OK).expect_dispatch([b, c])


def test_what_waits_is_still_batched_where_batching_ends() -> None:
    """Who comes then goes alone."""
    a, b, c, d = requests(4)
    scene = Play()
    scene.play.submit(a).expect_dispatch([a]).submit(b, c)
    scene.change(batching=False).submit(d).expect_dispatch([d]).settle(Outcome.OK, of=a).expect_dispatch([b, c])


def test_what_was_learned_of_another_policy_is_forgotten() -> None:
    """A lane in quarantine begins anew; one whose policy is the same stays there."""
    several = requests(8)
    scene = Play(max_batch_rows=8)
    play, lanes = scene.play, scene.play.scheduler._lanes
    play.submit(several[0]).expect_dispatch(several[:1]).submit(*several[1:])
    lane = lanes.lane(several[0].key)
    lane.lower_cap(2)
    scene.change(max_batch_rows=8)
    same = lane.cap
    scene.change(max_batch_rows=6)

    assert (2, 6) == (same, lane.cap)


def test_rounding_is_found_out_anew() -> None:
    """A backend that compiles compiles for the new sizes, too."""
    scene = Play(max_batch_rows=12)
    scheduler = scene.play.scheduler
    scheduler.policies.round("m")
    scheduler._lanes.round("m")
    rounded = scheduler.policies["m"].allowed_batch_sizes
    scene.change(max_batch_rows=12)
    same = scheduler.policies["m"].allowed_batch_sizes
    scene.change(max_batch_rows=6)
    book = scheduler._lanes.books["m"]

    assert (1, 2, 4, 8, 12) == rounded == same
    assert () == scheduler.policies["m"].allowed_batch_sizes
    assert (6, False) == (book.cap.rows, book.rounded)


def test_texts_stay_below_their_bound() -> None:
    """However many bytes a batch may have."""
    text, other = requests(2)
    text.raw = RawCall(REST, "POST", "/v1/models/m:predict", (), b"{}")
    text.key, other.key = (request.key._replace(shapes=(name,)) for request, name in ((text, "t"), (other, "o")))
    scene = Play()
    scene.play.submit(a_request()).expect_dispatch([scene.play.scheduler.stranded()[0].request]).submit(text, other)
    scene.change(max_batch_bytes=2 * MAX_TEXT_BYTES)
    lanes = scene.play.scheduler._lanes

    assert (MAX_TEXT_BYTES, 2 * MAX_TEXT_BYTES) == (lanes.lane(text.key).max_bytes, lanes.lane(other.key).max_bytes)


def test_a_model_that_is_gone_keeps_its_policy_for_who_waits() -> None:
    """And one that came has its own."""
    a, b = requests(2)
    scene = Play(max_batch_rows=1)
    scene.play.submit(a).expect_dispatch([a]).submit(b)
    scene.policies.change({"n": Policy(max_batch_rows=3)}, None)
    scene.play.scheduler.reconfigure()
    scene.play.settle(Outcome.OK).expect_dispatch([b]).settle(Outcome.OK).expect_answered(a, b)

    assert 1 == scene.policies["m"].max_batch_rows
    assert ["m", "n"] == sorted(scene.play.scheduler.queued_rows())
    with pytest.raises(KeyError):
        scene.policies["other"]


@given(
    st.lists(
        st.one_of(
            st.just("submit"),
            st.just("end"),
            st.builds(
                Policy,
                max_batch_rows=st.integers(1, 5),
                max_delay_s=st.sampled_from([0.0, 2.0]),
                batching=st.booleans(),
                priority=st.integers(0, 2),
            ),
        ),
        max_size=30,
    )
)
def test_whatever_changes_everyone_is_answered_once(steps: list[str | Policy]) -> None:
    """Nobody is lost between two policies."""
    policies = Policies({"m": Policy()})
    play = Playbook(policies, max_inflight=1)
    sent = []
    for number, step in enumerate(steps):
        play.at(float(number))
        if step == "submit":
            sent.append(a_request(first=number))
            play.submit(sent[-1])
        elif isinstance(step, Policy):
            policies.change({"m": step}, None)
            play.scheduler.reconfigure()
        elif play.in_flight:
            play.settle(Outcome.OK)
        while (dispatch := play.scheduler.poll(play.now)) is not None:
            play.in_flight.append(dispatch)
    play.at(len(steps) + 10.0)
    while play.in_flight or play.scheduler.busy:
        while (dispatch := play.scheduler.poll(play.now)) is not None:
            play.in_flight.append(dispatch)
        play.settle(Outcome.OK)

    play.expect_answered(*sent)


def test_a_model_is_batched_again_where_its_answers_are_good_enough() -> None:
    """Whose rows influence each other: the word of whoever configures it holds at once."""
    a, b, c, d = requests(4)
    scene = Play(canary_every=1)
    scheduler = scene.play.scheduler
    scheduler.unbatched.add(a.key.target)
    scheduler.canary._blamed.add(a.key.target)
    scene.play.submit(a, b).expect_dispatch([a]).expect_dispatch([b]).settle(Outcome.OK).settle(Outcome.OK)

    scene.change(canary_every=0).submit(c, d).expect_dispatch([c, d])
