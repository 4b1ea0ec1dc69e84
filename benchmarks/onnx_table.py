"""What ``benchmarks.onnx`` found, as Markdown: times, ways, targets. Nothing is measured here."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from benchmarks import onnx_ways, tables
from benchmarks.onnx import CALLERS, SIZES, Found, Line


def text(found: Found) -> str:
    """All tables, and the switch in a sentence."""
    switch = found.switch
    told = (
        f"A new version under {CALLERS} callers, gRPC: {switch.faults} of {switch.answered:,} requests failed; "
        f"p99 {switch.p99_ms[1]:.1f} ms, without a switch {switch.p99_ms[0]:.1f} ms."
    )
    return "\n\n".join((_times(found), _lines(found), _targets(found), tables.micro_table(found.image), told))


def verdicts(found: Found) -> dict[str, float]:
    """What is held against ``[onnx]`` of ``budgets.toml``: shares of the ideal, and rates to Triton's own batching."""
    held: dict[str, float] = {}
    for line in found.lines:
        name, way = f"{line.model}, {line.way.protocol}", line.way.name
        if not line.whole(found.rounds):
            continue
        if way in {onnx_ways.ON, onnx_ways.LANES, onnx_ways.PINNED}:
            held[f"{name}: {way}, share of the ideal"] = found.share(line).left
        if way == onnx_ways.IN_FRONT and (best := best_of_triton(found, line)):
            held[f"{name}: {way} / Triton's best"] = line.ratio(best)
    return held


def faults(found: Found) -> list[tuple[str, str]]:
    """Name and words of what went wrong."""
    of_lines = [
        (f"{line.model}, {line.way.protocol}, {line.way.name}", line.fault) for line in found.lines if line.fault
    ]
    return of_lines + ([("a new version under load", found.switch.fault)] if found.switch.faults else [])


def best_of_triton(found: Found, own: Line) -> Line | None:
    """The dynamic batching that was best for a model and protocol; None where it was not measured."""
    names = {onnx_ways.TRITON_BATCHING, *onnx_ways.TUNED.values()}
    of_the_same = [
        line
        for line in found.lines
        if line.whole(found.rounds)
        and line.way.name in names
        and (line.model, line.way.protocol) == (own.model, own.way.protocol)
    ]
    return max(of_the_same, key=lambda line: line.median(lambda sample: sample.load.per_second), default=None)


def _times(found: Found) -> str:
    rows = []
    for kind, all_times in (("", found.raw_ms), (", one thread", found.alone_ms)):
        for model, rounds in all_times.items():
            times = _medians(rounds)
            rows.append([f"{model}{kind}", *(f"{each:.2f}" for each in times)])
            gains = (times[0] * size / each for size, each in zip(SIZES, times, strict=True))
            rows.append([f"{model}{kind}: gain", *(f"{each:.1f}" for each in gains)])
    return tables.markdown(["T(b), ms", *map(str, SIZES)], rows)


def _medians(rounds: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.median(values) for values in zip(*rounds, strict=True)]


def _lines(found: Found) -> str:
    rows = []
    for line in found.lines:
        if not line.whole(found.rounds):
            continue
        share = found.share(line)
        best = best_of_triton(found, line)
        rows.append([
            f"{line.model}, {line.way.protocol}: {line.way.name}",
            f"{line.median(lambda sample: sample.load.per_second):,.0f}",
            f"{line.ratio(best):.2f}" if best else "", f"{share.gain:.2f}",
            f"{line.median(lambda sample: sample.rows):.1f}", f"{share.ideal:.2f}", f"{100 * share.reached:.0f}",
            f"{100 * share.left:.0f}", f"{line.median(lambda sample: sample.load.p99_ms):.1f}",
            f"{line.median(lambda sample: sample.server_cores):.2f}",
            f"{line.median(lambda sample: sample.behind_cores):.2f}" if line.way.behind else "",
            f"{line.median(lambda sample: sample.load_cores):.2f}",
        ])  # fmt: skip
    head = [
        f"{CALLERS} callers", "requests/s", "x Triton's best", "gain", "rows a call", "ideal gain", "share %",
        "of what the load left %", "p99 ms", "server cores", "behind", "load",
    ]  # fmt: skip
    return tables.markdown(head, rows)


def _targets(found: Found) -> str:
    due: Mapping[str, float] = tables.budgets()["onnx"]
    held = verdicts(found)
    rows = [
        [name, f"{held[name]:.2f}", tables.verdict(aim, held[name], at_most=False)]
        for name, aim in due.items()
        if name in held
    ]
    return tables.markdown(["target", "found", ""], rows)
