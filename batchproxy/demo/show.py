"""The demo from start to end: models, proxy, traffic, table, and serving on. Each of these has its own module."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uvloop

from batchproxy.demo import data, mlp, report, traffic
from batchproxy.demo.check import check
from batchproxy.demo.data import UNBATCHED, Workload
from batchproxy.demo.proxy import HOST, Ports, Proxy, ProxyError, choose_ports


def show(*, once: bool, callers: int, seconds: float) -> int:
    """Run the demo and return its exit status: 0, 1 if something was wrong, 130 if it was interrupted early.

    Args:
        once: end after the table, and use free ports.
        callers: how many send requests at once.
        seconds: how long, for each model with batching and again without.
    """
    progress = report.Progress(sys.stderr)
    # SIGTERM is to do what Ctrl-C does, also where a shell has started us in the background with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with tempfile.TemporaryDirectory(prefix="batchproxy-demo-") as folder:
        proxy: Proxy | None = None
        finished = False
        try:
            progress.step("Making the models, and calling them directly")
            path = mlp.write(Path(folder) / "mlp")
            workloads = [data.half_plus_two(), data.digits(), data.mlp(path)]
            ports = _ports(once=once, progress=progress)
            progress.step("Starting the proxy")
            proxy = Proxy(workloads, ports, callers, Path(folder))
            proxy.start()
            results = _measure(proxy, workloads, callers, seconds, progress)
            progress.done()
            status = _tell(results, callers)
            finished = True
            return status if once or status else _serve_on(proxy)
        except ProxyError as error:
            progress.done()
            print(f"batchproxy demo: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            progress.done()
            return 0 if finished else 130
        finally:
            if proxy is not None:
                proxy.stop()


def _ports(*, once: bool, progress: report.Progress) -> Ports:
    ports, taken = choose_ports(free=once)
    if taken:
        progress.done()
        print(f"Ports in use: {', '.join(map(str, taken))}. Taking free ones instead.")
    return ports


def _measure(
    proxy: Proxy, workloads: Sequence[Workload], callers: int, seconds: float, progress: report.Progress
) -> list[report.Result]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return [_one(runner, proxy, workload, callers, seconds, progress) for workload in workloads]


def _one(
    runner: asyncio.Runner, proxy: Proxy, workload: Workload, callers: int, seconds: float, progress: report.Progress
) -> report.Result:
    progress.step(f"{workload.name} alone")
    alone_ms = data.alone_ms(workload)
    modes = {"with batching": workload.name, "without": workload.name + UNBATCHED}
    runs = {mode: traffic.Answers() for mode in modes}
    before = proxy.metrics()
    for mode in ("with batching", "without", "without", "with batching"):  # what else the machine does hits both
        progress.step(f"{workload.name} {mode}, {callers} callers")
        answers = runner.run(
            traffic.run(
                (HOST, proxy.ports.rest),
                f"{HOST}:{proxy.ports.grpc}",
                data.rest_requests(workload, modes[mode]),
                data.grpc_requests(workload, modes[mode]),
                callers=callers,
                seconds=seconds / 2,
                progress=lambda count, elapsed: progress.update(f"{count:,} answers, {elapsed:.1f} s"),
            )
        )
        runs[mode].add(answers)
    after = proxy.metrics()

    def grown(metric: str) -> int:
        key = (metric, workload.name)
        return round(after.get(key, 0.0) - before.get(key, 0.0))

    progress.step(f"{workload.name}: comparing {sum(run.total for run in runs.values()):,} answers with direct calls")
    verdicts = {mode: check(workload, run.rest, run.grpc) for mode, run in runs.items()}
    _complain([verdict.first for verdict in verdicts.values() if verdict.first], progress)
    _complain([run.lost[0] for run in runs.values() if run.lost], progress)
    through, direct = verdicts["with batching"].accuracy, verdicts["with batching"].direct
    batched, unbatched = runs["with batching"], runs["without"]
    return report.Result(
        model=workload.name,
        requests=len(batched.rest) + len(batched.grpc),
        calls=grown("batchproxy_backend_calls_total"),
        rows=grown("batchproxy_batch_rows_sum"),
        per_second=batched.per_second,
        unbatched_per_second=unbatched.per_second,
        alone_ms=alone_ms,
        wrong=sum(verdict.wrong for verdict in verdicts.values()),
        lost=sum(len(run.lost) for run in runs.values()),
        accuracy=None if through is None or direct is None else (through, direct),
    )


def _complain(lines: Sequence[str], progress: report.Progress) -> None:
    for line in lines:
        progress.done()
        print(line, file=sys.stderr)


def _tell(results: Sequence[report.Result], callers: int) -> int:
    print(
        f"{callers} callers, one row a request, half REST, half gRPC; proxy, models and callers share this machine.\n"
    )
    print(report.table(results))
    print()
    for line in [*report.meaning(results), *report.accuracies(results)]:
        print(line)
    failures = report.failures(results)
    for line in failures:
        print(f"FAILED: {line}", file=sys.stderr)
    return 1 if failures else 0


def _serve_on(proxy: Proxy) -> int:
    ports = proxy.ports
    print(
        f"\nStill serving. Try:\n"
        f"  curl -d '{{\"instances\": [1.0, 2.0, 5.0]}}' http://{HOST}:{ports.rest}/v1/models/half_plus_two:predict\n"
        f"and open http://{HOST}:{ports.admin}/ (gRPC: {HOST}:{ports.grpc}). Ctrl-C ends it.",
        flush=True,
    )
    status = proxy.wait()
    raise ProxyError(f"the proxy ended by itself with status {status}:\n{proxy.last_words()}")
