"""Tests of ``batchproxy.demo.report``."""

from __future__ import annotations

import dataclasses
import io

import pytest

from batchproxy.demo.report import Progress, Result, accuracies, failures, meaning, table

MLP = Result("mlp", 12000, 600, 12000, 4000.0, 1000.0, (0.3, 3.2))
HALF = Result("half_plus_two", 15000, 1500, 15000, 5000.0, 4900.0, (0.01, 0.02))
DIGITS = Result("digits", 9000, 900, 9000, 3000.0, 2000.0, (0.02, 0.1), accuracy=(0.975, 0.975))


def test_table() -> None:
    """A line a model, aligned."""
    lines = table([HALF, MLP]).splitlines()

    assert [
        "model", "requests", "backend", "calls", "mean", "batch", "per", "second", "unbatched", "gain", "wrong", "lost"
    ] == lines[0].split()  # fmt: skip
    assert {"-"} == set(lines[1])
    assert ["half_plus_two", "15,000", "1,500", "10.0", "5,000", "4,900", "x1.02", "0", "0"] == lines[2].split()
    assert ["mlp", "12,000", "600", "20.0", "4,000", "1,000", "x4.00", "0", "0"] == lines[3].split()
    assert 1 == len({len(line) for line in lines})


def test_nothing_measured() -> None:
    """A run without answers divides by nothing."""
    empty = Result("mlp", 0, 0, 0, 0.0, 0.0, (1.0, 1.0))

    assert (0.0, 0.0) == (empty.mean_batch, empty.gain)
    assert ["mlp: 0 answers are wrong and 0 requests were lost"] == failures([empty])


PAYS = "Batching pays for mlp: a row takes the model 0.300 ms alone and 0.050 ms in a batch of 64, x6.0 at best; "
NOT = "It does not pay for half_plus_two: a row alone takes 0.010 ms, so there is nothing to save in the model"


@pytest.mark.parametrize(
    ("half", "mlp", "expected"),
    [
        (4900.0, 1000.0, [PAYS + "through the proxy x4.00.", NOT + "."]),
        (
            2500.0,
            1000.0,
            [
                PAYS + "through the proxy x4.00.",
                NOT + "; its x2.00 are the proxy's own cost of a call, paid less often.",
            ],
        ),
        (5000.0, 4000.0, [PAYS.replace("pays", "ought to pay") + "through the proxy x1.00.", NOT + "."]),
    ],
)
def test_meaning(half: float, mlp: float, expected: list[str]) -> None:
    """Both models are named, by what the model itself saves; the throughput that was measured is beside it."""
    results = [
        dataclasses.replace(HALF, unbatched_per_second=half),
        DIGITS,
        dataclasses.replace(MLP, unbatched_per_second=mlp),
    ]

    assert expected == meaning(results)


def test_accuracies() -> None:
    """Only models with labels have one."""
    text = "97.50 % of the images are labelled rightly through the proxy, 97.50 % when the model is called directly."

    assert [f"digits: {text}"] == accuracies([HALF, DIGITS])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"wrong": 2}, ["digits: 2 answers are wrong and 0 requests were lost"]),
        ({"lost": 1}, ["digits: 0 answers are wrong and 1 requests were lost"]),
        ({"accuracy": (0.9, 0.975)}, ["digits: the accuracy through the proxy differs from the model's own"]),
    ],
)
def test_failures(change: dict[str, object], expected: list[str]) -> None:
    """Anything wrong or lost fails the run."""
    assert expected == failures([HALF, dataclasses.replace(DIGITS, **change)])  # type: ignore[arg-type]


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def test_progress_on_a_terminal() -> None:
    """One line is written over and over, and is empty at the end."""
    out = Terminal()
    progress = Progress(out)
    progress.step("mlp")
    progress.update("5 answers")
    progress.done()

    assert "\r\x1b[Kmlp ...\r\x1b[Kmlp: 5 answers\r\x1b[K" == out.getvalue()


def test_progress_in_a_file() -> None:
    """Plain lines, one a step."""
    out = io.StringIO()
    progress = Progress(out)
    progress.step("mlp")
    progress.update("5 answers")
    progress.step("digits")
    progress.done()

    assert "mlp ...\ndigits ...\n" == out.getvalue()
