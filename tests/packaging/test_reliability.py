"""docs/reliability.md names tests that exist, and leaves no fault out. Its text is compared in test_readme.py."""

from __future__ import annotations

import ast

import pytest

from tests.faults import test_faults
from tests.faults.script import Fault
from tests.faults.table import ALWAYS, APART, DOES, OTHERS, cases, protocols_of
from tests.packaging.repository import ROOT


def _tests_of(name: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / "faults" / name).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_fault_by_every_protocol_is_tested() -> None:
    """Both tests of test_faults.py take each line of the page, and there is no line without a fault."""
    lines = [(protocol, fault) for fault in Fault if fault not in APART for protocol in protocols_of(fault)]

    assert sorted(lines, key=str) == sorted(cases(), key=str) == sorted(test_faults.CASES, key=str)
    assert {"test_once", "test_always"} <= _tests_of("test_faults.py")


def test_every_fault_has_its_words() -> None:
    """What the proxy does is said of each fault, and what callers see only by protocols that can have it."""
    assert set(Fault) == set(DOES)
    assert all(set(found) == set(protocols_of(fault)) or fault is Fault.TWICE for fault, found in ALWAYS.items())


@pytest.mark.parametrize("test", [test for *_, test in OTHERS])
def test_tests_of_the_page_exist(test: str) -> None:
    """Those that the page names one by one."""
    file, _, name = test.partition("::")

    assert name in _tests_of(file)
