"""A soak: callers, a proxy and servers that fail, are killed and come back, by a seed; what came of it, in figures.

The seed decides what callers ask, when they give up, which calls of a server fail and how, and when servers are killed;
which call meets which fault is decided by the traffic, too, which no seed holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import re
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import uvloop

from tests.faults.script import POISON
from tests.proxy import Proxy, started
from tests.remote import predict_message
from tests.soak.clients import Http1Client, Http2Client, LostError
from tests.soak.judge import BUG, FIRST_ROW, Judge
from tests.soak.storm import BACKEND_TIMEOUT_S, MAX_ROWS, RAGGED
from tests.soak.victim import Victim

T = TypeVar("T")

SERVERS = 4
GUARD_S = 30.0
"""A caller who has waited for so long hangs: several times the proxy's patience with servers."""

MODELS = ("a", "b", "c", "bridged", RAGGED)
SHARES = (40, 30, 14, 14, 2)
CANCEL, POISONED = 0.01, 0.002
"""Shares of requests: given up after up to 20 ms; with the row that servers refuse."""

CONNECTIONS = 24
"""To servers, that may stay when nobody calls: gRPC's of both pools, and those that probes use."""

END_S = 60.0
"""Twice what the proxy gives callers who wait when it is told to end; then it hangs."""

SAMPLE_S = 2.0

BEHIND_S = 1.0
"""How much of the time in which a caller had to wait it makes up for."""


@dataclass(frozen=True)
class Plan:
    """A soak.

    Attributes:
        seconds: how long callers call.
        seed: of everything that is drawn.
        rate: requests a second, of all callers.
        callers: half of them by REST, half by gRPC.
        faults: share of servers' calls that meet one.
        kill_every_s: mean time between two kills of a server.
        reload_every_s: mean time between two configurations, which leave a server out or take it in again.
    """

    seconds: float
    seed: int
    rate: float = 2200.0
    callers: int = 192
    faults: float = 0.02
    kill_every_s: float = 8.0
    reload_every_s: float = 10.0


@dataclass
class Report:
    """What came of it.

    Attributes:
        judge: counts.
        sent: requests.
        seconds: that it took.
        kills: of servers.
        reloads: of the configuration.
        rss_kib: of the proxy, a sample every ``SAMPLE_S``.
        descriptors: likewise.
        idle_descriptors: before the first caller, and after the last one has gone.
        exit_status: the proxy's, on SIGTERM.
        log: what it said.
    """

    judge: Judge = field(default_factory=Judge)
    sent: int = 0
    seconds: float = 0.0
    kills: int = 0
    reloads: int = 0
    rss_kib: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    idle_descriptors: tuple[int, int] = (0, 0)
    exit_status: int = -1
    log: list[str] = field(default_factory=list)

    @property
    def rss_slope(self) -> float:
        """KiB a minute, by least squares over the second half."""
        return _slope(self.rss_kib[len(self.rss_kib) // 2 :])

    @property
    def descriptor_slope(self) -> float:
        """Descriptors a minute, likewise."""
        return _slope(self.descriptors[len(self.descriptors) // 2 :])

    def lines(self) -> Iterator[str]:
        """The report, for people."""
        yield f"{self.sent} requests in {self.seconds:.0f} s, {self.kills} kills of servers, {self.reloads} reloads"
        yield from (f"  {count:>9} {kind}" for kind, count in sorted(self.judge.counts.items()))
        yield f"  {self.judge.bad:>9} wrong, crossed, lost or hanging"
        yield from (f"    {example}" for example in self.judge.examples)
        yield from (f"    {count} were told {text}" for text, count in self.judge.texts.most_common(12))
        first, middle, last = (self.rss_kib[at] // 1024 for at in (0, len(self.rss_kib) // 2, -1))
        yield f"RSS {first}, {middle}, {last} MiB at start, middle, end; {self.rss_slope:+.0f} KiB a minute at last"
        idle, after = self.idle_descriptors
        yield (
            f"descriptors {min(self.descriptors)} to {max(self.descriptors)}, {self.descriptor_slope:+.1f} a minute; "
            f"idle {idle} before and {after} after"
        )
        yield f"the proxy ended with {self.exit_status}; {len(self.log)} lines in its log"
        said = Counter(re.sub(r"\d+", "N", line)[:200] for line in self.log)
        yield from (f"    {count} times {line}" for line, count in said.most_common(12))
        yield from self.log[-40:] if self.exit_status else ()
        yield from self.trouble[:80]

    @property
    def trouble(self) -> list[str]:
        """The log from where it first tells of what nobody has foreseen; empty for none."""
        found = (at for at, line in enumerate(self.log) if BUG in line or "Traceback" in line)
        return [line for at in itertools.islice(found, 1) for line in self.log[at:]]


def _slope(samples: list[int]) -> float:
    if len(samples) < 3:
        return 0.0
    slope, _ = np.polyfit(np.arange(len(samples)) * SAMPLE_S / 60, samples, 1)
    return float(slope)


def _words(seeds: Iterator[int], faults: float) -> tuple[float, float]:
    """Of the next start of a server."""
    return next(seeds), faults


@contextmanager
def _site(plan: Plan) -> Iterator[tuple[Proxy, list[Victim]]]:
    with ExitStack() as stack:
        victims = []
        for number in range(SERVERS):
            seeds = itertools.count(1000 * plan.seed + 100 * number)
            victims.append(Victim("storm", partial(_words, seeds, plan.faults)))
            stack.callback(victims[-1].kill)
        yield stack.enter_context(started([], _config(victims), interpreter=("-X", "faulthandler"))), victims


def _config(victims: Sequence[Victim]) -> dict[str, Any]:
    """The proxy's, in front of these."""
    pools = [
        {"name": "both", "endpoints": [{"rest": one.rest, "grpc": one.grpc} for one in victims]},
        {"name": "bridge", "endpoints": [{"grpc": one.grpc} for one in victims]},
    ]
    return {
        "listen": dict.fromkeys(("rest", "grpc", "admin"), "127.0.0.1:0"),
        "pools": pools,
        "models": [{"name": "*", "pool": "both", "hedging": True}, {"name": "bridged", "pool": "bridge"}],
        "backend_timeout_s": BACKEND_TIMEOUT_S,
        "probe_interval_s": 0.1,
        "rest_api_timeout_in_ms": 0,
    }


class Soak:
    """One run."""

    def __init__(self, plan: Plan, proxy: Proxy, victims: list[Victim], report: Report) -> None:
        self._plan, self._proxy, self._victims, self._report = plan, proxy, victims, report
        self._judge = report.judge
        self._rows = itertools.count(FIRST_ROW)
        self._lots = random.Random(plan.seed)
        self._end = 0.0
        self._shared: list[Http2Client | None] = [None] * 4
        self._own: dict[int, Http1Client] = {}
        self._opened: list[Http1Client | Http2Client] = []

    async def run(self) -> None:
        """All callers, the killing, and the samples."""
        loop = asyncio.get_running_loop()
        idle = await asyncio.to_thread(_descriptors, self._proxy.process.pid)
        begun = loop.time()
        self._end = begun + self._plan.seconds
        beside = [loop.create_task(work) for work in (self._kill(), self._reload(), self._sample())]
        callers = [self._caller(number) for number in range(self._plan.callers)]
        try:
            await asyncio.gather(*callers)
            self._report.seconds = loop.time() - begun
            await asyncio.gather(*beside)
        finally:  # an open one keeps uvloop from ending where warnings are errors
            for client in self._opened:
                client.close()
        for _ in range(int(GUARD_S / SAMPLE_S)):
            after = _descriptors(self._proxy.process.pid)
            if after <= idle + CONNECTIONS:
                break
            await asyncio.sleep(SAMPLE_S)
        self._report.idle_descriptors = (idle, after)

    async def _caller(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        lots = random.Random(self._plan.seed * 10_000 + number)
        period = self._plan.callers / self._plan.rate
        due = loop.time() + lots.random() * period
        ask = self._by_rest(number) if number % 2 else self._by_grpc(number)
        while due < self._end:
            if (late := due - loop.time()) > 0:
                await asyncio.sleep(late)
            due = max(due + period, loop.time() - BEHIND_S)  # a server's fault costs requests, but not for long
            model = lots.choices(MODELS, SHARES)[0] if number % 2 else lots.choices(MODELS[:3], SHARES[:3])[0]
            rows = [next(self._rows) for _ in range(lots.choices(range(1, MAX_ROWS + 1), (8, 1, 1))[0])]
            if lots.random() < POISONED:
                rows[0] = POISON
            patience = lots.random() * 0.02 if lots.random() < CANCEL else None
            self._report.sent += 1
            try:
                await ask(model, rows, patience)
            except LostError as error:
                self._judge.never("lost", f"{model} {rows}: {error}")
            except TimeoutError:
                self._judge.never("hanging", f"{model} {rows}")

    def _by_rest(self, number: int) -> Callable[[str, list[int], float | None], Awaitable[None]]:
        async def ask(model: str, rows: list[int], patience: float | None) -> None:
            client = self._own.get(number)
            if client is None or not client.usable:
                host, _, port = self._proxy.rest.removeprefix("http://").partition(":")
                _, client = await asyncio.get_running_loop().create_connection(Http1Client, host, int(port))
                self._opened.append(client)
                self._own[number] = client
            answer = client.post(f"/v1/models/{model}:predict", json.dumps({"instances": rows}).encode())
            if (found := await self._within(answer, patience, client.close)) is not None:
                self._judge.rest(rows, *found)

        return ask

    def _by_grpc(self, number: int) -> Callable[[str, list[int], float | None], Awaitable[None]]:
        at = number // 2 % len(self._shared)

        async def ask(model: str, rows: list[int], patience: float | None) -> None:
            client = self._shared[at]
            if client is None or not client.usable:
                host, _, port = self._proxy.grpc.partition(":")
                _, client = await asyncio.get_running_loop().create_connection(Http2Client, host, int(port))
                self._opened.append(client)
                self._shared[at] = client
            stream, answer = client.call(predict_message(model, {"x": np.array(rows, np.int64)}))
            if (found := await self._within(answer, patience, lambda: client.cancel(stream))) is not None:
                self._judge.grpc(rows, *found)

        return ask

    async def _within(self, answer: asyncio.Future[T], patience: float | None, leave: Callable[[], None]) -> T | None:
        """The answer; None if the caller gave up before."""
        done, _ = await asyncio.wait((answer,), timeout=GUARD_S if patience is None else patience)
        if done:
            return answer.result()
        leave()
        if answer.done():
            with contextlib.suppress(LostError):
                answer.result()
        else:
            answer.cancel()
        if patience is None:
            raise TimeoutError
        self._judge.counts["cancelled"] += 1
        return None

    async def _kill(self) -> None:
        loop = asyncio.get_running_loop()
        while (wait := self._lots.expovariate(1 / self._plan.kill_every_s)) + loop.time() < self._end:
            await asyncio.sleep(wait)
            victim = self._lots.choice(self._victims)
            await asyncio.to_thread(victim.kill)
            self._report.kills += 1
            await asyncio.sleep(self._lots.random() * 2)
            await asyncio.to_thread(victim.start)

    async def _reload(self) -> None:
        loop, lots = asyncio.get_running_loop(), random.Random(self._plan.seed + 1)
        words = self._proxy.process.args
        assert isinstance(words, list)
        path = Path(words[words.index("--config") + 1])
        while (wait := lots.expovariate(1 / self._plan.reload_every_s)) + loop.time() < self._end:
            await asyncio.sleep(wait)
            kept = [one for one in self._victims if lots.random() < 0.75] or self._victims
            whole = path.with_suffix(".new")
            whole.write_text(json.dumps(_config(kept)))
            whole.rename(path)
            self._proxy.process.send_signal(signal.SIGHUP)
            self._report.reloads += 1

    async def _sample(self) -> None:
        loop, pid = asyncio.get_running_loop(), self._proxy.process.pid
        while loop.time() < self._end:
            self._report.rss_kib.append(_rss_kib(pid))
            self._report.descriptors.append(_descriptors(pid))
            await asyncio.sleep(min(SAMPLE_S, max(0.0, self._end - loop.time())))


def _rss_kib(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _drained(proxy: Proxy) -> threading.Thread:
    """Read what the proxy says, so that it never waits for a reader."""

    def read() -> None:
        assert proxy.process.stderr is not None
        proxy.log.extend(line.rstrip("\n") for line in proxy.process.stderr)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def soak(plan: Plan) -> Report:
    """Run it.

    Args:
        plan: what and for how long.
    """
    report = Report()
    with _site(plan) as (proxy, victims):
        drain = _drained(proxy)
        uvloop.run(Soak(plan, proxy, victims, report).run())
        proxy.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            report.exit_status = proxy.process.wait(END_S)
        proxy.process.send_signal(signal.SIGABRT)  # nothing to one that has ended; else it says where it is
        drain.join(10)
        report.log = proxy.log
    return report
