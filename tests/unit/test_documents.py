"""Files as plain data: every way a file can be unreadable is one line with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy import documents
from batchproxy.core.errors import ConfigError


def fault(path: Path) -> str:
    """What reading the file says, without the path."""
    with pytest.raises(ConfigError) as caught:
        documents.read(path)
    assert "\n" not in caught.value.message
    return caught.value.message.removeprefix(str(path))


@pytest.mark.parametrize(
    ("name", "text"), [("a.yaml", "a: [1, x]\n"), ("a.json", '{"a": [1, "x"]}'), ("a", "{a: [1, x]}")]
)
def test_yaml_and_json(tmp_path: Path, name: str, text: str) -> None:
    """Both languages give the same data; a byte order mark is skipped."""
    (tmp_path / name).write_text("\ufeff" + text, encoding="utf-8")

    assert {"a": [1, "x"]} == documents.read(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ": the file is empty; configs/minimal.yaml shows the least that is needed"),
        ("# nothing\n", ": the file is empty; configs/minimal.yaml shows the least that is needed"),
        ("a: 1\nb: 2\na: 3\n", ":3:1: not valid YAML: the key 'a' is given twice; keep one"),
        ("m:\n - {x: 1, x: 2}\n", ":2:11: not valid YAML: the key 'x' is given twice; keep one"),
        ("a: [", ":1:5: not valid YAML: expected the node content, but found '<stream end>'"),
        ("a: *b\n", ":1:4: not valid YAML: found undefined alias 'b'"),
        ("? [1]\n: 2\n", ":1:3: not valid YAML: found unhashable key"),
        ("a: 1\nb: \x01\n", ":2: not valid YAML: special characters are not allowed ('\\x01')"),
        ("a: 2020-13-45\n", ": month must be in 1..12"),
        ("[" * 500, ": nested too deeply to be a configuration"),
    ],
)
def test_bad_yaml(tmp_path: Path, text: str, expected: str) -> None:
    """Syntax errors have line and column, a key given twice among them."""
    path = tmp_path / "a.yaml"
    path.write_text(text)

    assert expected == fault(path)


def test_python_objects_are_not_made(tmp_path: Path) -> None:
    """The loader is the safe one."""
    path = tmp_path / "a.yaml"
    path.write_text("a: !!python/object/apply:os.getcwd []\n")

    assert fault(path).startswith(":1:4: not valid YAML: could not determine a constructor")


def test_merge_keys_are_no_duplicates(tmp_path: Path) -> None:
    """A key that overrides a merged one is what merging is for, at whatever depth."""
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, y: 3}\n")

    assert {"x": 2, "y": 3} == documents.read(path)["c"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ": the file is empty; configs/minimal.yaml shows the least that is needed"),
        ("null", ": the file is empty; configs/minimal.yaml shows the least that is needed"),
        ('{"a":\n }', ":2:2: not valid JSON: Expecting value"),
        ('{"a": 1, "a": 1}', ": the key 'a' is given twice; keep one"),
    ],
)
def test_bad_json(tmp_path: Path, text: str, expected: str) -> None:
    """As in YAML; a key given twice has no line here."""
    path = tmp_path / "a.json"
    path.write_text(text)

    assert expected == fault(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a folder, not UTF-8, and a path that is none; a missing file has its neighbour suggested."""
    (tmp_path / "proxy.yaml").write_bytes(b"a: \xff")
    neighbour = f": no such file; did you mean {str(tmp_path / 'proxy.yaml')!r}?"

    assert ": no such file; check the path" == fault(tmp_path / "nowhere" / "x.yaml")
    assert neighbour == fault(tmp_path / "proxy.yml")
    assert ": this is a folder; name a YAML or JSON file in it" == fault(tmp_path)
    assert ": not UTF-8 text (byte 3); save it as UTF-8" == fault(tmp_path / "proxy.yaml")
    assert ": cannot be read: Not a directory" == fault(tmp_path / "proxy.yaml" / "x")
    with pytest.raises(ConfigError, match="cannot be read: embedded null byte"):
        documents.read("a\0b")


@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    """Whatever breaks a text holds, it comes out as one line."""
    assert len(documents.one_line(text).splitlines()) <= 1


def test_nearest() -> None:
    """A near word is suggested, else the caller's own advice given."""
    assert "did you mean 'pool'?" == documents.nearest("pol", ["name", "pool"], "none")
    assert "none" == documents.nearest("xyz", ["name", "pool"], "none")
