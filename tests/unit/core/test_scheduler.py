"""Tests of batchproxy.core.scheduler: scripts that name what happens, and when."""

from __future__ import annotations

import pytest

from batchproxy.core.errors import Code, DeadlineExceeded, NoEndpoint, QueueFull
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.testing import FIXED, Playbook, a_request
from tests.unit.plays import one_slot, requests, running

OK, REJECTED, MAYBE_RUN = Outcome.OK, Outcome.REJECTED, Outcome.MAYBE_RUN


# -- sending -----------------------------------------------------------------------------------------


def test_lone_request_leaves_at_once() -> None:
    """An idle endpoint is used without any wait."""
    a = a_request()

    Playbook().at(1.0).submit(a).expect_wake(1.0).expect_dispatch([a], to="e0").expect_wake(None)


def test_batch_forms_while_the_backend_is_busy() -> None:
    """What comes meanwhile leaves together as soon as a slot is free, in order of arrival."""
    a, b, c = requests(3)
    play = one_slot()

    play.at(0.0).submit(a).expect_dispatch([a])
    play.at(0.1).submit(b, c).expect_nothing().expect_wake(None)
    play.at(0.2).settle(OK).expect_answered(a).expect_wake(0.2).expect_dispatch([b, c]).settle(OK)
    play.expect_answered(b, c)

    assert not play.scheduler.busy


def test_delay_ends_when_the_lane_is_full_or_due() -> None:
    """max_delay is a bound on waiting for company, not a wait."""
    a, b, c, d = requests(4)
    play = Playbook({"m": Policy(max_batch_rows=2, max_delay_s=0.5)})

    play.at(0.0).submit(a).expect_nothing().expect_wake(0.5)
    play.at(0.1).submit(b).expect_wake(0.1).expect_dispatch([a, b])
    play.at(0.2).submit(c).expect_nothing().expect_wake(0.7)
    play.at(0.7).expect_dispatch([c])
    play.at(0.8).submit(d).settle(OK).settle(OK).expect_nothing().expect_wake(1.3)


def test_larger_than_a_batch_goes_alone_in_order() -> None:
    """It is not refused, and neither overtakes nor is overtaken."""
    a, big, b = a_request(), a_request(9), a_request()
    play = Playbook({"m": Policy(max_batch_rows=4)}, max_inflight=3).submit(a, big, b)

    play.expect_dispatch([a]).expect_dispatch([big]).expect_dispatch([b])


def test_fixed_dimension_leaves_though_all_slots_are_busy() -> None:
    """R2: what may not be batched does not wait for a batch slot."""
    a, b, fixed = a_request(), a_request(), a_request(signature=FIXED)
    play = one_slot().submit(a).expect_dispatch([a]).submit(b).expect_nothing()

    play.submit(fixed).expect_wake(0.0).expect_dispatch([fixed]).settle(OK, of=fixed)
    play.expect_answered(fixed).expect_waiting(a, b)


def test_batching_off_sends_each_alone() -> None:
    """``batching: false`` is the same path."""
    a, b = requests(2)

    one_slot(Policy(batching=False)).submit(a, b).expect_dispatch([a]).expect_dispatch([b])


def test_max_relayed_is_a_limit() -> None:
    """Beyond it the caller is told so, and nothing was taken in."""
    a, b = a_request(signature=FIXED), a_request(signature=FIXED)
    play = Playbook(max_relayed=1).submit(a)

    with pytest.raises(QueueFull, match=r"every endpoint has max_relayed unmerged calls in flight"):
        play.submit(b)
    play.expect_dispatch([a]).expect_nothing().settle(OK)

    assert not play.scheduler.busy


def test_least_rows_then_turns() -> None:
    """Calls go to the endpoint with fewest outstanding rows; equals take turns."""
    big, *small = a_request(8), *(a_request(width=place) for place in (1, 2, 3))
    play = Playbook(endpoints=2, max_inflight=4)

    play.submit(big).expect_dispatch([big], to="e0")
    play.submit(small[0]).expect_dispatch([small[0]], to="e1")
    play.submit(small[1]).expect_dispatch([small[1]], to="e1")
    for _ in range(3):
        play.settle(OK)
    play.submit(small[2]).expect_dispatch([small[2]], to="e0")


# -- refusing ----------------------------------------------------------------------------------------


def test_nothing_up_is_said_at_once() -> None:
    """With each endpoint's last error, so that the caller's log says what the operator needs."""
    play = Playbook(endpoints=2)
    for endpoint in play.endpoints:
        endpoint.up, endpoint.last_error = False, "refused"

    with pytest.raises(NoEndpoint, match=r"'m': no endpoint can be used \(e0: refused; e1: refused\)"):
        play.submit(a_request())


def test_late_on_arrival_is_refused() -> None:
    """It is never queued."""
    with pytest.raises(DeadlineExceeded):
        Playbook().at(2.0).submit(a_request(deadline=2.0))


def test_queue_bounds() -> None:
    """Rows are bounded for the model, bytes for all; the only one that waits is never refused."""
    busy, a = a_request(), a_request(9)
    play = Playbook({"m": Policy(max_queued_rows=8)}, max_inflight=1, max_queued_bytes=80)
    play.submit(busy).expect_dispatch([busy]).submit(a)

    with pytest.raises(QueueFull, match="max_queued_rows"):
        play.submit(a_request())

    assert (72, {"m": 9}) == (play.scheduler.queued_bytes, play.scheduler.queued_rows())


# -- leaving early -----------------------------------------------------------------------------------


def test_cancelled_client_does_not_disturb_its_batch_mates() -> None:
    """Queued or in flight: the others get what they would have got."""
    a, b, c, d, e = requests(5)
    play = one_slot().submit(a, b).expect_dispatch([a, b]).submit(c, d, e)

    play.cancel(a).cancel(d).settle(OK).expect_answered(b).expect_dispatch([c, e]).settle(OK).expect_answered(c, e)

    assert play.waiter(a).reply is None
    assert play.waiter(d).reply is None


def test_expired_entry_does_not_shift_the_others() -> None:
    """It is told, not sent, and everybody else keeps his own place."""
    busy, a, late, b = a_request(), a_request(), a_request(deadline=0.5), a_request()
    play = one_slot().submit(busy).expect_dispatch([busy]).submit(a, late, b)

    play.at(1.0).settle(OK).expect_dispatch([a, b])

    assert play.scheduler.late()
    play.sweep().expect_failed(late, Code.DEADLINE_EXCEEDED)
    play.settle(OK).expect_answered(a, b)
    assert not play.scheduler.late()


def test_cancelled_alone_in_its_lane() -> None:
    """The lane goes with it, and nothing is left to wake for; a second word about it changes nothing."""
    a = a_request()
    play = Playbook({"m": Policy(max_delay_s=0.5)}).submit(a).cancel(a).cancel(a).expect_wake(None)

    assert not play.scheduler.busy
    assert "Scheduler(lanes=0, queued_rows=0, running=0)" == repr(play.scheduler)


def test_deadline_in_the_queue_is_swept() -> None:
    """A saturated pool need not come to an entry for its caller to be told."""
    busy, a, b = a_request(), a_request(deadline=0.5), a_request()
    play = one_slot().submit(busy).expect_dispatch([busy]).submit(a, b)

    play.at(0.4).sweep().expect_waiting(a).at(0.5).sweep().expect_failed(a, Code.DEADLINE_EXCEEDED)
    play.settle(OK).expect_dispatch([b])


def test_deadline_in_flight_leaves_the_call_to_the_others() -> None:
    """Its slice is dropped; the last live member gone, the call is abandoned."""
    a, b = a_request(deadline=0.5), a_request()
    play = running(a, b)

    play.at(0.5).sweep().expect_failed(a, Code.DEADLINE_EXCEEDED)
    abandoned = play.scheduler.discard(play.entry(b))
    assert play.in_flight == list(abandoned)
    assert () == play.scheduler.discard(play.entry(b))
    play.settle(MAYBE_RUN).expect_nothing()

    assert not play.scheduler.busy


def test_call_without_deadline_is_given_up() -> None:
    """After call_timeout_s, for members without a deadline of their own; 0 waits for ever."""
    a, b = a_request(), a_request(deadline=99.0)
    play = Playbook(call_timeout_s=10.0).submit(a, b).expect_dispatch([a, b])
    patient = Playbook(call_timeout_s=0.0).submit(c := a_request()).expect_dispatch([c])

    play.at(9.9).sweep().expect_waiting(a, b).at(10.0).sweep()
    play.expect_failed(a, Code.DEADLINE_EXCEEDED).expect_waiting(b)
    patient.at(1e6).sweep().expect_waiting(c)


def test_dead_members_of_a_waiting_batch_are_not_sent() -> None:
    """A piece that waits for a slot loses who left and who is late; one without members is dropped."""
    a, b, c, d = a_request(first=0), a_request(first=1), a_request(first=2, deadline=6.0), a_request(first=3)
    play = running(a, b, c, d).settle(REJECTED).expect_dispatch([a, b])

    play.waiter(d).cancel()
    play.at(7.0).settle(REJECTED).expect_dispatch([a]).settle(REJECTED).expect_dispatch([b]).settle(OK)
    play.expect_nothing().sweep().expect_failed(c, Code.DEADLINE_EXCEEDED)

    assert not play.scheduler.busy


def test_relayed_call_cancelled_before_it_is_sent() -> None:
    """It gives its place back and is never sent."""
    a = a_request(signature=FIXED)
    play = Playbook(max_relayed=1).submit(a).cancel(a).expect_nothing()

    assert 0 == play.endpoints[0].relayed
    assert not play.scheduler.busy


def test_stranded_are_everybody_unanswered() -> None:
    """Queued, late, in flight, waiting for another try, and parked while its family is tried."""
    rows = [a_request(first=place) for place in range(16)]
    play = running(*rows).settle(REJECTED)
    for half in (rows[:8], rows[:4]):
        play.expect_dispatch(half).settle(REJECTED)
    play.expect_dispatch(rows[4:8]).submit(queued := a_request())

    stranded = play.scheduler.stranded()

    assert {queued, *rows} == {entry.request for entry in stranded}
    assert 17 == len(stranded)


def test_representation() -> None:
    """What a failing playbook shows."""
    assert "Scheduler(lanes=0, queued_rows=0, running=0)" == repr(Playbook().scheduler)


def test_more_than_a_size_is_cut_where_padding_costs_more() -> None:
    """A model whose rows cost what they cost: five rows leave as four and one, not padded to eight."""
    policy = Policy(max_batch_rows=8, allowed_batch_sizes=(1, 4, 8))
    play = one_slot(policy)
    for number in range(8):
        rows = requests(4 if number % 2 else 1)
        play.at(number).submit(*rows).expect_dispatch(rows).at(number + 0.01 * len(rows)).settle(OK)
    rows = requests(5)

    play.submit(*rows).expect_dispatch(rows[:4]).settle(OK).expect_dispatch(rows[4:])
    assert 1 == play.in_flight[0].sent
