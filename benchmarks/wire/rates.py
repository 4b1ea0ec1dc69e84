"""Rounds: each loads every target once, in turn, and lets a lone caller ask each server. No table is drawn here."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from benchmarks.servers import Server
from benchmarks.wire import callers, tools
from benchmarks.wire.bodies import Body
from benchmarks.wire.peers import tree_cpu_s
from benchmarks.wire.targets import SMALL, Target
from benchmarks.wire.tools import Load

ALONE_S = 0.3
"""A lone caller makes hundreds to thousands of calls in that time."""

ALONE_WARM = 50
"""Calls before that."""

PREFIX = 5
"""Bytes of gRPC's own frame before a message."""


@dataclass(frozen=True)
class Sample:
    """What was seen of a target in one round.

    Attributes:
        load: by the load generator.
        cpu_us: processor time of the server per request, all its processes, user and system.
        behind_us: likewise, of the server behind it.
        alone_us: a lone caller's p50; 0 where there was none.
    """

    load: Load
    cpu_us: float
    behind_us: float
    alone_us: float = 0.0


@dataclass
class Line:
    """A target's samples, one a round."""

    target: Target
    samples: list[Sample] = field(default_factory=list)

    def median(self, figure: Callable[[Sample], float]) -> float:
        """Over the rounds."""
        return statistics.median(figure(sample) for sample in self.samples)

    def ratio(self, yardstick: Line, figure: Callable[[Sample], float]) -> float:
        """The median of the ratios within each round; 0 where a yardstick's figure is."""
        pairs = zip(self.samples, yardstick.samples, strict=True)
        return statistics.median(figure(own) / figure(other) if figure(other) else 0.0 for own, other in pairs)

    @property
    def failed(self) -> int:
        """Of all rounds."""
        return sum(sample.load.failed for sample in self.samples)


def rate(sample: Sample) -> float:
    """Requests a second."""
    return sample.load.per_second


def cpu(sample: Sample) -> float:
    """Processor time of the server, microseconds per request."""
    return sample.cpu_us


def alone(sample: Sample) -> float:
    """A lone caller's p50, microseconds."""
    return sample.alone_us


def rounds(
    targets: Sequence[Target],
    running: Mapping[str, Server],
    made: Mapping[str, Body],
    sizes: Mapping[str, int],
    count: int,
    seconds: int,
    progress: Callable[[str], None],
) -> list[Line]:
    """Load every target so many times.

    Args:
        targets: what to load.
        running: the servers, started.
        made: the bodies, written.
        sizes: bytes of each target's right answer.
        count: of rounds.
        seconds: of each load.
        progress: told what happens, in a line.

    Raises:
        ToolError: a load generator failed.
    """
    lines = [Line(target) for target in targets]
    for number in range(count):
        for line in lines:
            progress(f"round {number + 1} of {count}: {line.target.name}")
            line.samples.append(_sample(line.target, running, made[line.target.body], sizes[line.target.name], seconds))
    return lines


def _sample(target: Target, running: Mapping[str, Server], body: Body, size: int, seconds: int) -> Sample:
    pids = [running[key].pid for key in (target.server, target.behind) if key]
    lone = _alone_us(target, running, body) if target.body == SMALL else 0.0
    before = [tree_cpu_s(pid) for pid in pids]
    load = _load(target, target.port(running), body, size, seconds)
    spent = [tree_cpu_s(pid) - then for pid, then in zip(pids, before, strict=True)]
    own, behind = ([1e6 * each / load.answered if load.answered else 0.0 for each in spent] + [0.0])[:2]
    return Sample(load, own, behind, lone)


def _load(target: Target, port: int, body: Body, size: int, seconds: int) -> Load:
    connections, streams = target.callers
    if target.protocol == "rest":
        return tools.wrk(port, callers.REST_PATH.format(model="null"), body.rest_file, connections, seconds)
    return tools.h2load(port, body.grpc_file, connections, streams, seconds, size + PREFIX)


def _alone_us(target: Target, running: Mapping[str, Server], body: Body) -> float:
    sent, times = body.of(target.protocol), []
    with closing(callers.connect(target.protocol, target.port(running), "null", sent)) as caller:
        for _ in range(ALONE_WARM):
            caller.call(sent)
        end = time.perf_counter() + ALONE_S
        while (start := time.perf_counter()) < end:
            caller.call(sent)
            times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times)
