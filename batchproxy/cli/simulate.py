"""``batchproxy simulate``: its flags, and the table that it prints. The worlds are ``batchproxy.simulation``'s."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from batchproxy.core.errors import ConfigError
from batchproxy.simulation import report
from batchproxy.simulation.log import Figures
from batchproxy.simulation.oracle import best, means
from batchproxy.simulation.scenario import SHAPES, Backend, Scenario, ours, rivals, theirs

EPILOG = """\
Simulates a server whose workers each take alpha + beta * rows for a batch, and lets the scheduler of this
version batch requests of one row for it, beside other rules and beside the best static setting for
this very load, which is found by trying them all. Nothing is sent anywhere, and no time passes.

example: a server with 4 workers, 8 ms a call and 0.25 ms a row, at 30, 70 and 95 % of its capacity:
  batchproxy simulate --lanes 4 --alpha_ms 8 --beta_ms 0.25 --load 30 70 95"""

MAX_REQUESTS = 20_000_000
"""Of all runs together: about ten minutes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.epilog = EPILOG
    add = parser.add_argument
    positive, notnegative = _number("a number above 0", above=0.0), _number("a number of at least 0", least=0.0)
    add("--lanes", type=_whole(1, 64), default=4, metavar="N", help="workers of the server (default 4)")
    add("--alpha_ms", type=notnegative, default=8.0, metavar="MS", help="of a batch without rows (default 8)")
    add("--beta_ms", type=notnegative, default=0.25, metavar="MS", help="of each row (default 0.25)")
    add("--rtt_ms", type=notnegative, default=1.0, metavar="MS", help="round trip to the server (default 1)")
    add("--noise", type=notnegative, default=0.08, metavar="SIGMA", help="of the log of a batch's time (default 0.08)")
    add("--load", type=positive, nargs="+", metavar="PERCENT", help="of the server's capacity (default 10 50 90)")
    add("--rate", type=positive, nargs="+", metavar="R", help="requests a second, instead of --load")
    add("--arrivals", choices=list(SHAPES), default="poisson", help="how requests come (default poisson)")
    add("--duration", type=positive, default=10.0, metavar="S", help="seconds of requests in a run (default 10)")
    add("--seeds", type=_whole(1, 100), default=2, metavar="N", help="runs of each line (default 2)")
    add("--slo_ms", type=positive, metavar="MS", help="callers wait so long; shows how many are answered in it")
    add("--max_batch_rows", type=_whole(1, 1024), default=32, metavar="N", help="rows of a batch (default 32)")


def run(args: argparse.Namespace) -> int:
    """Print a table for each load and return 0.

    Raises:
        ConfigError: flags that do not go together, or more requests than can be simulated in minutes.
    """
    if args.load and args.rate:
        raise ConfigError("--load and --rate say the same in two ways; give one of them")
    if not args.alpha_ms + args.beta_ms:
        raise ConfigError("--alpha_ms and --beta_ms are both 0: a server that takes no time has no capacity")
    alpha_s, beta_s, rtt_s = args.alpha_ms / 1000, args.beta_ms / 1000, args.rtt_ms / 1000
    backend = Backend("", args.lanes, alpha_s, beta_s, args.duration, rtt_s, args.noise)
    rows = args.max_batch_rows
    capacity = backend.capacity(rows)
    loads = [rate / capacity for rate in args.rate] if args.rate else [load / 100 for load in args.load or (10, 50, 90)]
    slo_s = (args.slo_ms or 0.0) / 1000
    scenarios = [Scenario(backend, load, args.arrivals, max_rows=rows, objective_s=slo_s) for load in loads]
    requests = sum(scenario.rate * scenario.horizon_s for scenario in scenarios) * args.seeds
    if requests > MAX_REQUESTS:
        raise ConfigError(
            f"that is {requests:,.0f} requests, and at most {MAX_REQUESTS:,} are simulated: "
            "lower --duration, --seeds, --load or --rate"
        )
    cost = f"({args.alpha_ms:g} + {args.beta_ms:g} * rows) ms"
    print(f"{args.lanes} x {cost}: at most {capacity:,.0f} rows/s in batches of {rows}")
    for scenario in scenarios:
        print(f"\n{scenario.name}, {scenario.rate:,.0f} requests/s\n")
        print(_table(scenario, range(1, args.seeds + 1)))
    return 0


def _table(scenario: Scenario, seeds: range) -> str:
    requests = {seed: scenario.requests(seed) for seed in seeds}
    setting = best(means(scenario, seeds, requests))
    objective_s = scenario.objective_s
    found: dict[str, list[Figures]] = {
        "batchproxy": [ours(scenario, seed, requests=requests[seed]).figures(objective_s) for seed in seeds]
    }
    makers = {f"best static: {setting}": lambda seed: setting.rival(scenario.max_rows)}
    for name, make in {**makers, **rivals(scenario.max_rows, objective_s)}.items():
        runs = [theirs(make(seed), scenario, seed, requests=requests[seed]) for seed in seeds]
        found[name] = [run.figures(objective_s) for run in runs]
    return report.contenders_table(found, goodput=bool(objective_s))


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, got {text!r}")
        return int(text)

    return read


def _number(expected: str, *, least: float = -math.inf, above: float = -math.inf) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (least <= value < math.inf and value > above):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return value

    return read
