"""A server of a soak or a measurement that can be killed and started again on its ports. It is asked nothing here."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

from tests.proxy import ROOT

READY = re.compile(r"serving: rest (\S+) grpc (\S+)\n")


class Victim:
    """The server, started.

    Args:
        kind: ``storm`` or ``lane``, see ``tests.soak.server``.
        words: of the command, for each start.

    Attributes:
        rest: ``127.0.0.1:PORT``.
        grpc: likewise.
    """

    def __init__(self, kind: str, words: Callable[[], tuple[float, float]]) -> None:
        self._kind, self._words = kind, words
        self.rest = self.grpc = "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        """Start it; returns when it serves."""
        ports = [place.rpartition(":")[2] for place in (self.rest, self.grpc)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.server", self._kind, *ports, *map(str, self._words())],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None, "It is a pipe. This is a bug."
        found = READY.fullmatch(self._process.stdout.readline())
        assert found is not None, "a server did not start"
        self.rest, self.grpc = found.groups()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.communicate()
