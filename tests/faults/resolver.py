"""A proxy whose resolver says what a file says: ``python -m tests.faults.resolver FILE -m batchproxy ...``. No tests.

The file holds addresses of ``NAME``, or a name of `socket`'s errors (``EAI_AGAIN``: the name server fails;
``EAI_NONAME``: there is no such name; ``EAI_NODATA``: it has no address). It is asked as often as can be, so that no
test waits for it.
"""

from __future__ import annotations

import asyncio
import runpy
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from batchproxy import discovery

NAME = "flapping.test"

EVERY_S = 0.02


def saying(said: Path) -> discovery.Hosts:
    """What replaces the system's resolver."""

    async def hosts_of(name: str) -> Sequence[str]:
        assert name == NAME, name
        words = (await asyncio.to_thread(said.read_text)).split()
        if words[0].startswith("EAI_"):
            raise socket.gaierror(getattr(socket, words[0]), words[0])
        return words

    return hosts_of


if __name__ == "__main__":
    path, _, module, *rest = sys.argv[1:]
    setattr(discovery, "hosts_of", saying(Path(path)))  # noqa: B010 - to mypy a function is no variable
    discovery.DnsSource.period_s = EVERY_S
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__")
