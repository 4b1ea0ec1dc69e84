"""A bad server as a process: ``python -m tests.soak.server SEED RATE REST_PORT GRPC_PORT``; it serves until killed."""

from __future__ import annotations

import asyncio
import sys

import uvloop

from tests.soak.storm import SlowSite, Storm


async def serve(seed: int, rate: float, rest: int, grpc: int) -> None:
    """Serve for ever.

    Args:
        seed: of its faults.
        rate: share of calls that meet one.
        rest: port; 0: any.
        grpc: likewise.
    """
    site = SlowSite(Storm(seed, rate))
    site.ports = {"rest": rest, "grpc": grpc}
    await site.listen()
    print(f"serving: rest 127.0.0.1:{site.ports['rest']} grpc 127.0.0.1:{site.ports['grpc']}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
