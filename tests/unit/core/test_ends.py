"""Tests of batchproxy.core.ends: what becomes of a call, by ruling R3's table. Scripts, as in test_scheduler."""

from __future__ import annotations

import pytest

from batchproxy.core.ends import MAX_ATTEMPTS
from batchproxy.core.errors import BatchProxyError, Code
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.testing import FIXED, Playbook, a_request
from tests.unit.plays import one_slot, requests, running

OK, REJECTED, NOT_RUN = Outcome.OK, Outcome.REJECTED, Outcome.NOT_RUN
MAYBE_RUN, TOO_BIG, LATE = Outcome.MAYBE_RUN, Outcome.TOO_BIG_OR_BUSY, Outcome.LATE
UNSPLITTABLE, SAME_FOR_ALL = Outcome.UNSPLITTABLE, Outcome.SAME_FOR_ALL

TOLD = BatchProxyError("told by the backend", code=Code.UNAVAILABLE)


def test_rejected_batch_is_bisected() -> None:
    """The bad request fails alone, with the text of its own call; the good are not run again."""
    a, b, bad, d = requests(4)
    play = running(a, b, bad, d).settle(REJECTED).expect_waiting(a, b, bad, d)

    play.expect_dispatch([a, b]).settle(OK).expect_answered(a, b)
    play.expect_dispatch([bad, d]).settle(REJECTED)
    play.expect_dispatch([bad]).settle(REJECTED).expect_failed(bad, Code.INVALID_ARGUMENT, "rows [2]")
    play.expect_dispatch([d]).settle(OK).expect_answered(d)


def test_lone_rejected_request_gets_the_backends_own_words() -> None:
    """There is nobody to protect it from, or from whom."""
    (a,) = requests(1)

    running(a).settle(REJECTED, TOLD).expect_failed(a, Code.UNAVAILABLE, "told by the backend")


def test_pieces_go_before_the_queue() -> None:
    """Who waits behind a bad batch waits until its members are answered."""
    a, b, c = requests(3)
    play = running(a, b).submit(c).settle(REJECTED).expect_wake(0.0)

    play.expect_dispatch([a]).settle(OK).expect_dispatch([b]).settle(OK).expect_dispatch([c])


def test_second_bad_batch_halves_the_cap_and_says_so() -> None:
    """Of 32; it holds until 32 clean batches (which test_lane counts out)."""
    rows = requests(8)
    play = one_slot(Policy(max_batch_rows=4))
    for batch in (rows[:2], rows[2:4]):
        play.submit(*batch).expect_dispatch(batch).settle(REJECTED)
        for row in batch:
            play.expect_dispatch([row]).settle(OK)

    play.submit(*rows[4:]).expect_dispatch(rows[4:6]).settle(OK).expect_dispatch(rows[6:])

    assert ["at most 2 rows ride together until 32 good ones have passed"] == [
        notice.rpartition("; ")[2] for notice in play.notices
    ]


def test_lane_that_is_full_by_a_lowered_cap_leaves() -> None:
    """Not only once the delay is over that it was given when there was room."""
    bad, waiting = requests(4), [a_request(), a_request()]
    play = Playbook({"m": Policy(max_batch_rows=4, max_delay_s=9.0)}, max_inflight=2)
    play.submit(*bad).expect_dispatch(bad).submit(*waiting).expect_nothing()

    play.settle(TOO_BIG).expect_dispatch(bad[:2]).expect_dispatch(bad[2:]).settle(OK).expect_dispatch(waiting)


def test_lane_is_forgotten_once_it_remembers_nothing_bad() -> None:
    """Empty lanes are dropped at once, but for what they know of bad batches; 32 clean ones later they go, too."""
    a, b = requests(2)
    play = running(a, b).settle(REJECTED)
    for row in (a, b):
        play.expect_dispatch([row]).settle(OK)

    lanes = [repr(play.scheduler)]
    for row in requests(32):
        play.submit(row).expect_dispatch([row]).settle(OK)
    lanes.append(repr(play.scheduler))

    assert ["Scheduler(lanes=1, queued_rows=0, running=0)", "Scheduler(lanes=0, queued_rows=0, running=0)"] == lanes


def test_same_for_all_is_copied() -> None:
    """It depends on the key alone, so it is every member's own answer."""
    a, b = requests(2)
    play = running(a, b).settle(SAME_FOR_ALL, TOLD)

    play.expect_failed(a, Code.UNAVAILABLE, "told by").expect_failed(b, Code.UNAVAILABLE, "told by")


def test_late_call_is_not_run_again_and_keeps_its_text() -> None:
    """Members of a merged call get our words; a lone one the backend's."""
    a, b, c = requests(3)
    play = running(a, b).settle(LATE, TOLD)
    play.expect_failed(a, Code.DEADLINE_EXCEEDED, "Deadline Exceeded").expect_failed(b, Code.DEADLINE_EXCEEDED)

    play.submit(c).expect_dispatch([c]).settle(LATE, TOLD).expect_failed(c, Code.UNAVAILABLE, "told by")


def test_too_big_halves_elsewhere_and_lowers_the_cap() -> None:
    """If the halves pass, this lane sends no larger batches for a while."""
    rows = requests(4)
    play = Playbook({"m": Policy(max_batch_rows=4)}, endpoints=2, max_inflight=1)
    play.submit(*rows).expect_dispatch(rows, to="e0").settle(TOO_BIG)

    play.expect_dispatch(rows[:2], to="e1").expect_dispatch(rows[2:], to="e0").settle(OK).settle(OK)
    play.expect_answered(*rows).submit(*(more := requests(3))).expect_dispatch(more[:2])

    assert ["model 'm': the backend took 2 rows at a time, but not more"] == play.notices


def test_unsplittable_sends_singles_and_batches_no_more() -> None:
    """Each gets what a direct call gives; the queued and the next ones travel alone."""
    a, b, c, d, e = requests(5)
    play = running(a, b).submit(c, d).settle(UNSPLITTABLE)

    for row in (a, b, c, d):
        play.expect_dispatch([row]).settle(OK).expect_answered(row)
    play.submit(e).expect_dispatch([e])

    assert {a.key.target} == play.scheduler.unbatched
    assert ["batching is off from now on"] == [notice.split(": ")[1] for notice in play.notices]
    assert not any(dispatch.batch.padded for dispatch in play.in_flight)


def test_unsplittable_piece_is_paid_from_the_budget() -> None:
    """Found while bisecting, it sends its members one by one within the family's calls."""
    rows = requests(4)
    play = running(*rows).settle(REJECTED).expect_dispatch(rows[:2]).settle(UNSPLITTABLE)

    for piece in ([rows[0]], [rows[1]], rows[2:]):
        play.expect_dispatch(piece).settle(OK)
    play.expect_answered(*rows)


def test_padding_that_cannot_be_undone_is_left_off() -> None:
    """A lone padded request whose answer has another length is sent as it came, once, without padding."""
    (a,) = requests(1)
    play = running(a, policy=Policy(max_batch_rows=4, allowed_batch_sizes=(4,)))
    padded = [play.in_flight[0].batch.padded]

    play.settle(UNSPLITTABLE).expect_dispatch([a])
    padded.append(play.in_flight[0].batch.padded)

    assert [True, False] == padded
    play.settle(UNSPLITTABLE, TOLD).expect_failed(a, Code.UNAVAILABLE)


@pytest.mark.parametrize("signature", [None, FIXED], ids=["merged", "relayed"])
def test_not_run_is_tried_elsewhere(signature: object) -> None:
    """Up to MAX_ATTEMPTS, not where it failed if there is a choice; then the caller is told the reason."""
    a = a_request(signature=FIXED) if signature else a_request()
    play = Playbook(endpoints=2, max_inflight=1).submit(a)

    for endpoint in ("e0", "e1", "e0")[:MAX_ATTEMPTS]:
        play.expect_waiting(a).expect_dispatch([a], to=endpoint).settle(NOT_RUN, TOLD)

    play.expect_failed(a, Code.UNAVAILABLE, "told by the backend").expect_nothing()
    assert [(0, 0, 0)] * 2 == [(e.in_flight, e.relayed, e.rows) for e in play.endpoints]


def test_relayed_call_that_did_not_run_needs_no_slot_for_its_next_try() -> None:
    """R2 holds for retries, and the books of both kinds of call stay right."""
    a, fixed = a_request(), a_request(signature=FIXED)
    play = one_slot().submit(fixed).expect_dispatch([fixed]).submit(a).expect_dispatch([a])

    play.settle(NOT_RUN, of=fixed).expect_dispatch([fixed])

    assert (1, 1) == (play.endpoints[0].in_flight, play.endpoints[0].relayed)


def test_relayed_call_finds_no_second_place() -> None:
    """Where every endpoint is down or has its fill, it fails with what it was told."""
    a = a_request(signature=FIXED)
    play = Playbook().submit(a).expect_dispatch([a])
    play.endpoints[0].up = False

    play.settle(NOT_RUN, TOLD).expect_failed(a, Code.UNAVAILABLE, "told by")


def test_merged_call_that_did_not_run_passes_its_text_on() -> None:
    """R3 allows it: such a text comes from the way, not from the body."""
    a, b = requests(2)
    play = running(a, b)
    for _ in range(MAX_ATTEMPTS - 1):
        play.settle(NOT_RUN, TOLD).expect_dispatch([a, b])

    play.settle(NOT_RUN, TOLD).expect_failed(a, Code.UNAVAILABLE, "told by").expect_failed(b, Code.UNAVAILABLE)


def test_merged_call_that_may_have_run_keeps_its_text() -> None:
    """As NOT_RUN where the model is idempotent, but in our words."""
    a, b = requests(2)
    play = running(a, b)
    for _ in range(MAX_ATTEMPTS - 1):
        play.settle(MAYBE_RUN).expect_dispatch([a, b])

    play.settle(MAYBE_RUN).expect_failed(a, Code.UNAVAILABLE, "connection was lost")

    error = play.waiter(b).error
    assert error is not None
    assert "rows" not in error.message


def test_lone_call_that_may_have_run_gets_the_backends_own_words() -> None:
    """Nobody else's data is in it."""
    (a,) = requests(1)
    play = running(a)
    for _ in range(MAX_ATTEMPTS - 1):
        play.settle(MAYBE_RUN, TOLD).expect_dispatch([a])

    play.settle(MAYBE_RUN, TOLD).expect_failed(a, Code.UNAVAILABLE, "told by")


@pytest.mark.parametrize("outcome", [REJECTED, TOO_BIG, UNSPLITTABLE])
def test_not_idempotent_is_never_run_twice(outcome: Outcome) -> None:
    """No bisecting, no halving; the lane goes one by one from then on, those that wait included."""
    a, b, c, d, e = requests(5)
    play = running(a, b, policy=Policy(idempotent=False)).submit(c, d).settle(outcome)

    play.expect_failed(a, Code.ABORTED, "idempotent: false").expect_failed(b, Code.ABORTED)
    play.expect_dispatch([c]).settle(OK).expect_dispatch([d])
    play.submit(e).expect_dispatch([e])


def test_not_idempotent_call_that_may_have_run_is_not_tried_again() -> None:
    """It certainly did not run: then it may be; it may have run: then not."""
    a, b = requests(2)
    policy = Policy(idempotent=False)

    running(a, policy=policy).settle(NOT_RUN).expect_dispatch([a])
    running(b, policy=policy).settle(MAYBE_RUN).expect_failed(b, Code.UNAVAILABLE, "connection was lost")


def test_failed_call_of_nobody_is_forgotten() -> None:
    """Everybody left while it ran: nothing is bisected or tried again."""
    for outcome in (REJECTED, NOT_RUN, UNSPLITTABLE, SAME_FOR_ALL):
        a, b = requests(2)
        play = running(a, b).cancel(a).cancel(b).settle(outcome).expect_nothing()

        assert not play.scheduler.busy


def test_members_that_leave_a_rejected_batch_are_not_run_again() -> None:
    """While it ran, and while its pieces wait."""
    a, b, c, d = requests(4)
    play = running(a, b, c, d).cancel(b).settle(REJECTED).expect_dispatch([a, c]).settle(OK).cancel(d)

    play.expect_nothing()
    assert not play.scheduler.busy


def test_who_shared_a_call_gets_no_word_of_it_though_the_others_left() -> None:
    """The last live member of a rejected batch is run again for a text of its own."""
    a, b = requests(2)
    play = running(a, b).cancel(a).settle(REJECTED).expect_dispatch([b])

    play.settle(REJECTED).expect_failed(b, Code.INVALID_ARGUMENT, "rows [1]")


def test_a_lone_request_is_not_refused_for_its_padding() -> None:
    """A backend that takes six rows, but not eight, is sent six."""
    a = a_request(6)
    play = running(a, policy=Policy(max_batch_rows=8, allowed_batch_sizes=(4, 8)))
    sent = [play.in_flight[0].sent]

    play.settle(TOO_BIG).expect_dispatch([a])
    sent.append(play.in_flight[0].sent)
    play.settle(OK).expect_answered(a)

    assert [8, 6] == sent


def test_a_lone_request_that_is_too_big_without_padding_is_refused() -> None:
    """With the backend's own words, and so is one that may not run twice."""
    a, b = a_request(6), a_request(6)
    policy = Policy(max_batch_rows=8, allowed_batch_sizes=(4, 8))
    once = Policy(max_batch_rows=8, allowed_batch_sizes=(4, 8), idempotent=False)

    running(a, policy=policy).settle(TOO_BIG).expect_dispatch([a]).settle(TOO_BIG).expect_failed(
        a, Code.INVALID_ARGUMENT, "rows"
    )
    running(b, policy=once).settle(TOO_BIG).expect_failed(b, Code.INVALID_ARGUMENT, "rows")


def test_what_a_backend_took_counts_with_its_padding() -> None:
    """Of seven rows, padded to eight, it takes four at a time, though only three of these are anybody's."""
    rows = requests(7)
    play = running(*rows, policy=Policy(max_batch_rows=8, allowed_batch_sizes=(4, 8)))
    play.settle(TOO_BIG).expect_dispatch(rows[:4]).settle(OK).expect_dispatch(rows[4:]).settle(OK)

    play.submit(*(more := requests(6))).expect_dispatch(more[:4])
    assert ["model 'm': the backend took 4 rows at a time, but not more"] == play.notices


def test_quarantine_begins_and_ends_with_a_line_and_can_be_seen() -> None:
    """After 32 clean batches its lane is as before."""
    play = one_slot()
    for _ in range(2):
        bad = requests(2)
        play.submit(*bad).expect_dispatch(bad).settle(REJECTED)
        for request in bad:
            play.expect_dispatch([request]).settle(OK)
    seen = [(lane.cap, lane.clean_left) for lane in play.scheduler.quarantined()]
    for left in range(32, 0, -1):
        assert [left] == [lane.clean_left for lane in play.scheduler.quarantined()]
        (good,) = requests(1)
        play.submit(good).expect_dispatch([good]).settle(OK)

    assert [(32, 32)] == seen
    assert [] == list(play.scheduler.quarantined())
    assert (
        "model 'm', version 1, 'serving_default': 32 good batches have passed; up to 64 rows ride together again"
        == (play.notices[-1])
    )
