"""``python -m benchmarks [PART] [--quick] [--json FILE]``: measures a part or all, shows progress, prints tables.

``python -m benchmarks simulate`` measures nothing of this machine, and has flags of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import e2e, handover, kill, micro, onnx, onnx_table, outbound, real, remote, simulate, tables
from benchmarks.micro.timing import measure
from benchmarks.wire import run as wire

SAMPLES, QUICK_SAMPLES = 15, 3
ROUNDS, SECONDS = 3, 2.0
REMOTE_SECONDS = 1.0
QUICK_ROUNDS, QUICK_SECONDS = 1, 0.5


def main() -> int:
    """Run and print; 1 where an answer was wrong or missing."""
    if sys.argv[1:2] == ["simulate"]:
        return simulate.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="measure batchproxy on this machine")
    parts = ["micro", "e2e", "remote", "outbound", "onnx", "real", "wire", "kill", "handover", "all"]
    parser.add_argument("part", nargs="?", choices=parts, default="all")
    parser.add_argument("--quick", action="store_true", help="a look in a minute; no figures to quote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures, for benchmarks.compare")
    args = parser.parse_args()
    found: dict[str, Any] = {"when": time.strftime("%Y-%m-%d %H:%M"), "machine": machine(), "quick": args.quick}
    print(f"{found['when']}, {found['machine']}{', quick: figures of little worth' if args.quick else ''}\n")
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if args.quick else (ROUNDS, SECONDS)
    faulty: list[tuple[str, str]] = []
    if args.part in {"micro", "all"}:
        figures = measure(micro.all_cases(), QUICK_SAMPLES if args.quick else SAMPLES, _progress("micro"))
        _clear()
        print(tables.micro_table(figures), end="\n\n")
        found["micro"] = [asdict(figure) for figure in figures]
    if args.part in {"e2e", "all"}:
        lines = e2e.measure(rounds, seconds, _progress("end to end"))
        _clear()
        print(tables.e2e_table(lines), end="\n\n")
        print("\n".join(tables.gains(lines)), end="\n\n")
        faulty += [(line.name, line.fault) for line in lines if line.faults]
        found["e2e"] = [asdict(line) for line in lines]
    if args.part in {"remote", "all"}:
        routes = remote.measure(rounds, min(seconds, REMOTE_SECONDS), _progress("remote"))
        _clear()
        print(tables.remote_table(routes), end="\n\n")
        print(tables.alone_table(routes), end="\n\n")
        faulty += [(line.name, line.fault) for line in routes if line.faults]
        found["remote"] = [asdict(line) for line in routes]
    if args.part in {"outbound", "all"}:
        clients = outbound.measure(rounds, min(seconds, REMOTE_SECONDS), _progress("outbound"))
        _clear()
        print(tables.outbound_table(clients), end="\n\n")
        faulty += [(line.name, line.fault) for line in clients if line.faults]
        found["outbound"] = [asdict(line) for line in clients]
    if args.part == "real":  # not of "all": it takes a quarter of an hour
        learned = real.measure(seconds, _progress("real"))
        _clear()
        print(tables.real_table(learned), end="\n\n")
        found["real"] = [asdict(line) for line in learned]
    if args.part == "onnx":  # not of "all": it takes minutes, and needs wrk, h2load and Triton
        models = onnx.measure(args.quick, _progress("onnx"))
        _clear()
        print(onnx_table.text(models), end="\n\n")
        faulty += onnx_table.faults(models)
        found["onnx"] = {**asdict(models), "targets": onnx_table.verdicts(models)}
    if args.part == "wire":  # not of "all": it needs Debian's nginx, haproxy, wrk and h2load
        outcome = wire.measure(args.quick, _progress("wire"))
        _clear()
        print(outcome.text, end="\n\n")
        faulty += outcome.faults
        found["wire"] = outcome.figures
    if args.part == "kill":  # not of "all": it takes minutes
        killed = kill.measure(2 * seconds if args.quick else 4 * seconds, 2 if args.quick else 6, _progress("kill"))
        _clear()
        print("\n".join(killed.lines()), end="\n\n")
        faulty += [("one of three servers killed", fault) for fault in killed.faults]
        found["kill"] = asdict(killed)
    if args.part == "handover":  # not of "all": it takes a minute
        passed = handover.measure(2 if args.quick else 10, _progress("handover"))
        _clear()
        print("\n".join(passed.lines()), end="\n\n")
        faulty += [("the listening sockets pass on", fault) for fault in passed.faults]
        found["handover"] = asdict(passed)
    for name, fault in faulty:
        print(f"FAULT {name}: {fault}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(bool(faulty))


def machine() -> str:
    """The machine in words."""
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"


def _progress(part: str) -> Any:
    start = time.monotonic()

    def show(line: str) -> None:
        text = f"{part}: {line} ({time.monotonic() - start:.0f} s)"
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    return show


def _clear() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
