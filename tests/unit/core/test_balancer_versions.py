"""Costs of an endpoint before and after a restart, and of one version and the next."""

from __future__ import annotations

from batchproxy.core.balancer import Endpoint
from batchproxy.core.cost import Cost
from batchproxy.core.request import BatchKey, KindName

KEY = BatchKey("m", None, "s", (("x", ("float32", (3,))),))


def a_cost(seconds: float = 0.01) -> Cost:
    """One that learned of a row."""
    cost = Cost()
    cost.learn(1, seconds, 1)
    return cost


def test_the_name_of_a_kind_is_the_same_in_another_process_and_shows_no_shapes() -> None:
    """Shapes may hold what a caller sent; the digest is that of their text."""
    name = KindName.of(KEY[:4])

    assert KindName("m", None, "s", "96c535fe114d1ea1") == name
    assert name != KindName.of(KEY._replace(shapes=())[:4])


def test_a_recalled_cost_is_that_of_its_kind() -> None:
    """From the first batch of that kind on; one of another kind begins with nothing."""
    endpoint, cost = Endpoint("e"), a_cost()
    endpoint.recalled[KindName.of(KEY[:4])] = cost
    shown = list(endpoint.known())
    other = endpoint.cost(KEY._replace(signature="other"))
    found = [endpoint.cost(KEY), endpoint.cost(KEY)]

    assert [("m", cost)] == shown
    assert not other.known
    assert [cost, cost] == found
    assert {} == endpoint.recalled
    assert [("m", cost)] == list(endpoint.known())


def test_the_first_version_that_answers_is_noted() -> None:
    """Nothing is forgotten, and an answer that names none changes nothing."""
    endpoint = Endpoint("e")
    cost = endpoint.cost(KEY)
    forgot = [endpoint.answered(KEY, version) for version in (0, 3, 0, 3)]

    assert [False] * 4 == forgot
    assert cost is endpoint.cost(KEY)
    assert 3 == cost.version


def test_what_was_learned_of_another_version_is_forgotten() -> None:
    """Where the server chooses it, and the next one answers; over a restart, too."""
    endpoint, old = Endpoint("e"), a_cost()
    old.version = 3
    endpoint.recalled[KindName.of(KEY[:4])] = old
    forgot = endpoint.answered(KEY, 4)

    assert forgot
    assert not endpoint.cost(KEY).known
    assert 4 == endpoint.cost(KEY).version
