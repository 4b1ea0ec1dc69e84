"""Finds the command, reads its arguments, turns faults into one line and exit status 2. No command's work is done here.

A command is a module of this package with ``add_arguments(parser)`` and ``run(args) -> int``; it is imported
when it is called, so that ``check`` does not pay for what ``serve`` needs.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from batchproxy import __version__
from batchproxy.core.errors import ConfigError
from batchproxy.documents import nearest

COMMANDS = {
    "serve": "serve models, batching their requests",
    "check": "check a configuration file without serving it",
    "demo": "serve the built-in models, send them real traffic, print what batching gains",
    "explain": "say in sentences what a running proxy learned, and why batches leave when they do",
    "simulate": "show in simulated time how batching would do, beside other rules",
}

_HELP = """\
A batching proxy for model servers: single requests in, full batches out, every answer as if asked alone.

usage: batchproxy COMMAND ...
       batchproxy COMMAND --help
       batchproxy --version

{commands}

examples:
  batchproxy demo
  batchproxy serve --backend grpc://tf:8500,http://tf:8501
  batchproxy serve --model digits=onnx:models/digits
  batchproxy serve --config batchproxy.yaml
  batchproxy check batchproxy.yaml

exit status: 0; 1 if requests had to be dropped at the end; 2 if a flag or a file is wrong."""


class Parser(argparse.ArgumentParser):
    """argparse, but a fault is a ``ConfigError`` that suggests the nearest flag, and no flag may be shortened."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.removeprefix('argument ')}; see {self.prog} --help")

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Read a command's arguments.

        Raises:
            ConfigError: what is wrong with which argument.
        """
        args, unknown = self.parse_known_args(argv)
        if unknown:
            name = unknown[0].partition("=")[0]
            if not name.startswith("-"):
                self.error(f"unexpected argument {name!r}")
            shown = [
                flag for action in self._actions if action.help != argparse.SUPPRESS for flag in action.option_strings
            ]
            hidden = [flag for action in self._actions for flag in action.option_strings]
            self.error(f"unknown flag {name}; {nearest(name, shown, nearest(name, hidden, 'check its name'))}")
        return args


def version() -> str:
    """As ``--version`` prints it."""
    return f"batchproxy {__version__}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (default: this process's) and return its exit status.

    Example:
        >>> main(["check", "/nowhere.yaml"])
        2
    """
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except ConfigError as error:
        print(f"batchproxy: error: {' '.join(error.message.split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130  # as a shell has it: 128 + SIGINT


def _run(argv: list[str]) -> int:
    name = argv[0] if argv else ""
    known = ", ".join(COMMANDS)
    if name in {"-h", "--help", "help"}:
        print(_HELP.format(commands="\n".join(f"  {command:<10}{text}" for command, text in COMMANDS.items())))
        return 0
    if name == "--version":
        print(version())
        return 0
    if not name:
        raise ConfigError(f"no command is given; one of: {known}. See batchproxy --help")
    if name.startswith("-"):
        raise ConfigError(
            f"unknown flag {name} before the command; the command comes first: batchproxy serve {name} ..."
        )
    if name not in COMMANDS:
        raise ConfigError(f"unknown command {name!r}; {nearest(name, COMMANDS, f'one of: {known}')}")
    command: Any = importlib.import_module(f"batchproxy.cli.{name}")
    parser = Parser(prog=f"batchproxy {name}", description=COMMANDS[name])
    command.add_arguments(parser)
    try:
        args = parser.parse(argv[1:])
    except SystemExit:
        return 0  # --help was printed
    status: int = command.run(args)
    return status
