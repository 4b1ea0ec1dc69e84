"""Changes of state that the log tells, by the words of their lines, and how often each was told (R8). Logs nothing."""

from __future__ import annotations

from collections.abc import Mapping

EVENTS: Mapping[str, tuple[str, ...]] = {
    "endpoint_unreachable": ("left out, and probed until it answers",),
    "endpoint_reachable": ("answers again, and is used again",),
    "endpoint_ejected": ("left out for",),
    "endpoint_returned": ("used again, a little at first",),
    "panic_began": ("fewer than half of the pool's endpoints are healthy",),
    "panic_ended": ("half of the pool's endpoints are healthy again",),
    "endpoint_added": ("added to the pool",),
    "endpoint_removed": ("removed from the pool",),
    "lookup_failed": ("what was found before stays in use",),
    "lookup_works": ("can be looked up again",),
    "model_absent": ("does not have model",),
    "model_present": ("now, and gets calls for it",),
    "version_changed": ("answers as version", "version %d answers now, before it was %d"),
    "server_batches": ("runs a batching of its own",),
    "server_writes_content": ("runs with --enable_serialization_as_tensor_content",),
    "batching_off": ("batching is off from now on",),
    "canary_in_doubt": (
        "it is not deterministic, or was changed meanwhile",
        "rows in batches are rounded in another way",
    ),
    "quarantine_began": ("two bad batches within 32",),
    "quarantine_ended": ("32 good batches have passed",),
    "limit_lowered": ("rows at a time, but not more",),
    "sizes_rounded": ("batch sizes seem to be compiled one by one",),
    "model_broken": ("cannot be loaded", "what is loaded is served on"),
    "model_loaded": ("is available, loaded in",),
    "model_unloaded": ("answers what it was asked, then it is unloaded", "is unloaded"),
    "shedding_began": ("requests have been refused for",),
    "shedding_ended": ("no request is refused any more",),
    "retries_spent": ("the retry budget is spent",),
    "hedges_spent": ("the budget of hedges is spent",),
    "connections_full": ("connections are open and more are refused",),
    "config_refused": ("the new configuration is refused, the former one is served on",),
    "config_applied": ("the configuration is read again",),
    "restart_needed": ("which hold after a restart",),
    "pool_unfinished": ("it was replaced, and %d requests were not answered in time",),
    "takeover_failed": (
        "a process asked to take over and ended before it served",
        "the former process ended by itself before it was relieved",
        "could not take a connection",
    ),
    "serving": ("serving: ",),
    "stopping": ("finishing what was taken; once more to drop it",),
    "stopped": ("stopped; everything that was taken is answered", "requests unanswered"),
    "state_ignored": ("ignored, and everything is learned anew", "entries are ignored, the first"),
    "state_unwritable": ("so a restart would learn everything anew",),
    "state_read": ("goes on with what was learned before",),
    "bug": ("This is a bug.",),
}
"""What is counted, to the words that its lines have."""


class Events:
    """How often each was told. All of them are there from the start, so that a first one is a change."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(EVENTS, 0)

    def count(self, line: str, template: str = "") -> None:
        """A line was told, or would have been if it had not been told before.

        Args:
            line: as it is read.
            template: as it stands in the code.
        """
        for event, words in EVENTS.items():
            if any(word in line or word in template for word in words):
                self.counts[event] += 1
                return


events = Events()
"""Those of this process, as the log is."""
