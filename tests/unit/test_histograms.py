"""Tests of batchproxy.histograms."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.errors import Code
from batchproxy.histograms import NOTED, Answered, Histogram


def test_a_histogram_counts_into_the_first_bucket_that_holds_the_value() -> None:
    """A bound belongs to its bucket, as Prometheus' ``le`` says; the rest goes to +Inf."""
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.add(value)

    assert [("1.0", 2), ("2.0", 3), ("+Inf", 4)] == list(histogram.buckets())
    assert 4 == histogram.count
    assert 12.0 == histogram.total


@given(st.lists(st.tuples(st.sampled_from([Code.OK, Code.CANCELLED]), st.lists(st.integers(0, 40), max_size=3))))
def test_those_told_together_count_as_each_by_itself(told: list[tuple[Code, list[int]]]) -> None:
    """By code, and by the time they took."""
    together, alone = Answered(), Answered()
    for code, seconds in told:
        if seconds:
            together.count_all(code, [50.0 - each for each in seconds], 50.0)
        for each in seconds:
            alone.count(code, each)

    assert alone.codes == together.codes
    assert list(alone.seconds.buckets()) == list(together.seconds.buckets())
    assert alone.seconds.total == together.seconds.total


def test_what_is_noted_is_counted_before_it_grows_long() -> None:
    """However many are told at once."""
    answered = Answered()
    answered.count_all(Code.OK, [*range(NOTED - 1)], 2.0)
    before = len(answered.seconds.noted)
    answered.count_all(Code.OK, [1.0, 0.0, 1.0], 2.0)

    assert (NOTED - 1, 0) == (before, len(answered.seconds.noted))
    assert NOTED + 2 == answered.seconds.count
