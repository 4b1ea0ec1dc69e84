"""Seeded random numbers, one stream a purpose; the only place here that draws lots. Nothing is simulated here."""

from __future__ import annotations

from random import Random


def stream(seed: int, purpose: str) -> Random:
    """A stream that depends on these two alone, so that one more draw for noise moves no arrival.

    >>> stream(1, "arrivals").random() == stream(1, "arrivals").random()
    True
    >>> stream(1, "arrivals").random() == stream(1, "noise").random()
    False
    """
    return Random(f"{seed}/{purpose}")  # noqa: S311 - chance, no secret
