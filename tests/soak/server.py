"""A server as a process, which serves until it is killed: one that fails, or one that has a cost and never fails.

``python -m tests.soak.server storm REST_PORT GRPC_PORT SEED RATE``, or ``... lane REST_PORT GRPC_PORT ALPHA_S BETA_S``.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from tests.faults.server import Site
from tests.soak.storm import LaneSite, SlowSite, Storm


def site_of(kind: str, first: str, second: str) -> Site:
    """A site by the command's words."""
    if kind == "storm":
        return SlowSite(Storm(int(first), float(second)))
    return LaneSite(Storm(0, 0.0), float(first), float(second))


async def serve(words: list[str]) -> None:
    """Serve for ever."""
    kind, rest, grpc, first, second = words
    site = site_of(kind, first, second)
    site.ports = {"rest": int(rest), "grpc": int(grpc)}
    await site.listen()
    print(f"serving: rest 127.0.0.1:{site.ports['rest']} grpc 127.0.0.1:{site.ports['grpc']}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1:]))
