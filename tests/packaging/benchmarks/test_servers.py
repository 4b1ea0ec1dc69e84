"""Tests of benchmarks.servers: what is said of a server that ended."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.servers import Server, ServerError

SCRIPT = "import sys; print('so long'); sys.exit(3)"


def test_a_server_that_ended_says_how(tmp_path: Path) -> None:
    """Its status, a signal's below zero, and what it wrote last."""
    dying, killed = Server("dying", tmp_path), Server("killed", tmp_path)
    dying.start(["-c", SCRIPT])
    killed.start(["-c", "import signal; signal.pause()"])
    running = killed.ended()
    subprocess.run(["kill", "-SEGV", str(killed.pid)], check=True)
    for server in (dying, killed):
        while not server.ended():
            pass

    assert "" == running
    assert "server 'dying' ended with status 3:\nso long" == dying.ended()
    assert killed.ended().startswith("server 'killed' ended with status -11:")


def test_one_that_does_not_start_says_why(tmp_path: Path) -> None:
    """In its own words."""
    server = Server("dying", tmp_path)
    server.ports = {"admin": 1}
    server.start(["-c", SCRIPT])

    with pytest.raises(ServerError, match="server 'dying' did not start:\nso long"):
        server.wait_ready()
