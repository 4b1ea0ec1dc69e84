"""Faults that are planted to see whether they are found: what they are, and how a file of tests lists its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Fault = Callable[[pytest.MonkeyPatch], None]


class Faults(list[Fault]):
    """In the order in which they are written down."""

    def add(self, plant: Fault) -> Fault:
        """Register a fault, as a decorator; its name says what it is."""
        self.append(plant)
        return plant
