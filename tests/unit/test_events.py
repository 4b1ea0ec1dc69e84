"""Tests of batchproxy.events: each change of state that is told is counted once, under its own name."""

from __future__ import annotations

import pytest

from batchproxy.events import EVENTS, Events


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ("endpoint e0: left out, and probed until it answers: refused", "endpoint_unreachable"),
        ("endpoint e0: left out for 30 s: 5 calls in a row failed", "endpoint_ejected"),
        ("fewer than half of the pool's endpoints are healthy: those that", "panic_began"),
        ("half of the pool's endpoints are healthy again: only those are used", "panic_ended"),
        ("model 'm': requests have been refused for 5 s; at most 9 rows wait", "shedding_began"),
        ("the new configuration is refused, the former one is served on: x (2 times so far)", "config_refused"),
    ],
)
def test_a_line_is_counted_under_its_event(line: str, event: str) -> None:
    """And under no other one."""
    events = Events()
    events.count(line)

    assert {**dict.fromkeys(EVENTS, 0), event: 1} == events.counts


def test_a_line_whose_words_have_numbers_between_them_is_known_by_its_template() -> None:
    """As logging keeps it."""
    events = Events()
    template = "model %r: version %d answers now, before it was %d"
    events.count(template % ("m", 5, 4), template)

    assert 1 == events.counts["version_changed"]


def test_what_is_no_change_of_state_is_not_counted() -> None:
    """Other libraries' lines, say."""
    events = Events()
    events.count("something else")

    assert set(events.counts.values()) == {0}
