"""What holds for every test: deterministic hypothesis. Fixtures live beside the tests that use them."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# "ci" is the default: the same examples in every run, so that a failure is a failure of the change.
# HYPOTHESIS_PROFILE=explore looks for new ones and remembers what it found.
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,  # neighbours slow this machine by up to 1.8x
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],  # as above: measured in wall time
)
settings.register_profile("explore", parent=settings.get_profile("ci"), derandomize=False, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
