"""The package's own names: there when asked for, and not before."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import batchproxy


def declared() -> dict[str, Any]:
    """Name to value, by the imports that type checkers read."""
    tree = ast.parse(Path(batchproxy.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {
        alias.name: getattr(import_module(node.module), alias.name)
        for node in imports
        if node.module is not None and node.module.startswith("batchproxy")
        for alias in node.names
    }


def test_what_is_imported_late_is_what_type_checkers_see() -> None:
    """Every public name, and no other."""
    assert declared() == {name: getattr(batchproxy, name) for name in batchproxy.__all__}


def test_a_name_is_imported_once() -> None:
    """From then on it is a plain attribute."""
    client = batchproxy.Client

    assert client is vars(batchproxy)["Client"]


def test_a_name_that_is_not_there() -> None:
    """An AttributeError in Python's words, for modules' own names, too."""
    with pytest.raises(AttributeError, match="module 'batchproxy' has no attribute 'Klient'"):
        _ = getattr(batchproxy, "Klient")  # noqa: B009 - type checkers know that it is not there
    with pytest.raises(ImportError, match="cannot import name 'Klient'"):
        exec("from batchproxy import Klient")  # noqa: S102 - as above


def test_what_an_interpreter_may_complete() -> None:
    """Names that were not used yet are listed."""
    assert set(batchproxy.__all__) <= set(dir(batchproxy))


def test_the_package_alone_is_next_to_nothing() -> None:
    """A fresh interpreter has imported one module of ours beside it, and neither numpy nor asyncio."""
    script = "import json, sys; import batchproxy; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    modules = json.loads(done.stdout)

    assert ["batchproxy", "batchproxy._version"] == sorted(name for name in modules if name.startswith("batchproxy"))
    assert not {"asyncio", "numpy"} & set(modules)
