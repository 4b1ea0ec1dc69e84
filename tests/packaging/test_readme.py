"""What the README and the other pages say is so: commands exist, examples run, links lead somewhere."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.http2_errors import ELSEWHERE
from tests.packaging.generated_docs import PAGES
from tests.packaging.pages import MAKE_IN_SHELL, Block, blocks, dead_links, make_commands, make_targets, pages
from tests.packaging.repository import ROOT


def test_readme_begins_with_what_a_bare_machine_lacks() -> None:
    """The first line names what must be installed before anything else works."""
    first = (ROOT / "README.md").read_text().partition("\n")[0]

    assert "`make`" in first
    assert "`python3-venv`" in first


@pytest.mark.parametrize("page", pages(), ids=str)
def test_commands_of_a_page_exist(page: Path) -> None:
    """Every ``make`` command that a page shows is one of the Makefile's."""
    assert set() == make_commands((ROOT / page).read_text()) - make_targets()


def test_readme_shows_the_two_commands() -> None:
    """Whoever reads only the README knows how to see it work and how to check it."""
    assert {"demo", "test"} <= make_commands((ROOT / "README.md").read_text())


def test_make_lists_its_commands() -> None:
    """``make`` alone prints every target and makes nothing."""
    listing = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, check=True, capture_output=True, text=True)

    assert make_targets() == set(re.findall(r"^  ([a-z]+) ", listing.stdout, re.MULTILINE))


def test_ci_runs_the_command_of_the_readme() -> None:
    """.ci/run ends in ``make test``, and calls no other target."""
    script = (ROOT / ".ci" / "run").read_text()

    assert ["test"] == MAKE_IN_SHELL.findall(script)


@pytest.mark.parametrize("page", pages(), ids=str)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    """Every link to a file of the repository leads to one."""
    assert [] == dead_links(page, (ROOT / page).read_text())


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_example_runs(block: Block) -> None:
    """Every Python example runs by itself and ends well, with warnings as errors."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", block.text], capture_output=True, text=True, env=environment, check=False
    )

    assert (0, "") == (result.returncode, result.stderr)


def _batchproxy_commands() -> list[str]:
    lines = [line for block in blocks("sh") for line in block.text.splitlines()]
    return [line for line in lines if line.startswith("batchproxy ")]


@pytest.mark.parametrize("line", _batchproxy_commands())
def test_flags_of_an_example_exist(line: str) -> None:
    """Every flag of a ``batchproxy`` command in an ``sh`` block is in that command's help."""
    command, *words = shlex.split(line, comments=True)[1:]
    shown = subprocess.run(
        [sys.executable, "-m", "batchproxy", command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert [] == [word for word in words if word.startswith("--") and word.partition("=")[0] not in shown]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_page_is_in_sync(page: Path) -> None:
    """It says what its table says; ``make docs`` writes it again."""
    assert PAGES[page]() == page.read_text()


@pytest.mark.parametrize(("case", "answer", "test"), ELSEWHERE, ids=[case for case, _, _ in ELSEWHERE])
def test_tests_of_http2_errors_exist(case: str, answer: str, test: str) -> None:
    """Those that the page names one by one; the others are made from the table itself."""
    file, *names = test.split("::")
    tree: ast.AST = ast.parse((ROOT / file).read_text())
    for name in names:
        (tree,) = (
            node for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name
        )

    assert isinstance(tree, ast.FunctionDef)


def test_dead_link_is_found() -> None:
    """A link to nothing is found; one to a file, an address or inside a code block is not."""
    text = "[a](nothing.md) [b](README.md#two-commands) [c](https://x.org/y)\n```sh\n[d](code.md)\n```\n"

    assert ["nothing.md"] == dead_links(Path("README.md"), text)
