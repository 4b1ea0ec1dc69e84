"""The public names are the documented ones, each is there, and the version is one."""

from __future__ import annotations

import re
import tomllib

import batchproxy
from tests.packaging.repository import PACKAGE, ROOT


def _documented() -> list[str]:
    section = (ROOT / "docs" / "library.md").read_text().partition("## Names")[2]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_public_names_are_the_documented_ones() -> None:
    """docs/library.md lists exactly what ``batchproxy.__all__`` does, each name once."""
    assert sorted(batchproxy.__all__) == sorted(_documented())


def test_public_names_are_there() -> None:
    """Every public name can be had, and is documented, unless it is a plain value."""
    undocumented = [
        name
        for name in batchproxy.__all__
        if name != "__version__" and not (getattr(batchproxy, name).__doc__ or "").strip()
    ]

    assert [] == undocumented


def test_version_is_the_project_s() -> None:
    """The package says the same version as pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["version"] == batchproxy.__version__


def test_types_are_for_users_too() -> None:
    """The marker that lets a user's type checker read our annotations is there."""
    assert (PACKAGE / "py.typed").is_file()
