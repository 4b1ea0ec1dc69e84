"""``batchproxy simulate``: a table for each load, and faults in words."""

from __future__ import annotations

import pytest

from batchproxy.cli import main

QUICK = ("--duration", "0.5", "--seeds", "1")


def test_a_table_for_each_load(capsys: pytest.CaptureFixture[str]) -> None:
    """Ours first, then the best static setting, then the rivals."""
    status = main(["simulate", *QUICK, "--lanes", "2", "--load", "10", "50"])
    out = capsys.readouterr().out
    names = [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("| ")]

    assert 0 == status
    assert out.startswith("2 x (8 + 0.25 * rows) ms: at most 4,000 rows/s in batches of 32\n\n10 %, 400 requests/s\n")
    assert "\n50 %, 2,000 requests/s\n" in out
    assert ["ms", "batchproxy"] == names[:2]
    assert names[2].startswith("best static: k=2")
    assert 2 == names.count("no batching")
    assert "in time %" not in out


def test_an_objective_adds_its_column(capsys: pytest.CaptureFixture[str]) -> None:
    """And AIMD."""
    status = main(["simulate", *QUICK, "--rate", "100", "--slo_ms", "60", "--arrivals", "bursty"])
    out = capsys.readouterr().out

    assert 0 == status
    assert "in time %" in out
    assert "| AIMD " in out


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--lanes", "0"], "--lanes: expected a whole number from 1 to 64, got '0'; see batchproxy simulate --help"),
        (["--alpha_ms", "-1"], "--alpha_ms: expected a number of at least 0, got '-1'"),
        (["--noise", "nan"], "--noise: expected a number of at least 0, got 'nan'"),
        (["--load", "0"], "--load: expected a number above 0, got '0'"),
        (["--slo_ms", "x"], "--slo_ms: expected a number above 0, got 'x'"),
        (["--duration", "inf"], "--duration: expected a number above 0, got 'inf'"),
        (["--arrivals", "tides"], "--arrivals: invalid choice: 'tides'"),
        (["--load", "10", "--rate", "5"], "--load and --rate say the same in two ways; give one of them"),
        (["--alpha_ms", "0", "--beta_ms", "0"], "--alpha_ms and --beta_ms are both 0"),
        (["--duration", "1e6"], "at most 20,000,000 are simulated: lower --duration, --seeds, --load or --rate"),
        (["--lane", "1"], "unknown flag --lane; did you mean '--lanes'?; see batchproxy simulate --help"),
    ],
)
def test_faults_are_one_line_and_status_2(flags: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong, and what would be right; nothing on stdout."""
    status = main(["simulate", *flags])
    captured = capsys.readouterr()

    assert (2, "") == (status, captured.out)
    assert captured.err.startswith("batchproxy: error: ")
    assert expected in captured.err
    assert 1 == captured.err.count("\n")
