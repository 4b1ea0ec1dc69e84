"""``batchproxy demo``: its flags. What it shows is ``batchproxy.demo``'s business."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from batchproxy.core.errors import ConfigError

EPILOG = """\
Needs the extra `demo`: pip install 'batchproxy[demo]'. Afterwards the proxy serves on until Ctrl-C.
Exit status: 0; 1 if an answer was wrong or a request was lost."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.epilog = EPILOG
    parser.add_argument("--once", action="store_true", help="end after the table, and use free ports")
    parser.add_argument(
        "--callers", type=_callers, default=256, metavar="N", help="callers at once, half REST, half gRPC (default 256)"
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=3.0, metavar="S", help="of traffic for each model, twice (default 3)"
    )


def run(args: argparse.Namespace) -> int:
    """Show the demo and return the exit status.

    Raises:
        ConfigError: a package that it needs is missing.
    """
    missing = [package for package in ("onnx", "onnxruntime") if find_spec(package) is None]
    if missing:
        raise ConfigError(f"the demo needs {' and '.join(missing)}: pip install 'batchproxy[demo]'")
    from batchproxy.demo.show import show  # noqa: PLC0415 - imports what was just looked for

    return show(once=args.once, callers=args.callers, seconds=args.seconds)


def _callers(text: str) -> int:
    if not text.isdecimal() or not 2 <= int(text) <= 4096:
        raise argparse.ArgumentTypeError(f"expected a whole number from 2 (one REST, one gRPC) to 4096, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"expected seconds, above 0 and up to 3600, got {text!r}")
    return value
