"""Every source file has its test file of the same name, and every test file its source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.packaging.repository import PACKAGE, ROOT, sources

UNIT = Path("tests/unit")

EXEMPT = {
    "batchproxy/__main__.py": "one line; the end-to-end tests start the program through it",
    "batchproxy/_version.py": "one constant, compared with pyproject.toml in tests/packaging",
    "batchproxy/backends/base.py": "a Protocol: there is nothing to run",
    "batchproxy/core/raw.py": "two records: there is nothing to run",
    "batchproxy/observe.py": "a Protocol, and an observer that does nothing",
}


def _only_re_exports(source: str) -> bool:
    """Whether a file holds nothing but a docstring, imports and the names it passes on."""
    for node in ast.parse(source).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        names = isinstance(node, ast.Assign) and all(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        )
        if not (docstring or names or isinstance(node, ast.Import | ast.ImportFrom)):
            return False
    return True


def twin(source: Path) -> Path:
    """Where the tests of a source file are.

    An ``__init__.py`` with code in it is tested by ``test_PACKAGE_init.py``.
    """
    inner = source.relative_to("batchproxy")
    name = f"{source.parent.name}_init" if source.name == "__init__.py" else source.stem
    return UNIT / inner.parent / f"test_{name}.py"


def _needs_twin(source: Path) -> bool:
    if str(source) in EXEMPT:
        return False
    return source.name != "__init__.py" or not _only_re_exports((ROOT / source).read_text())


@pytest.mark.parametrize("source", [source for source in sources() if _needs_twin(source)], ids=str)
def test_source_has_its_test_file(source: Path) -> None:
    """The file of tests that belongs to a source file exists and has tests in it."""
    tests = ROOT / twin(source)

    assert tests.is_file()
    assert "def test_" in tests.read_text()


def test_test_files_have_their_source() -> None:
    """No test file under tests/unit is left over from a source file that was renamed or removed.

    A source may have several: ``test_lane_quarantine.py`` belongs to ``lane.py``. Generated files may have one.
    """
    files = (path.relative_to(ROOT) for path in PACKAGE.rglob("*.py"))
    expected = {str(twin(source)).removesuffix(".py") for source in files}
    found = {str(path.relative_to(ROOT)).removesuffix(".py") for path in (ROOT / UNIT).rglob("test_*.py")}

    assert set() == {name for name in found if not any(name == e or name.startswith(e + "_") for e in expected)}


def test_exemptions_are_needed() -> None:
    """Every exempt file exists and really has no test file."""
    assert [] == [name for name in EXEMPT if not (ROOT / name).is_file() or (ROOT / twin(Path(name))).is_file()]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("batchproxy/core/lane.py", "tests/unit/core/test_lane.py"),
        ("batchproxy/app.py", "tests/unit/test_app.py"),
        ("batchproxy/codecs/_dtypes.py", "tests/unit/codecs/test__dtypes.py"),
        ("batchproxy/backends/__init__.py", "tests/unit/backends/test_backends_init.py"),
    ],
)
def test_twin_names(source: str, expected: str) -> None:
    """The rule of names, by example."""
    assert Path(expected) == twin(Path(source))


def test_re_exports_are_told_from_code() -> None:
    """An ``__init__.py`` with a function or a table in it is code."""
    assert _only_re_exports('"""Doc."""\nfrom a import b as b\n__all__ = ["b"]\n')
    assert not _only_re_exports("TABLE = {}\n")
    assert not _only_re_exports("def f(): ...\n")
