"""Makes the calls of canaries, after their callers were answered. What to call, and what follows, the core decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from batchproxy.core.assembly import merge, split
from batchproxy.core.errors import BatchProxyError

if TYPE_CHECKING:
    from batchproxy.core.batch import Dispatch
    from batchproxy.core.canary import Step, Trial
    from batchproxy.core.columns import Columns
    from batchproxy.core.policy import Policy
    from batchproxy.core.request import Entry, Reply
    from batchproxy.core.scheduler import Scheduler
    from batchproxy.fleet import Fleet
    from batchproxy.tasks import Tasks


class Canaries:
    """Runs the canaries of one pool, one at a time.

    Args:
        scheduler: decides.
        fleet: of the engine, which has what carries the calls.
        policies: model name to policy, for padding.
        tasks: of the engine, which ends them.
        charge: told of bytes that are held, or no longer.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        fleet: Fleet,
        policies: Mapping[str, Policy],
        tasks: Tasks,
        charge: Callable[[int], object],
    ) -> None:
        self._canary = scheduler.canary
        self._fleet = fleet
        self._policies = policies
        self._tasks = tasks
        self._charge = charge
        self._timeout_s = scheduler.call_timeout_s or None

    def consider(self, dispatch: Dispatch, members: Sequence[Entry], replies: Sequence[Reply]) -> None:
        """A batch was answered, and its members were, too."""
        trial = self._canary.draw(dispatch, members, replies)
        if trial is not None:
            task = self._tasks.spawn(f"canary-{dispatch.endpoint.name}", self._run(trial))
            timer = None
            if self._timeout_s is not None:  # for all its calls together
                timer = asyncio.get_running_loop().call_later(self._timeout_s, task.cancel)
            task.add_done_callback(partial(self._ended, trial, timer))  # cancelled before its first step, too

    def _ended(self, trial: Trial, timer: asyncio.TimerHandle | None, _: object) -> None:
        if timer is not None:
            timer.cancel()
        self._canary.ended(trial)
        self._fleet.released(trial.endpoint)

    async def _run(self, trial: Trial) -> None:
        try:
            while (step := trial.step) is not None:
                answer = await self._call(trial, step)
                await asyncio.to_thread(trial.tell, answer)
        except BatchProxyError:
            pass  # it has no caller, and says nothing of the batch

    async def _call(self, trial: Trial, step: Step) -> Columns:
        model = trial.key.model
        members, policy = step.members, self._policies[model]
        self._canary.calls[model] += 1
        columns, sent = merge(members, policy if trial.padded else None)
        held = sum(column.nbytes for column in columns.values()) if len(members) > 1 else 0
        self._charge(held)
        try:
            reply = await self._fleet.of(trial.endpoint).infer(trial.key, columns, self._timeout_s)
        finally:
            self._charge(-held)
        rows = sum(member.request.rows or 0 for member in members)
        alone = len(members) == 1 and sent == rows  # whatever shape that answer has
        return reply.columns if alone else split(members, reply, sent)[step.place].columns
