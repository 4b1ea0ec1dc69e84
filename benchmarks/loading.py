"""Starts load processes, one after the other. What is loaded, and what the figures mean, is the callers' business."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.load.job import Job, Result

START_S = 30.0
"""What a load process may take beside its measuring."""


def run(job: Job) -> Result:
    """Do a job in a process of its own; where that fails, all of it counts as lost."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", job.to_json()],
        capture_output=True,
        text=True,
        timeout=START_S + job.seconds,
        check=False,
    )
    if done.returncode:
        return Result(lost=1, fault=f"the load process ended with status {done.returncode}: {done.stderr[-500:]}")
    return Result(**json.loads(done.stdout))
