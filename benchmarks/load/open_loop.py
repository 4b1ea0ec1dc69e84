"""Load that comes when it is due, whether or not earlier calls were answered: Poisson arrivals of gRPC Predict calls.

``python -m benchmarks.load.open_loop JSON`` prints what came back as JSON. A thread and ``select`` do all of it: an
event loop's timers count milliseconds, and calls that come in bunches are another load.
"""

from __future__ import annotations

import json
import math
import select
import socket
import subprocess
import sys
import time
from array import array
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np

from benchmarks.load.grpc_client import BLOCK, GrpcConnection, literal
from benchmarks.load.payloads import message_of
from benchmarks.load.recorder import Recorder

CONNECTIONS = 16
"""A server allows a thousand calls at once on each, say, and a queue that overflows is to be seen, not avoided."""
LINGER_S = 2.0
"""What is under way at the end is waited for so long."""


@dataclass(frozen=True)
class Pace:
    """What to send.

    Attributes:
        port: of the gRPC server.
        model: asked for.
        rows: ``.npz`` file with ``x``, the rows to send, one a call.
        per_second: calls a second, on average.
        seconds: measured.
        warm_s: load before that.
        deadline_ms: of each call; 0: none.
        seed: of the arrivals.
    """

    port: int
    model: str
    rows: str
    per_second: float
    seconds: float
    warm_s: float = 1.0
    deadline_ms: int = 0
    seed: int = 1


@dataclass(frozen=True)
class Seen:
    """What came back of the calls that were due in the measured time; times are from when a call was due.

    Attributes:
        due: calls.
        answered: of them, with a message.
        in_time: of those, within the deadline; all where there is none.
        mean_ms: over the answered ones; infinite where there is none.
        p50_ms: likewise.
        p99_ms: likewise.
        load_cpu: share of a core that the load took; near 1 the load was the limit.
    """

    due: int
    answered: int
    in_time: int
    mean_ms: float
    p50_ms: float
    p99_ms: float
    load_cpu: float


def run(pace: Pace) -> Seen:
    """Load a server from a process of its own.

    Raises:
        OSError: it could not be reached, or hung up.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load.open_loop", json.dumps(asdict(pace))],
        capture_output=True,
        text=True,
        timeout=30 + pace.warm_s + pace.seconds,
        check=False,
    )
    if done.returncode:
        raise OSError(f"the load process ended with status {done.returncode}: {done.stderr[-500:]}")
    return Seen(**json.loads(done.stdout))


class _Book:
    """Stands where a load's recorder does: times of what was due since ``begin``."""

    def __init__(self, requests: Sequence[bytes]) -> None:
        self.requests = requests
        self.begin = math.inf
        self.times = array("d")
        self.open = 0
        self.going = True

    def answered(self, number: int, sent_at: float, answer: bytes) -> None:
        """A message came."""
        self.open -= 1
        if sent_at >= self.begin:
            self.times.append(time.perf_counter() - sent_at)

    def lost(self, why: str) -> None:
        """None came: a refusal, or time was up.

        Raises:
            ConnectionResetError: the server wants the connection to end.
        """
        if why.startswith("GOAWAY"):
            raise ConnectionResetError(why)
        self.open -= 1


class _Connection(GrpcConnection):
    """A connection that speaks when it is told to."""

    def __init__(self, book: _Book, port: int, block: bytes) -> None:
        super().__init__(cast("Recorder", book), 0, block)
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection_made(self)  # type: ignore[arg-type]  # writes are all that is asked of it

    def write(self, data: bytes) -> None:
        """As a transport's."""
        self.socket.sendall(data)

    def abort(self) -> None:
        """As a transport's."""
        self.socket.close()

    def receive(self) -> None:
        """Take in what there is."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionResetError("the server hung up")
        self.data_received(data)

    def _next(self) -> None:
        """The clock says when, not the last answer."""


def _main(pace: Pace) -> Seen:
    with np.load(pace.rows) as arrays:
        book = _Book([message_of(pace.model, row[None]) for row in arrays["x"]])
    rng = np.random.default_rng(pace.seed)
    count = math.ceil(pace.per_second * (pace.warm_s + pace.seconds))
    block = BLOCK + (literal(b"grpc-timeout", b"%dm" % pace.deadline_ms) if pace.deadline_ms else b"")
    with ExitStack() as stack:
        doors = [stack.enter_context(closing(_Connection(book, pace.port, block))) for _ in range(CONNECTIONS)]
        start = time.perf_counter() + 0.1
        due_at = start + np.cumsum(rng.exponential(1.0 / pace.per_second, count))
        book.begin = start + pace.warm_s
        cpu = time.process_time()
        _send(due_at.tolist(), book, doors)
        cpu = time.process_time() - cpu
    times = np.sort(np.array(book.times)) * 1000.0
    return Seen(
        int((due_at >= book.begin).sum()),
        len(times),
        int((times <= pace.deadline_ms).sum()) if pace.deadline_ms else len(times),
        float(times.mean()) if len(times) else math.inf,
        float(np.percentile(times, 50)) if len(times) else math.inf,
        float(np.percentile(times, 99)) if len(times) else math.inf,
        cpu / (pace.warm_s + pace.seconds),
    )


def _send(due_at: Sequence[float], book: _Book, doors: Sequence[_Connection]) -> None:
    sockets = {door.socket: door for door in doors}
    for number, due in enumerate(due_at):
        while True:
            left = due - time.perf_counter()
            readable, _, _ = select.select(sockets, (), (), max(0.0, left))
            for one in readable:
                sockets[one].receive()
            if left <= 0.0:
                break
        book.open += 1
        doors[number % len(doors)].send(number % len(book.requests), due)
    end = time.perf_counter() + LINGER_S
    while book.open > 0 and (left := end - time.perf_counter()) > 0.0:
        for one in select.select(sockets, (), (), left)[0]:
            sockets[one].receive()


if __name__ == "__main__":
    print(json.dumps(asdict(_main(Pace(**json.loads(sys.argv[1]))))))
