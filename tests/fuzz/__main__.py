"""``make fuzz``: every target in turn, with new examples each time, until the time is up. Ends with 1 if one fails."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings

from tests.fuzz.client_targets import CLIENT
from tests.fuzz.codec_targets import CODECS
from tests.fuzz.server_targets import SERVERS
from tests.fuzz.v2_targets import V2
from tests.fuzz.wire_targets import WIRE

TARGETS: tuple[Callable[..., Any], ...] = (*WIRE, *CLIENT, *CODECS, *V2)
"""Those that need nothing but themselves: the smoke test runs them, too."""

ALL = (*TARGETS, *SERVERS)

ROUND = 200
"""Examples between two looks at the clock."""

FUZZING = settings(
    max_examples=ROUND,
    derandomize=False,
    deadline=None,
    database=None,
    print_blob=True,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def fuzz(target: Callable[..., Any], seconds: float) -> int:
    """Run one target for so long; returns the number of examples.

    Raises:
        Exception: what the target raised, with the smallest example that was found.
    """
    end = time.monotonic() + seconds
    run, examples = FUZZING(target), 0
    while time.monotonic() < end:
        run()
        examples += ROUND
    return examples


def main(arguments: list[str]) -> int:
    """Run all targets, or those named."""
    names = [target.__name__ for target in ALL]
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="in all; 60 unless given")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(names)}; all unless given")
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - set(names):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    chosen = [target for target in ALL if not options.targets or target.__name__ in options.targets]
    failed = 0
    for target in chosen:
        try:
            examples = fuzz(target, options.seconds / len(chosen))
        except Exception:
            failed += 1
            print(f"{target.__name__}: FAILED")
            traceback.print_exc()
        else:
            print(f"{target.__name__}: {examples} examples or more", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
