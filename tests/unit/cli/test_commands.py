"""The command line as a whole: the command is found, and every fault is one line on stderr and exit status 2."""

from __future__ import annotations

import argparse
import subprocess
import sys
import types
from collections.abc import Callable

import pytest

import batchproxy
from batchproxy.cli import main
from batchproxy.cli.commands import COMMANDS


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line: exit status, stdout, stderr."""

    def run(*argv: str) -> tuple[int, str, str]:
        status = main(argv)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], "no command is given; one of: serve, check, demo, explain, simulate. See batchproxy --help"),
        (["srve"], "unknown command 'srve'; did you mean 'serve'?"),
        (["xyz"], "unknown command 'xyz'; one of: serve, check, demo, explain, simulate"),
        (
            ["--port", "1"],
            "unknown flag --port before the command; the command comes first: batchproxy serve --port ...",
        ),
        (["serve", "--prot=1"], "unknown flag --prot; did you mean '--port'?; see batchproxy serve --help"),
        (
            ["serve", "--rest-api-port", "1"],
            "unknown flag --rest-api-port; did you mean '--rest_api_port'?; see batchproxy serve --help",
        ),
        (
            ["serve", "--grpc_max_thread=1"],
            "unknown flag --grpc_max_thread; did you mean '--grpc_max_threads'?; see batchproxy serve --help",
        ),
        (["serve", "--zzzzz"], "unknown flag --zzzzz; check its name; see batchproxy serve --help"),
        (
            ["serve", "--max_batch", "1"],
            "unknown flag --max_batch; did you mean '--max_batch_rows'?; see batchproxy serve --help",
        ),
        (["serve", "x"], "unexpected argument 'x'; see batchproxy serve --help"),
        (["serve", "--port"], "--port: expected one argument; see batchproxy serve --help"),
        (["check"], "the following arguments are required: FILE; see batchproxy check --help"),
    ],
)
def test_faults_are_one_line_and_status_2(
    say: Callable[..., tuple[int, str, str]], argv: list[str], expected: str
) -> None:
    """What is wrong, and the nearest name that would be right; nothing on stdout."""
    assert (2, "", f"batchproxy: error: {expected}\n") == say(*argv)


@pytest.mark.parametrize("flag", ["-h", "--help", "help"])
def test_help_names_every_command(say: Callable[..., tuple[int, str, str]], flag: str) -> None:
    """With a line for each, and examples."""
    status, out, err = say(flag)

    assert (0, "") == (status, err)
    assert all(f"  {name:<10}{text}" in out for name, text in COMMANDS.items())


@pytest.mark.parametrize("command", ["serve", "check", "explain", "simulate"])
def test_help_of_a_command(say: Callable[..., tuple[int, str, str]], command: str) -> None:
    """Ends with examples, status 0."""
    status, out, err = say(command, "--help")

    assert (0, "") == (status, err)
    assert f"  batchproxy {command} " in out


def test_version(say: Callable[..., tuple[int, str, str]]) -> None:
    """The package's; TF Serving's own flag gives the same."""
    expected = (0, f"batchproxy {batchproxy.__version__}\n", "")

    assert expected == say("--version")
    assert expected == say("serve", "--version")


def command(run: Callable[[argparse.Namespace], int]) -> types.SimpleNamespace:
    """A command's module, as a fake."""
    return types.SimpleNamespace(
        add_arguments=lambda parser: parser.add_argument("--once", action="store_true"), run=run
    )


def test_a_command_is_imported_when_called(
    monkeypatch: pytest.MonkeyPatch, say: Callable[..., tuple[int, str, str]]
) -> None:
    """Its module gets the parser and the arguments, and its status is the process's."""
    fake = command(lambda args: 7 if args.once else 1)
    monkeypatch.setitem(sys.modules, "batchproxy.cli.demo", fake)

    assert (7, "", "") == say("demo", "--once")


def test_control_c_has_the_shells_status(
    monkeypatch: pytest.MonkeyPatch, say: Callable[..., tuple[int, str, str]]
) -> None:
    """128 + SIGINT, and no traceback."""

    def interrupted(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "batchproxy.cli.demo", command(interrupted))

    assert (130, "", "") == say("demo")


def test_as_a_module_and_from_this_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m batchproxy` is the same command, and `main()` reads the process's own arguments."""
    found = subprocess.run([sys.executable, "-m", "batchproxy", "srve"], capture_output=True, text=True, check=False)
    monkeypatch.setattr(sys, "argv", ["batchproxy", "srve"])

    assert (2, "", "batchproxy: error: unknown command 'srve'; did you mean 'serve'?\n") == (
        found.returncode,
        found.stdout,
        found.stderr,
    )
    assert 2 == main()
    assert found.stderr == capsys.readouterr().err
