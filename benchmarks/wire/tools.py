"""wrk and h2load: how they are run and what they print. What is loaded is the callers' business."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.grpc_client import PATH as GRPC_PATH
from benchmarks.servers import HOST

COMMANDS = ("wrk", "h2load", "nginx", "haproxy")
PACKAGES = "wrk nghttp2-client nginx haproxy"

SCRIPT = Path(__file__).with_name("post.lua")
PATIENCE_S = 30.0
"""What a load may take beside its measuring; also when wrk counts an answer as lost."""

LATENCY_S = 0.3
"""Length of the second, shorter load that h2load's latencies come from: its log costs it a twentieth of its rate."""

PILOT = 8
"""Calls of each caller by which their number in a given time is estimated."""

_SEARCHED = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


class ToolError(Exception):
    """A load generator failed; the text has its last words."""


@dataclass(frozen=True)
class Load:
    """What a load generator saw.

    Attributes:
        answered: requests answered, wrongly or not, by all that was run.
        per_second: likewise, while rates were measured.
        failed: errors, statuses other than 2xx, and answers whose bytes are missing.
        p50_ms: of the time from request to answer.
        p99_ms: likewise.
    """

    answered: int
    per_second: float
    failed: int
    p50_ms: float
    p99_ms: float


def missing(commands: Sequence[str] = COMMANDS) -> str:
    """What to install, as a sentence; empty where nothing is missing."""
    absent = [command for command in commands if shutil.which(command, path=_SEARCHED) is None]
    if not absent:
        return ""
    return f"the wire benchmark needs {', '.join(absent)}. On Debian: apt install {PACKAGES}"


def path_of(command: str) -> str:
    """Where a command is; Debian keeps servers in /usr/sbin, which is not on everybody's path."""
    return shutil.which(command, path=_SEARCHED) or command


def wrk(
    port: int, path: str, body: Path, connections: int, seconds: int, headers: Mapping[str, str] | None = None
) -> Load:
    """POST a file over some connections, each with one request under way.

    Args:
        port: of the server.
        path: of the request.
        body: file with what is sent.
        connections: how many.
        seconds: how long.
        headers: beside or instead of the content type, which is JSON's.

    Raises:
        ToolError: wrk failed.
    """
    told = _run([
        path_of("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={PATIENCE_S:.0f}s", "-s", str(SCRIPT),
        *(text for name, value in (headers or {}).items() for text in ("-H", f"{name}: {value}")),
        f"http://{HOST}:{port}{path}", "--", str(body),
    ], seconds)  # fmt: skip
    return parse_wrk(told)


def parse_wrk(told: str) -> Load:
    """The line that ``post.lua`` writes, the last one."""
    figures = json.loads(told.strip().splitlines()[-1])
    return Load(
        figures["requests"],
        1e6 * figures["requests"] / figures["microseconds"],
        figures["failed"],
        figures["p50_us"] / 1000,
        figures["p99_us"] / 1000,
    )


def h2load(
    port: int,
    message: Path,
    connections: int,
    streams: int,
    seconds: float,
    answer_bytes: int,
    path: str = GRPC_PATH.decode(),
    *,
    latencies: bool = True,
    to_the_end: bool = False,
) -> Load:
    """Make unary gRPC calls, so many at a time on each connection; then a little longer, for the latencies.

    Args:
        port: of the server.
        message: file with the message in its gRPC frame.
        connections: how many.
        streams: calls under way on each.
        seconds: how long.
        answer_bytes: size of a right answer, framed. h2load looks at the HTTP status only, which is 200 for every
            gRPC error; missing bytes tell.
        path: of the method.
        latencies: whether these are wanted; else they are 0.
        to_the_end: nothing is cut off when the time is over: a number of calls is made that takes about so long.

    Raises:
        ToolError: h2load failed.
    """
    command = [path_of("h2load"), f"-c{connections}", f"-m{streams}", "-d", str(message)]
    command += [
        "-H",
        "content-type: application/grpc",
        "-H",
        "te: trailers",
        f"http://{HOST}:{port}{path}",
    ]
    rate = 0.0
    if to_the_end:
        rate = _rate(_run([*command, f"-n{PILOT * connections * streams}"], seconds))

    def length(of_s: float) -> str:
        return f"-n{max(connections * streams, round(rate * of_s))}" if to_the_end else f"-D{1000 * of_s:.0f}ms"

    told = _run([*command, length(seconds)], seconds)
    if not latencies:
        return parse_h2load(told, answer_bytes, "")
    log = message.with_suffix(".log")
    log.unlink(missing_ok=True)  # h2load appends
    _run([*command, length(LATENCY_S), f"--log-file={log}"], LATENCY_S)
    return parse_h2load(told, answer_bytes, log.read_text())


def _rate(told: str) -> float:
    """Calls a second."""
    return _numbers(r"finished in [^,]+, ([\d.]+) req/s", told)[0]


def parse_h2load(told: str, answer_bytes: int, log: str) -> Load:
    """Its summary, and the log of another load: a line a request with start, status and microseconds."""
    rate = _rate(told)
    _, _, done, _, failed, _, _ = _numbers(
        r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, "
        r"(\d+) failed, (\d+) errored, (\d+) timeout",
        told,
    )
    right = _numbers(r"status codes: (\d+) 2xx", told)[0]
    data = _numbers(r"headers \(space savings [^)]*\), \S+ \((\d+)\) data", told)[0]
    other = max(0.0, done - right)  # calls that were answered when the time was up are right, and not done:
    empty = max(0.0, min(done, right) - data / answer_bytes)  # some of them in part
    times = sorted(int(line.split("\t")[2]) / 1000 for line in log.splitlines())
    return Load(
        int(done) + len(times),
        rate,
        int(failed + other + empty),
        times[len(times) // 2] if times else 0.0,
        times[len(times) * 99 // 100] if times else 0.0,
    )


def _numbers(pattern: str, told: str) -> list[float]:
    found = re.search(pattern, told)
    if found is None:
        raise ToolError(f"h2load's summary is not as expected; it ended with:\n{told[-800:]}")
    return [float(number) for number in found.groups()]


def _run(command: Sequence[str], seconds: float) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + 2 * PATIENCE_S, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise ToolError(f"{command[0]} ended with status {done.returncode}: {(done.stderr or done.stdout)[-500:]}")
    return done.stdout
