"""The load's own clients, each against its echo over a real socket: every answer checked, none lost."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import servers
from benchmarks.load.job import Job, Result


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_load_on_an_echo(tmp_path: Path, protocol: str) -> None:
    """The load process reports right answers, and faults where the server does not do what the model is said to."""
    x = np.arange(200 * 300, dtype=np.float32).reshape(200, 300)  # over the 64 KiB that a new connection may carry
    np.savez(tmp_path / "rows.npz", x=x, y=x)
    server = servers.echo(protocol, tmp_path)
    try:
        server.wait_ready()
        job = Job(
            protocol, server.ports[protocol], server.pid, "m", str(tmp_path / "rows.npz"), 64, 0.3, 0.1, echo=True
        )
        good, bad = _run(job), _run(replace(job, echo=False))
    finally:
        server.stop()

    assert (0, 0, "") == (good.wrong, good.lost, good.fault)
    assert good.answered > 64
    assert 0 < good.p50_ms <= good.p99_ms
    assert good.load_cpu_s > 0
    assert bad.wrong > 0
    assert "wrong answer" in bad.fault


def _run(job: Job) -> Result:
    command = [sys.executable, "-m", "benchmarks.load", job.to_json()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return Result(**json.loads(done.stdout))
