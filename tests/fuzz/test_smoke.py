"""Each fuzz target, briefly and always with the same examples; ``make fuzz`` runs them for longer, with others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings

from tests.fuzz.__main__ import TARGETS


@pytest.mark.parametrize("target", TARGETS, ids=[target.__name__ for target in TARGETS])
def test_target(target: Callable[[], None]) -> None:
    """A few hundred examples."""
    settings(settings.get_profile("ci"), max_examples=300)(target)()
