"""One run of the wire benchmark, from start to text. What is measured is in the other modules."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.wire import bars, bodies, rates, resources, stall, table, targets, tools
from benchmarks.wire.targets import Target

ROUNDS, QUICK_ROUNDS = 5, 1
SECONDS = 1
"""Of each load: wrk takes whole ones, and many short rounds say more than a few long ones."""

STALL_S, QUICK_STALL_S = 3.0, 1.0


@dataclass(frozen=True)
class Outcome:
    """What ``python -m benchmarks`` prints and writes.

    Attributes:
        text: the tables.
        figures: the same, for ``--json``.
        faults: name and words of what went wrong; empty after a good run.
    """

    text: str
    figures: dict[str, Any]
    faults: list[tuple[str, str]]


def measure(
    quick: bool, progress: Callable[[str], None], chosen: Sequence[Target] = (*targets.LISTENERS, *targets.PROXIES)
) -> Outcome:
    """Start everything, run the rounds, stop everything.

    Args:
        quick: one round; no figures to quote.
        progress: told what happens, in a line.
        chosen: which targets.

    Raises:
        ServerError: a server did not start.
        ToolError: a command is missing, or a load generator failed.
    """
    if absent := tools.missing():
        raise tools.ToolError(absent)
    count, stall_s = (QUICK_ROUNDS, QUICK_STALL_S) if quick else (ROUNDS, STALL_S)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batchproxy-wire-")))
        files = resources.allow_files()
        progress("starting servers")
        made = {name: bodies.write(name, floats, folder) for name, floats in bodies.FLOATS.items()}
        running = targets.start(chosen, folder, stack)
        sizes, faults = targets.ask(chosen, running, made)
        lines = rates.rounds(
            [target for target in chosen if target.name in sizes], running, made, sizes, count, SECONDS, progress
        )
        faults += targets.ask(chosen, running, made)[1]
        faults += [(line.target.name, f"{line.failed} requests failed") for line in lines if line.failed]
        small = made[targets.SMALL]
        stalls = stall.measure(count, stall_s, small, running, folder, progress)
        faults += [fault for each in stalls for fault in each.faults]
        starts = resources.QUICK_STARTS if quick else resources.STARTS
        held = resources.measure(running["upstream"], small, folder, starts, progress)
    found = [
        *bars.of_lines(lines),
        *bars.of_figures(held.figures()),
        *bars.of_figures({bars.STALL.format(case=each.case.name): each.rise_ms for each in stalls}),
    ]
    text = [table.rates(lines), table.stalls(stalls), table.bars(found)]
    if held.connections < resources.CONNECTIONS:
        text.append(f"Idle connections: {held.connections:,}, as this machine allows {files:,} open files; scaled up.")
    figures = {
        "lines": {line.target.name: [asdict(sample) for sample in line.samples] for line in lines},
        "stalls": {each.case.name: asdict(each) for each in stalls},
        "bars": {bar.name: bar.value for bar in found},
    }
    return Outcome("\n\n".join(text), figures, faults)
