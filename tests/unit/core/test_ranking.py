"""Tests of batchproxy.core.ranking."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.ranking import Ranking


@dataclass(eq=False)
class _Member:
    ticket: int = -1


def test_lowest_rank_is_first_then_the_lowest_ticket() -> None:
    """Equals keep the order in which they were ranked; asking takes nothing out."""
    ranking: Ranking[float, _Member] = Ranking()
    a, b, c = _Member(1), _Member(2), _Member(3)
    for rank, member in ((2.0, c), (1.0, b), (1.0, a)):
        ranking.push(rank, member)

    assert (1.0, 1, a) == ranking.first() == ranking.first()

    ranking.pop()

    assert (1.0, 2, b) == ranking.first()


def test_rank_of_an_earlier_ticket_is_skipped() -> None:
    """Whoever was ranked anew, or left, is not met under the rank that was."""
    ranking: Ranking[float, _Member] = Ranking()
    moved, left = _Member(1), _Member(2)
    ranking.push(1.0, moved)
    ranking.push(2.0, left)
    moved.ticket, left.ticket = 3, -1
    ranking.push(5.0, moved)

    assert (5.0, 3, moved) == ranking.first()

    moved.ticket = -1

    assert ranking.first() is None
    assert 0 == len(ranking)


def test_stale_items_are_swept() -> None:
    """A thousand new ranks of one member leave one that counts."""
    ranking: Ranking[float, _Member] = Ranking()
    member, other = _Member(), _Member(-2)
    ranking.push(3.0, other)
    for ticket in range(1000):
        member.ticket = ticket
        ranking.push(5.0, member)

    assert len(ranking) < 100
    assert (3.0, -2, other) == ranking.first()


@given(ranks=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), max_size=500))
def test_memory_follows_the_members(ranks: list[tuple[int, int]]) -> None:
    """However often they are ranked anew while nobody asks, and the first one stays right."""
    ranking: Ranking[float, _Member] = Ranking()
    members = [_Member() for _ in range(10)]
    known: dict[int, float] = {}
    for ticket, (number, rank) in enumerate(ranks):
        members[number].ticket = ticket
        ranking.push(float(rank), members[number])
        known[number] = float(rank)

    assert len(ranking) <= 2 * len(members) + 64
    assert min(known.values(), default=None) == ((first := ranking.first()) and first[0])
