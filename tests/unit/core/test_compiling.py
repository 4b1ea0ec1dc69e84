"""Tests of batchproxy.core.compiling: what is a compile, what is not learned from, when batches are rounded."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from batchproxy.core import compiling as module
from batchproxy.core.compiling import KNOWN, MEMORY
from batchproxy.core.cost import Cost
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.testing import Playbook, a_request

FAST, SLOW = 0.01, 2.0


class Backend:
    """One endpoint that is sent one batch after another.

    Attributes:
        sent: rows of its calls, with the padding.
    """

    def __init__(self, policy: Policy | None = None, *, calls: Sequence[tuple[int, float]] = ()) -> None:
        self.play = Playbook({"m": policy or Policy()}, max_inflight=None)
        self.sent: list[int] = []
        for rows, seconds in calls:
            self.call(rows, seconds)

    @property
    def cost(self) -> Cost:
        """What is known of its batches."""
        return self.play.endpoints[0].cost(a_request().key)

    def call(self, rows: int, seconds: float) -> None:
        """A batch of a request for each row has it to itself, and is answered after so long."""
        requests = [a_request() for _ in range(rows)]
        self.play.at(self.play.now + 1.0).submit(*requests).expect_dispatch(requests)
        self.sent.append(self.play.in_flight[-1].sent)
        self.play.at(self.play.now + seconds).settle(Outcome.OK)


WARM = [(1, FAST)] * (KNOWN + 1)


def test_a_compile_is_kept_out_of_the_fit() -> None:
    """A size first met took more than five times the prediction: as if that batch had not been."""
    backend = Backend(calls=WARM)
    before = backend.cost.samples, backend.cost.seconds(17)
    backend.call(17, SLOW)

    assert before == (backend.cost.samples, backend.cost.seconds(17))
    assert [] == backend.play.notices


def test_what_is_slow_but_not_that_slow_is_learned_from() -> None:
    """Four times the prediction may be what 17 rows take."""
    backend = Backend(calls=[*WARM, (17, 4 * FAST)])

    assert KNOWN + 2 == backend.cost.samples
    assert backend.cost.seconds(17) > 1.5 * FAST


def test_a_size_met_before_was_not_compiled() -> None:
    """Its slow batch is learned from, as that of an endpoint that stalls."""
    backend = Backend(calls=[*WARM, (1, SLOW)])

    assert KNOWN + 2 == backend.cost.samples
    assert backend.cost.seconds(1) > 10 * FAST


def test_after_the_second_compile_batches_are_powers_of_two() -> None:
    """Which is said once, with the size and the times; nothing more is compiled then."""
    backend = Backend(calls=[*WARM, (17, SLOW), (23, SLOW), (31, FAST), (1, FAST), (5, FAST), (40, SLOW)])
    said = (
        "model 'm': batch sizes seem to be compiled one by one (the first batch of 23 rows took 2 s, others like it "
        "0.01 s); from now on batches are rounded up to powers of two. If the backend knows some sizes from its "
        "start, list them in allowed_batch_sizes"
    )

    assert [17, 23, 32, 1, 8, 64] == backend.sent[-6:]
    assert [said] == backend.play.notices
    assert KNOWN + 4 == backend.cost.samples


def test_the_cap_is_a_power_of_two_then() -> None:
    """No larger than it was; what waits beyond it waits on."""
    backend = Backend(Policy(max_batch_rows=48), calls=[*WARM, (17, SLOW), (23, SLOW)])
    requests = [a_request() for _ in range(40)]
    backend.play.submit(*requests).expect_dispatch(requests[:32])

    assert 32 == backend.play.in_flight[0].sent


def test_configured_sizes_are_not_rounded() -> None:
    """Their compiles are kept out of the fit all the same."""
    policy = Policy(allowed_batch_sizes=(1, 17, 23, 64))
    backend = Backend(policy, calls=[*WARM, (17, SLOW), (23, SLOW), (64, SLOW)])

    assert [17, 23, 64] == backend.sent[-3:]
    assert KNOWN + 1 == backend.cost.samples
    assert [] == backend.play.notices


def test_two_stalls_far_apart_are_no_compiles() -> None:
    """A server that compiles does so for each size."""
    others = [(rows, FAST) for rows in range(3, 3 + MEMORY)]
    backend = Backend(calls=[*WARM, (2, SLOW), *others, (30, SLOW)])

    assert [] == backend.play.notices
    backend.call(31, SLOW)
    assert 1 == len(backend.play.notices)


def test_a_server_that_became_slow_does_not_compile() -> None:
    """Sizes met before are as slow."""
    backend = Backend(calls=[*WARM, (2, FAST), (2, 0.1), (17, 0.1), (23, 0.1), (29, 0.1)])

    assert [] == backend.play.notices
    assert 4 + KNOWN + 2 == backend.cost.samples


def test_what_was_stuck_behind_a_compile_says_nothing() -> None:
    """It is not learned from; nor is it a compile itself, though its size was not met before either."""
    backend = Backend(calls=WARM)
    before = backend.cost.samples, backend.cost.seconds(9)
    big, small, next_one = [a_request() for _ in range(17)], [a_request() for _ in range(9)], a_request()
    play = backend.play
    play.submit(*big).expect_dispatch(big)
    play.at(play.now + 1.0).submit(*small).expect_dispatch(small)
    play.at(play.now + 1.0).settle(Outcome.OK)
    play.at(play.now + FAST).settle(Outcome.OK)

    assert before == (backend.cost.samples, backend.cost.seconds(9))
    backend.call(9, FAST)
    play.at(play.now + 1.0).submit(next_one).expect_dispatch([next_one])
    assert [] == play.notices


def test_compiles_at_the_start_are_found_out_later() -> None:
    """They were learned from like others, until a batch took a fraction of it: that alone is known then."""
    backend = Backend(calls=[(1, SLOW), (2, SLOW), (3, SLOW), (4, SLOW)])
    learned = backend.cost.seconds(2)
    backend.call(2, FAST)

    assert learned > 1.0
    assert FAST == pytest.approx(backend.cost.seconds(2))
    assert 1 == len(backend.play.notices)
    assert "the first batch of 2 rows took 2 s, others like it 0.01 s" in backend.play.notices[0]


def _overtaken(*, first: tuple[int, float], others: int) -> Backend:
    """A cold endpoint whose first batch takes that long, while full ones leave after it and come back in 10 ms."""
    rows, seconds = first
    backend = Backend(Policy(max_batch_rows=32))
    play = backend.play
    requests = [a_request() for _ in range(rows)]
    play.at(1.0).submit(*requests).expect_dispatch(requests)
    for _ in range(others):
        full = [a_request() for _ in range(32)]
        play.submit(*full).expect_dispatch(full)
        play.at(play.now + FAST).settle(Outcome.OK, of=full[0])
    play.at(1.0 + seconds).settle(Outcome.OK)
    return backend


def test_a_compile_at_the_start_is_seen_by_what_others_took_meanwhile() -> None:
    """Nothing is faster than alone: 32 rows in 10 ms, in company, and so no 2 s for one row. It counts as a compile."""
    backend = _overtaken(first=(1, SLOW), others=2)
    backend.call(2, FAST)
    backend.call(17, SLOW)

    assert 1 == backend.cost.samples
    assert backend.cost.seconds(17) < 3 * FAST
    assert 1 == len(backend.play.notices)


def test_what_may_be_noise_at_the_start_is_learned_from() -> None:
    """Twice what another took in company."""
    assert 1 == _overtaken(first=(32, 2 * FAST), others=1).cost.samples


def test_an_endpoint_that_became_slow_at_the_start_is_learned_from_at_last() -> None:
    """What others took while it was fast counts for less each time."""
    backend = _overtaken(first=(1, SLOW), others=2)
    calls = 0
    while not backend.cost.samples:
        backend.call(1, 0.09)  # shorter than compiles are
        calls += 1

    assert 1 < calls < 20
    assert 0.09 == pytest.approx(backend.cost.seconds(1))


def test_a_slow_first_call_is_one_compile() -> None:
    """A server that loads its model with the first call: it is forgotten, but nothing is rounded."""
    backend = Backend(calls=[(1, SLOW), (1, FAST), (5, FAST), (17, FAST)])

    assert [1, 1, 5, 17] == backend.sent
    assert backend.cost.seconds(1) < 2 * FAST


def test_what_rows_may_cost_is_no_compile() -> None:
    """Two rows for which nobody knows better than twice the time of one."""
    backend = Backend(calls=[(1, SLOW), (2, 0.9), (1, 0.2)])

    assert pytest.approx(0.2) == backend.cost.seconds(1)
    assert [] == backend.play.notices


def test_a_size_met_again_tells_of_a_compile_that_the_fit_did_not_show() -> None:
    """The first was learned from, since little was known; together with another it is the second."""
    backend = Backend(calls=[(1, FAST), (4, 0.6), (4, FAST)])
    counted = [list(backend.play.notices)]
    backend.call(1, FAST)
    backend.call(17, SLOW)
    counted.append(list(backend.play.notices))

    assert [0, 1] == [len(notices) for notices in counted]


def test_a_bounded_number_of_sizes_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten."""
    monkeypatch.setattr(module, "MAX_SIZES", 3)
    backend = Backend(calls=[(rows, FAST) for rows in (1, 2, 3, 4)])

    assert [2, 3, 4] == list(backend.cost.first)


def test_a_hiccup_of_a_busy_machine_is_no_compile() -> None:
    """Milliseconds that become tens of them, as often as you like."""
    backend = Backend(calls=[(1, 0.002), (1, 0.002), (1, 0.002), (2, 0.05), (3, 0.06), (5, 0.08)])

    assert [1, 1, 1, 2, 3, 5] == backend.sent
    assert [] == backend.play.notices
