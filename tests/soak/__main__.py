"""The command: ``python -m tests.soak --seconds 600 --seed 1``; ends with 1 if anything was what must never be."""

from __future__ import annotations

import argparse
import sys

from tests.soak.run import Plan, soak

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=Plan.rate, help="requests a second")
    found = parser.parse_args()
    report = soak(Plan(found.seconds, found.seed, found.rate))
    print("\n".join(report.lines()))
    sys.exit(bool(report.judge.bad or report.exit_status or report.trouble))
