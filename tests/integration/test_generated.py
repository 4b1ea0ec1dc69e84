"""R1 over generated models and generated requests: through a proxy, with random mates, as directly from the server.

``make fuzz ARGS=servers`` does the same with other models and other requests each time.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import Phase, given, seed, settings

from tests.generated.models import Model
from tests.generated.stage import WAYS, Plan, Stage, plans, staged

SEED = 5
"""Of the models."""

ROUNDS = 3
"""For each model, each way."""


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """The same models in every run."""
    with staged(SEED) as one:
        yield one


def asked(stage: Stage, way: str, model: Model, number: int) -> None:
    """Some rounds of one model; ``number`` is the seed of what is drawn, which would be the same for all models."""

    @seed(number)
    @settings(max_examples=ROUNDS, phases=[Phase.generate])  # a smaller example has other mates
    @given(plans(way))
    def rounds(drawn: list[Plan]) -> None:
        assert [] == stage.differences(way, model, drawn)

    rounds()


@pytest.mark.parametrize("way", WAYS)
def test_random_requests_are_answered_as_by_the_server(stage: Stage, way: str) -> None:
    """Splice, Identity and Equality without a tolerance, by at least 60 models; requests share calls meanwhile."""
    calls, members = stage.shared(way)
    for number, model in enumerate(stage.candidates(way)):
        asked(stage, way, model, number)
    more_calls, more_members = stage.shared(way)

    assert 60 <= len(stage.met[way])
    assert 3400 <= stage.asked[way]
    assert more_members - members > 900 + more_calls - calls
