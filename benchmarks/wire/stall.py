"""R7's bar: what callers with large bodies do to the p99 of small callers of another model. No table is drawn here.

Ten callers send an image of 2 MB each, 20 a second in all; eight others send one row of three floats, 400 a second in
all. In each round the small ones are measured alone, then while the images go to another server, which tells what the
machine itself adds where it has few cores, then while the images go to the same one.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson

from benchmarks import servers
from benchmarks.micro.grpc_codec import predict_request
from benchmarks.servers import HOST, Server
from benchmarks.wire import bodies, paced
from benchmarks.wire.bodies import Body
from benchmarks.wire.paced import Pace, Result

FLOATS = {"rest": 224 * 224 * 3, "grpc": 500_000}
"""Values of one image: as JSON, the usual picture of float32 pixels takes 1.8 MB; as float32, so many take 2 MB."""

IMAGE_CALLERS, IMAGES_PER_SECOND = 10, 20.0
CALLERS, PER_SECOND = 8, 400.0
START_S = 2.0
"""What the small load may take to start: so much longer the large one runs."""


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
        return f"{word}, {'embedded' if self.embedded else 'relayed'}"


CASES = tuple(Case(protocol, embedded) for embedded in (True, False) for protocol in ("rest", "grpc"))


@dataclass
class Found:
    """Of one case, one of each a round.

    Attributes:
        case: which.
        alone: small callers with nothing beside them.
        elsewhere: while the images go to another server.
        beside: while the images go to the same one.
        images: callers of the images themselves, there.
    """

    case: Case
    alone: list[Result] = field(default_factory=list)
    elsewhere: list[Result] = field(default_factory=list)
    beside: list[Result] = field(default_factory=list)
    images: list[Result] = field(default_factory=list)

    @property
    def rise_ms(self) -> float:
        """Median over the rounds of how much the p99 rose."""
        pairs = zip(self.alone, self.beside, strict=True)
        return statistics.median(beside.p99_ms - alone.p99_ms for alone, beside in pairs)

    @property
    def faults(self) -> list[tuple[str, str]]:
        """Failed calls, in words."""
        results = (*self.alone, *self.elsewhere, *self.beside, *self.images)
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
    found = [Found(case) for case in CASES]
    with ExitStack() as stack:
        doors = {case: _start(case.name, case, running, folder) for case in CASES}
        elsewhere = _start("elsewhere", CASES[0], running, folder)
        for server in (*doors.values(), elsewhere):
            stack.callback(server.stop)
        for server in (*doors.values(), elsewhere):
            server.wait_ready()
        files = {protocol: _files(protocol, small, folder) for protocol in FLOATS}
        for number in range(rounds):
            for one in found:
                case = one.case
                progress(f"stall, round {number + 1} of {rounds}: {case.name}")
                image, little = files[case.protocol]
                own, other = doors[case], elsewhere if case.embedded else running[f"echo-{case.protocol}"]
                few = _pace(case, own, "null", little, seconds)
                one.alone.append(paced.finish(paced.start(few)))
                for server, results in ((other, one.elsewhere), (own, one.beside)):
                    with paced.start(_pace(case, server, "image", image, seconds + START_S)) as images:
                        results.append(paced.finish(paced.start(few)))
                        told = paced.finish(images)
                one.images.append(told)
    return found


def _pace(case: Case, server: Server, model: str, body: Path, seconds: float) -> Pace:
    count, per_second = (IMAGE_CALLERS, IMAGES_PER_SECOND) if model == "image" else (CALLERS, PER_SECOND)
    return Pace(case.protocol, server.ports[case.protocol], model, str(body), count, per_second, seconds)


def _start(name: str, case: Case, running: Mapping[str, Server], folder: Path) -> Server:
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
        "models": [
            {"name": "null", "pool": "null"},
            # read for merging, though never merged: an echo of two bodies is no answer
            {"name": "image", "pool": "image", "batchable": case.protocol == "rest" or None, "max_batch_rows": 1},
        ],
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config))
    return servers.batchproxy(name, ["--config", str(path)], folder)


def _image(protocol: str) -> bytes:
    pixels = np.random.default_rng(bodies.SEED).integers(0, 256, (1, FLOATS[protocol])).astype(np.float32) / 255
    if protocol == "grpc":
        return predict_request("image", pixels, content=True)
    return orjson.dumps({"instances": pixels}, option=orjson.OPT_SERIALIZE_NUMPY)  # the shortest digits of a float32


def _files(protocol: str, small: Body, folder: Path) -> tuple[Path, Path]:
    """The image and the small body, without gRPC's prefix."""
    image = _image(protocol)
    paths = folder / f"image.{protocol}", folder / f"small.{protocol}"
    for path, body in zip(paths, (image, small.of(protocol)), strict=True):
        path.write_bytes(body)
    return paths
