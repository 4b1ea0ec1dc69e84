"""docs/runbook.md against the code: every change of state that is logged has a section, and no section is left over."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from batchproxy.events import EVENTS
from tests.packaging.repository import ROOT, sources

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
SAYS = re.compile(r"^Says: (.*)$", re.MULTILINE)
COUNTED = re.compile(r"^Counted: (.*)$", re.MULTILINE)
SAID = [phrase for line in SAYS.findall(RUNBOOK) for phrase in re.findall(r"`([^`]+)`", line)]
WORDS = re.compile(r"[a-z']+ [a-z']+")
"""What a text has that is not put together elsewhere."""

LEVELS = {"info", "warning", "error", "exception"}


def is_logged(call: ast.Call) -> bool:
    """Whether a call tells operators something: ``notice(...)``, ``self._notice(...)``, ``logger.error(...)``."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name) if name.strip("_") == "notice":
            return True
        case ast.Attribute(value=ast.Name(id="logger"), attr=level):
            return level in LEVELS
    return False


def text_of(node: ast.expr) -> str:
    """The constant parts of a text; what is put in is left out."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(text_of(part) for part in parts)
    return ""


@cache
def nodes() -> list[tuple[Path, ast.AST]]:
    """All of the package's code."""
    return [(path, node) for path in sources() for node in ast.walk(ast.parse((ROOT / path).read_text()))]


@cache
def texts() -> list[str]:
    """All texts of it."""
    return [text_of(node) for _, node in nodes() if isinstance(node, ast.Constant | ast.JoinedStr)]


def lines() -> Iterator[tuple[str, str]]:
    """(place, text) of everything that is logged."""
    for path, node in nodes():
        if isinstance(node, ast.Call) and is_logged(node) and node.args:
            text = text_of(node.args[0])
            if WORDS.search(text):
                yield f"{path}:{node.lineno}", text


LINES = sorted(lines())


@pytest.mark.parametrize(("place", "text"), LINES, ids=[place for place, _ in LINES])
def test_what_is_logged_has_a_section(place: str, text: str) -> None:
    """One whose phrase is part of the line; if this fails, write one in docs/runbook.md."""
    assert [phrase for phrase in SAID if phrase in text], f"{place}: docs/runbook.md has no section for {text!r}"


@pytest.mark.parametrize("phrase", SAID)
def test_every_section_is_about_something_that_is_logged(phrase: str) -> None:
    """Its phrase stands in the code."""
    assert any(phrase in text for text in texts())


@pytest.mark.parametrize(("place", "text"), LINES, ids=[place for place, _ in LINES])
def test_what_is_logged_is_counted_as_one_event(place: str, text: str) -> None:
    """R8: a change of state is one line and one metric; if this fails, name it in batchproxy/events.py."""
    found = [event for event, words in EVENTS.items() if any(each in text for each in words)]

    assert 1 == len(found), f"{place}: {text!r} is counted as {found}"


def test_every_section_names_what_is_counted_of_it() -> None:
    """The words of its events are what it says; each event has a section."""
    named = set()
    for section in RUNBOOK.split("\n### ")[1:]:
        said = set(re.findall(r"`([^`]+)`", SAYS.findall(section)[0]))
        events = re.findall(r"`([^`]+)`", COUNTED.findall(section)[0])
        words = {each for event in events for each in EVENTS[event]}
        assert said == words or section.startswith("Rows of a model influence each other"), section
        named |= set(events)

    assert set(EVENTS) == named


def test_every_metric_of_the_runbook_is_one() -> None:
    """By its name in docs/operations.md, which a test holds against the code."""
    names = set(re.findall(r"batchproxy_[a-z_]+", RUNBOOK))

    assert set() == {name for name in names if f"`{name}`" not in (ROOT / "docs" / "operations.md").read_text()}


def test_every_section_says_what_to_do() -> None:
    """And what it means, and what to look at."""
    sections = RUNBOOK.split("\n### ")[1:]

    assert len(sections) == len(SAYS.findall(RUNBOOK)) > 20
    for section in sections:
        for part in ("Says: ", "Counted: ", "**Means.** ", "**Look at.** ", "**Do.** "):
            assert part in section, section
