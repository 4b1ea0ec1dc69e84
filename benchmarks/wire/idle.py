"""Opens connections, makes one call on each, holds them until its input ends: ``... idle PROTOCOL PORT FILE COUNT``.

A process of its own: client and server together would have more open files than one process may. Measures nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.wire import callers
from benchmarks.wire.resources import allow_files


def main(protocol: str, port: int, body: Path, count: int) -> None:
    """Say how many connections are open, then wait."""
    _ = allow_files()
    message = body.read_bytes()[5 if protocol == "grpc" else 0 :]  # the file has gRPC's prefix
    held = []
    for _ in range(count):
        caller = callers.connect(protocol, port, "null", message)
        caller.call(message)
        held.append(caller)
    print(len(held), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
