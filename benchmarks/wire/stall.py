"""R7's bar: what callers with large bodies do to the p99 of small callers of another model. No table is drawn here.

Ten callers send a 2 MB body each, 20 a second in all; eight others send one row of three floats, 400 a second in all.
The small ones are measured alone and then beside the large ones, in the same round.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import servers
from benchmarks.servers import HOST, Server
from benchmarks.wire import bodies, paced
from benchmarks.wire.bodies import Body
from benchmarks.wire.paced import Pace, Result

IMAGE_BYTES = 2_000_000
FLOATS = {"rest": IMAGE_BYTES // 8, "grpc": IMAGE_BYTES // 4}
"""Values of one image: JSON takes about 8 bytes for one of four decimal places, float32 four."""

IMAGE_CALLERS, IMAGES_PER_SECOND = 10, 20.0
CALLERS, PER_SECOND = 8, 400.0
LEAD_S = 1.5
"""The large load starts and ends so much before and after the small one."""


@dataclass(frozen=True)
class Case:
    """Where the large bodies go.

    Attributes:
        protocol: of all callers.
        embedded: whether both models run in the proxy; else an echo and a null server are behind it.
    """

    protocol: str
    embedded: bool

    @property
    def name(self) -> str:
        """For the table."""
        word = {"rest": "REST", "grpc": "gRPC"}[self.protocol]
        return f"{word}, embedded" if self.embedded else f"{word}, relayed"


CASES = tuple(Case(protocol, embedded) for embedded in (True, False) for protocol in ("rest", "grpc"))


@dataclass
class Found:
    """Of one case, a pair a round: the small callers alone, and beside the large ones."""

    case: Case
    pairs: list[tuple[Result, Result]]
    images: list[Result]

    @property
    def rise_ms(self) -> float:
        """Median over the rounds of how much the p99 rose."""
        return statistics.median(beside.p99_ms - alone.p99_ms for alone, beside in self.pairs)

    @property
    def alone_ms(self) -> float:
        """Median p99 of small callers without the large ones."""
        return statistics.median(alone.p99_ms for alone, _ in self.pairs)

    @property
    def faults(self) -> list[tuple[str, str]]:
        """Failed calls, in words."""
        results = [result for pair in self.pairs for result in pair] + self.images
        return [(f"stall, {self.case.name}", result.fault) for result in results if result.failed]


def measure(
    rounds: int,
    seconds: float,
    small: Body,
    running: Mapping[str, Server],
    folder: Path,
    progress: Callable[[str], None],
) -> list[Found]:
    """Start what is needed, and let each case have its turn in every round.

    Args:
        rounds: how many.
        seconds: of each load of the small callers.
        small: what these send.
        running: has ``upstream``, ``echo-rest`` and ``echo-grpc``.
        folder: for files and logs.
        progress: told what happens, in a line.

    Raises:
        ServerError: one did not start.
    """
    found = [Found(case, [], []) for case in CASES]
    with ExitStack() as stack:
        doors = {case: _start(case, running, folder) for case in CASES}
        for server in doors.values():
            stack.callback(server.stop)
        for server in doors.values():
            server.wait_ready()
        files = {protocol: _files(protocol, small, folder) for protocol in FLOATS}
        for number in range(rounds):
            for one in found:
                progress(f"stall, round {number + 1} of {rounds}: {one.case.name}")
                port = doors[one.case].ports[one.case.protocol]
                image, little = files[one.case.protocol]
                few = Pace(one.case.protocol, port, "null", str(little), CALLERS, PER_SECOND, seconds)
                alone = paced.finish(paced.start(few))
                large = Pace(
                    one.case.protocol, port, "image", str(image), IMAGE_CALLERS, IMAGES_PER_SECOND, seconds + 2 * LEAD_S
                )
                with paced.start(large) as images:
                    beside = paced.finish(paced.start(few))
                    one.images.append(paced.finish(images))
                one.pairs.append((alone, beside))
    return found


def _start(case: Case, running: Mapping[str, Server], folder: Path) -> Server:
    name = f"stall-{case.protocol}-{'embedded' if case.embedded else 'relayed'}"
    if case.embedded:
        models = [
            "--model", "null=python:benchmarks.models:identity", "--model", "image=python:benchmarks.models:first",
        ]  # fmt: skip
        return servers.batchproxy(name, models, folder)
    scheme = {"rest": "http", "grpc": "grpc"}[case.protocol]
    behind = {"image": running[f"echo-{case.protocol}"], "null": running["upstream"]}
    config = {
        "pools": [
            {"name": model, "endpoints": [f"{scheme}://{HOST}:{server.ports[case.protocol]}"]}
            for model, server in behind.items()
        ],
        "models": [{"name": model, "pool": model} for model in behind],
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config))
    return servers.batchproxy(name, ["--config", str(path)], folder)


def _files(protocol: str, small: Body, folder: Path) -> tuple[Path, Path]:
    """The image and the small body, without gRPC's prefix."""
    image = bodies.write(f"image {protocol}", FLOATS[protocol], folder, "image").of(protocol)
    paths = folder / f"image.{protocol}", folder / f"small.{protocol}"
    for path, body in zip(paths, (image, small.of(protocol)), strict=True):
        path.write_bytes(body)
    return paths
