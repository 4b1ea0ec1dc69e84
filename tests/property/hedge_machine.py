"""The part of the scheduler's state machine that is about hedges: batches that are under way at two endpoints."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis.stateful import invariant

from batchproxy.core.batch import Dispatch
from batchproxy.core.lane import Lane
from batchproxy.core.policy import Policy
from batchproxy.core.request import State
from batchproxy.core.retries import HEDGED, HEDGED_PER_S, WINDOW_S
from tests.property.pool_machine import PoolMachine

FREE = HEDGED_PER_S * WINDOW_S
"""Hedges that may be made however few calls there are."""


class HedgeMachine(PoolMachine):
    """What must hold of hedges; when time passes, and how calls end, is `machine`'s."""

    policies: Mapping[str, Policy]
    calls: list[float]  # when one ended
    hedges: list[float]  # when one was sent

    def spend_hedges(self) -> None:
        """One more is one too many, if next to no calls were made."""
        while len(self.hedges) < FREE:
            self.hedges.append(self.now)
            self.scheduler.retries.may_hedge(self.now)
            self.scheduler.retries.hedged()

    def check_hedge(self, dispatch: Dispatch) -> None:
        """A batch is sent a second time."""
        batch, policy = dispatch.batch, self.policies[dispatch.batch.key.model]
        others = [other for other in self.in_flight if other.batch is batch]
        assert policy.hedging, "a model is hedged though nobody asked for it"
        assert policy.idempotent, "idempotent: false is hedged"
        assert 1 == len(others), "a hedge of a call that is not under way, or of two"
        assert dispatch.endpoint is not others[0].endpoint, "hedged where it is slow already"
        assert dispatch.endpoint not in batch.avoid, "hedged where it has failed"
        assert batch.family is None, "a piece of a rejected batch is hedged"
        assert self.now >= others[0].started + policy.hedging_delay_s, "hedged too soon"
        self.hedges.append(self.now)
        hedges = sum(when > self.now - WINDOW_S + 1 for when in self.hedges)  # time is counted in seconds
        calls = sum(when > self.now - WINDOW_S - 1 for when in self.calls)
        assert hedges <= HEDGED * calls + FREE, "more hedges than there is a budget for"

    @invariant()
    def late_batches_are_hedged(self) -> None:
        """Where an endpoint has nothing to do, nobody else waits, and there is a budget."""
        waiting = any(isinstance(entry.home, Lane) for entry in self.entries) or self.scheduler._front.batches
        if self.must_pump or waiting or len(self.hedges) >= FREE:
            return
        wake = self.scheduler.wake_at(self.now)
        for dispatch in self.in_flight:
            if self._is_to_be_hedged(dispatch):
                due = dispatch.started + self.policies[dispatch.batch.key.model].hedging_delay_s
                assert wake is not None, "a batch may be late, and nothing will wake the engine"
                assert wake <= max(due, self.now), "the engine is woken too late for a hedge"
                assert due > self.now, "a late batch is not hedged"

    def _is_to_be_hedged(self, dispatch: Dispatch) -> bool:
        """By a delay that was set, for somebody who can wait for it."""
        batch, policy = dispatch.batch, self.policies[dispatch.batch.key.model]
        wanted = policy.hedging and policy.hedging_delay_s and policy.idempotent and batch.merged
        fresh = batch.family is None and dispatch.race is None and not batch.avoid
        running = [entry for entry in batch.entries if entry.state is State.RUNNING and not entry.waiter.done()]
        patient = any(entry.request.deadline is None and not entry.attempts for entry in running)
        others = [each for each in self.endpoints if each is not dispatch.endpoint and each.up and not each.out]
        return bool(wanted and fresh and patient and any(not endpoint.in_flight for endpoint in others))


def is_lost(dispatch: Dispatch) -> bool:
    """Whether the other call of its batch has answered."""
    return dispatch.race is not None and dispatch.race.winner not in {None, dispatch}
