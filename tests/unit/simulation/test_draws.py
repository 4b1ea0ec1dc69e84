"""Streams of chance."""

from __future__ import annotations

from batchproxy.simulation.draws import stream


def test_streams_are_told_apart_by_seed_and_purpose() -> None:
    """Equal seed and purpose give the same numbers; either of them another gives others."""
    numbers = [stream(seed, purpose).random() for seed, purpose in ((1, "a"), (1, "a"), (2, "a"), (1, "b"))]

    assert numbers[0] == numbers[1]
    assert 3 == len(set(numbers))
