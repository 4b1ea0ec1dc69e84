"""In which order entries and lanes should leave, said once more in the plainest way. Nothing is driven here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from batchproxy.core.policy import Policy
from batchproxy.core.request import BatchKey, Entry, State

AGING_S = 5.0
Urgency = tuple[float, int]


def urgency(policies: Mapping[str, Policy], serial: Mapping[Entry, int], entry: Entry) -> Urgency:
    """Sorts entries: by deadline within priority, a level of which is made up for by waiting; then who came first."""
    request = entry.request
    level = policies[request.key.model].priority if request.priority is None else request.priority
    near = entry.arrival + AGING_S
    pressing = near if request.deadline is None else min(request.deadline, near)
    return pressing + level * AGING_S, serial[entry]


def sendable(entries: list[Entry], now: float) -> list[Entry]:
    """Those that are still wanted, and were not found late."""
    return [
        entry
        for entry in entries
        if entry.state is not State.DONE and not entry.waiter.done() and not entry.expired(now)
    ]


def leaves_before(
    sent: list[Entry],
    key: BatchKey,
    ripe: Mapping[BatchKey, list[Entry]],
    rank: Callable[[Entry], Urgency],
    now: float,
) -> None:
    """Check that ``sent`` are the most urgent of their lane, and it the most urgent ripe lane of its model and tenant.

    Args:
        sent: a batch that left a lane.
        key: of that lane.
        ripe: what each ripe lane held before.
        rank: sorts entries.
        now: when it left, in seconds.
    """
    assert sorted(sendable(ripe[key], now), key=rank)[: len(sent)] == sent, "not the most urgent of a lane leave"
    first, _ = min(map(rank, ripe[key]))
    for other, entries in ripe.items():
        if (other.model, other.partition) == (key.model, key.partition) and sendable(entries, now):
            assert first <= min(map(rank, entries))[0], "a lane overtakes a more urgent one of its model and tenant"
