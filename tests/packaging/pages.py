"""Reads our Markdown pages: their links, their fenced blocks, their commands. Judges nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.packaging.repository import ROOT

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
MAKE_IN_PROSE = re.compile(r"`make ([a-z]+)")
MAKE_IN_SHELL = re.compile(r"^(?:exec )?make ([a-z]+)", re.MULTILINE)
TARGET = re.compile(r"^([a-z]+):.*##", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Args:
        page: its page, relative to the root.
        number: which one of its page, from 1.
        language: the word after the fence.
        text: what it holds.
    """

    page: str
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"


def pages() -> list[Path]:
    """Every page of ours, relative to the root."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "changelog.d").glob("*.md")]
    return sorted(path.relative_to(ROOT) for path in found)


def blocks(language: str) -> list[Block]:
    """Every fenced block in one language."""
    return [
        Block(str(page), number, match[1], match[2])
        for page in pages()
        for number, match in enumerate(FENCE.finditer((ROOT / page).read_text()), 1)
        if match[1] == language
    ]


def dead_links(page: Path, text: str) -> list[str]:
    """The links of a page to files that are not there."""
    links = [link.partition("#")[0] for link in LINK.findall(FENCE.sub("", text))]
    return [link for link in links if link and "://" not in link and not (ROOT / page.parent / link).exists()]


def make_commands(page: str) -> set[str]:
    """The targets of every ``make ...`` that a page tells its reader to type."""
    shell = (match[2] for match in FENCE.finditer(page) if match[1] == "sh")
    return set(MAKE_IN_PROSE.findall(page)).union(*(MAKE_IN_SHELL.findall(text) for text in shell))


def make_targets() -> set[str]:
    """The targets that ``make`` lists."""
    return set(TARGET.findall((ROOT / "Makefile").read_text()))
