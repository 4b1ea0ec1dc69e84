"""The examples in our docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.packaging import import_rules
from tests.packaging.repository import sources

MODULES = [
    ".".join(path.with_suffix("").parts) for path in sources() if path.name not in {"__main__.py", "__init__.py"}
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    """Every example in the module's docstrings gives the answer that stands below it."""
    result = doctest.testmod(importlib.import_module(name))

    assert 0 == result.failed


def test_docstring_examples_of_the_import_rules() -> None:
    """As above, for the helper that has examples of its own."""
    result = doctest.testmod(import_rules)

    assert (0, 1) == (result.failed, result.attempted)
