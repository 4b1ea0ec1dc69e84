"""What a load process is told and what it tells back. No sockets."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Job:
    """One run of load against one server.

    Attributes:
        protocol: ``rest`` or ``grpc``.
        port: the server's, on the loopback.
        pid: the server process, whose processor time is read.
        model: the model's name.
        rows: ``.npz`` file with ``x``, rows to send, and what the model makes of each, by name of the output.
        callers: requests under way at once.
        seconds: how long is measured.
        warm_s: how long load runs before that.
        echo: whether the server hands back what it gets.
        request_rows: rows of one request.
        behind_pid: process of the server behind the one that is asked; 0 where there is none.
        checked: whether values are looked at; else any answer is right, and ``rows`` needs none.
    """

    protocol: str
    port: int
    pid: int
    model: str
    rows: str
    callers: int
    seconds: float
    warm_s: float
    echo: bool = False
    request_rows: int = 1
    behind_pid: int = 0
    checked: bool = True

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass
class Result:
    """What was seen in the measured time.

    Attributes:
        answered: right answers.
        seconds: measured.
        p50_ms: of the time from request to answer.
        p99_ms: likewise.
        server_cpu_s: user and system time of the server process, in steps of 10 ms.
        behind_cpu_s: likewise, of the server behind it.
        load_cpu_s: the load's own; near ``seconds``, the load is the bottleneck and not the server.
        wrong: answers with other values than due, over the whole run.
        lost: requests refused or unanswered, over the whole run.
        fault: one example of these.
    """

    answered: int = 0
    seconds: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    server_cpu_s: float = 0.0
    behind_cpu_s: float = 0.0
    load_cpu_s: float = 0.0
    wrong: int = 0
    lost: int = 0
    fault: str = field(default="")

    @property
    def per_second(self) -> float:
        """Right answers a second."""
        return self.answered / self.seconds if self.seconds else 0.0

    @property
    def cpu_us(self) -> float:
        """Microseconds of the server's processor time per right answer."""
        return 1e6 * self.server_cpu_s / self.answered if self.answered else 0.0

    @property
    def behind_cpu_us(self) -> float:
        """Likewise, of the server behind it."""
        return 1e6 * self.behind_cpu_s / self.answered if self.answered else 0.0
