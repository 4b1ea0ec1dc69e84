"""The wire figures: what the tools print is read rightly, ratios and verdicts are right; real servers for a moment.

wrk, h2load, nginx and HAProxy are not needed here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.tables import budgets
from benchmarks.wire import bars, bodies, callers, paced, peers, resources, stall, table, targets, tools
from benchmarks.wire.paced import Pace, Result
from benchmarks.wire.rates import Line, Sample
from benchmarks.wire.tools import Load

H2LOAD = """\
finished in 1.00s, 36480.00 req/s, 4.49MB/s
requests: 36480 total, 36608 started, 36480 done, 36479 succeeded, 1 failed, 0 errored, 0 timeout
status codes: 36478 2xx, 0 3xx, 0 4xx, 2 5xx
traffic: 4.49MB (4706312) total, 712.50KB (729600) headers (space savings 47.37%), 2.33MB (2444026) data
"""
"""As h2load 1.52 writes it, with one failure, two answers of status 500 and 36,478 answers of 67 bytes."""

PYTHON_ONLY = [target for target in targets.LISTENERS if target.body == targets.SMALL and target.server != "nginx"]


def _line(name: str, *figures: tuple[float, float], failed: int = 0) -> Line:
    target = next(target for target in (*targets.LISTENERS, *targets.PROXIES) if target.name == name)
    return Line(target, [Sample(Load(100, rate, failed, 1.0, 2.0), cpu, 5.0, 250.0) for rate, cpu in figures])


def test_wrk_is_read() -> None:
    """The last line has the figures; what wrk says before it does not matter."""
    told = 'Running 1s test\n\n{"requests": 50, "microseconds": 2000000, "failed": 3, "p50_us": 1500, "p99_us": 9000}\n'

    assert Load(50, 25.0, 3, 1.5, 9.0) == tools.parse_wrk(told)


def test_h2load_is_read() -> None:
    """Failures, statuses and missing bytes count as failed; latencies are those of the log."""
    log = "".join(f"1795242609363753\t200\t{1000 * number}\n" for number in range(1, 101))
    load = tools.parse_h2load(H2LOAD, 67, log)

    assert Load(36_580, 36_480.0, 3, 51.0, 100.0) == load
    assert 3 + 18_239 == tools.parse_h2load(H2LOAD, 134, log).failed
    assert 1 == tools.parse_h2load(H2LOAD.replace("36478 2xx", "36488 2xx"), 66, log).failed
    cut_off = H2LOAD.replace("36480 done", "36478 done").replace("36478 2xx", "36480 2xx")  # two have a head only
    assert 1 == tools.parse_h2load(cut_off, 67, log).failed
    assert (0.0, 0.0) == (tools.parse_h2load(H2LOAD, 67, "").p50_ms, tools.parse_h2load(H2LOAD, 67, "").p99_ms)
    with pytest.raises(tools.ToolError, match="not as expected"):
        tools.parse_h2load("h2load: unknown option", 67, log)


def test_missing_commands_are_named() -> None:
    """Whoever lacks one is told what to type."""
    sentence = tools.missing(["sh", "no-such-load-generator"])

    assert "" == tools.missing(["sh"])
    assert "needs no-such-load-generator. On Debian: apt install wrk nghttp2-client nginx haproxy" in sentence


def test_processor_time_of_children() -> None:
    """nginx answers in a child process, whose time counts."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        before = peers.tree_cpu_s(os.getpid())
        while peers.tree_cpu_s(child.pid) < 0.1:
            pass
        spent = peers.tree_cpu_s(os.getpid()) - before
        child.kill()

    assert spent >= 0.05


def test_ratios_are_taken_within_the_round() -> None:
    """Rounds of which one was slow for both: the median of ratios, not the ratio of medians."""
    echo = _line("grpc.aio echo", (100, 100.0), (10, 100.0), (50, 100.0))
    null = _line("null gRPC", (1_000, 5.0), (130, 4.0), (400, 6.0))
    found = {bar.name: bar for bar in bars.of_lines([echo, null])}

    assert 10 == found["null gRPC / grpc.aio echo, requests"].value
    assert 0.05 == found["null gRPC / grpc.aio echo, CPU per request"].value
    assert found["null gRPC / grpc.aio echo, CPU per request"].at_most
    assert "null REST / aiohttp echo, requests" not in found


def test_every_bar_has_a_goal() -> None:
    """A goal whose bar was renamed would never be looked at, and the other way round."""
    figures = resources.Found([1.0], [1.0], {"rest": [1.0], "grpc": [1.0]}, 1).figures()
    names = [
        *(each.name for each in bars.RATIOS),
        *figures,
        *(bars.STALL.format(case=case.name) for case in stall.CASES),
    ]
    lines = {target.name for target in (*targets.LISTENERS, *targets.PROXIES)}

    assert set(names) == set(budgets()["wire"])
    assert set(budgets()["wire required"]) < set(names)
    assert {name for each in bars.RATIOS for name in (each.line, each.yardstick)} <= lines
    assert {target.yardstick for target in (*targets.LISTENERS, *targets.PROXIES)} - {""} <= lines


def test_tables() -> None:
    """Each line stands beside its yardstick; a bar says what is due and whether it is kept."""
    lines = [_line("grpc.aio echo", (100, 100.0)), _line("null gRPC", (700, 4.0), failed=2)]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.rates(lines).splitlines()[2:]]
    verdicts = [" ".join(row.split()) for row in table.bars(bars.of_lines(lines)).splitlines()[2:]]
    result = Result(10, 0, "", 1.0, 3.0)
    worse = replace(result, p99_ms=8.0, failed=1, fault="refused")
    found = stall.Found(stall.CASES[0], [result], [result], [worse], [result])

    assert ["grpc.aio echo", "100", "", "100.0", "", "", "1.00", "2.00", "250", "0"] == rows[0]
    assert ["null gRPC", "700", "7.00", "4.0", "0.040", "", "1.00", "2.00", "250", "2"] == rows[1]
    assert "| null gRPC / grpc.aio echo, requests | 7 | >= 12 MISSED | >= 5 ok |" == verdicts[0]
    assert "| null gRPC / grpc.aio echo, CPU per request | 0.04 | <= 0.05 ok | |" == verdicts[1]
    assert (
        "| REST, embedded         |   3.0 |              3.0 |           8.0 |  5.0 |            1 |"
        in table.stalls([found])
    )
    assert [("stall, REST, embedded", "refused")] == found.faults


def test_servers_are_asked(tmp_path: Path) -> None:
    """Echoes and the null model answer rightly by both protocols, to each kind of caller, and at a pace."""
    made = {targets.SMALL: bodies.write(targets.SMALL, 3, tmp_path)}
    small = made[targets.SMALL]
    with ExitStack() as stack:
        running = targets.start(PYTHON_ONLY, tmp_path, stack)
        sizes, faults = targets.ask(PYTHON_ONLY, running, made)
        wrong = targets.ask([replace(target, echo=not target.echo) for target in PYTHON_ONLY], running, made)[1]
        port = running["null"].ports["grpc"]
        with closing(callers.connect("grpc", port, "null", small.grpc)) as raw:
            answers = [raw.call(small.grpc) for _ in range(3)]
            with pytest.raises(callers.CallError):
                raw.call(b"not a message")
        file = tmp_path / "body"
        file.write_bytes(small.rest)
        pace = Pace("rest", running["null"].ports["rest"], "null", str(file), 2, 50, 0.2)
        result = paced.finish(paced.start(pace))
        unknown = paced.finish(paced.start(replace(pace, model="nobody")))

    assert [] == faults
    assert {target.name for target in PYTHON_ONLY} == {name for name, _ in wrong} == set(sizes)
    assert all(bodies.right(small, "grpc", answer, echo=False) for answer in answers)
    assert sizes["null gRPC"] == len(answers[0])
    assert (10, 0) == (result.answered, result.failed)
    assert 0 < result.p50_ms <= result.p99_ms
    assert "HTTP 404" in unknown.fault


def test_resources(tmp_path: Path) -> None:
    """A proxy is started, weighed, and weighed again with connections that do nothing."""
    small = bodies.write(targets.SMALL, 3, tmp_path)
    with ExitStack() as stack:
        running = targets.start([target for target in PYTHON_ONLY if target.server == "null"], tmp_path, stack)
        found = resources.measure(running["null"], small, tmp_path, 2, lambda _: None, wanted=20)

    assert 20 == found.connections
    assert {"rest", "grpc"} == set(found.extra_mb)
    assert min(*found.start_s, *found.idle_mb) > 0
    assert found.figures()["10,000 idle REST connections, MB more"] == pytest.approx(500 * found.extra_mb["rest"][0])
