"""A short soak; `make soak` runs it for 10 minutes: nothing wrong, crossed, lost or hanging; nothing left open."""

from __future__ import annotations

import pytest

from tests.faults.script import POISON
from tests.soak.judge import FIRST_ROW, NEVER, Judge
from tests.soak.run import CONNECTIONS, Plan, soak

SECONDS = 24.0
GROWTH_KIB = 32 << 10
"""Of the proxy's memory in the second half of so short a time: a request held for ever would be some 2 KiB."""


@pytest.mark.slow
def test_nothing_that_must_never_be() -> None:
    """Servers fail, are killed and come back, callers come and go: every answer is right or an honest error."""
    report = soak(Plan(SECONDS, seed=7, rate=800.0))
    print("\n".join(report.lines()))

    assert [] == report.judge.examples
    assert 0 == report.judge.bad
    assert 0 == report.exit_status
    assert [] == report.trouble
    assert report.judge.counts["right"] > 0.9 * report.sent
    assert report.idle_descriptors[1] <= report.idle_descriptors[0] + CONNECTIONS
    assert max(report.rss_kib[len(report.rss_kib) // 2 :]) - report.rss_kib[len(report.rss_kib) // 2] < GROWTH_KIB


ROW, OTHER = FIRST_ROW, FIRST_ROW + 1


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"predictions": [{"y": 3000001, "f": 500000.0}]}', "right"),
        (b'{"predictions": [{"y": 3000001, "f": NaN}]}', "right, NaN as the server said"),
        (b'{"predictions": [{"y": 3000004, "f": 500000.5}]}', "crossed"),
        (b'{"predictions": [{"y": 3000001, "f": 1.5}]}', "wrong"),
        (b'{"predictions": [{"y": 7, "f": 1.5}]}', "wrong"),
        (b"noise", "wrong"),
    ],
)
def test_judge_sees_it(body: bytes, kind: str) -> None:
    """What must never be is told from what is right; else a soak would show nothing."""
    judge = Judge()
    judge.rest([ROW], 200, body)

    assert {kind: 1} == judge.counts
    assert int(kind in NEVER) == judge.bad == len(judge.examples)


@pytest.mark.parametrize(
    ("rows", "code", "text", "kind"),
    [
        ([ROW], 503, "not now", "error 503"),
        ([ROW], 500, f"cannot run ({ROW},)", "error 500"),
        ([ROW], 500, f"cannot run ({ROW}, {OTHER})", "crossed"),
        ([ROW], 500, "internal error: KeyError. This is a bug.", "wrong"),
        ([ROW], 418, "I am a teapot", "wrong"),
        ([ROW], 400, "bad", "wrong"),
        ([POISON], 400, "bad", "poison refused"),
    ],
)
def test_judge_reads_errors(rows: list[int], code: int, text: str, kind: str) -> None:
    """An error is honest if its code is one, and its text names no other's row."""
    judge = Judge()
    judge.rest(rows, code, text.encode())

    assert {kind: 1} == judge.counts
