"""Tests of ``batchproxy.cli.demo``: flags, and what is missing."""

from __future__ import annotations

from typing import Any

import pytest

from batchproxy.cli import demo, main
from batchproxy.demo import show


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the demo would be called with; it ends with status 7."""
    calls: list[dict[str, Any]] = []

    def fake(**arguments: Any) -> int:
        calls.append(arguments)
        return 7

    monkeypatch.setattr(show, "show", fake)
    return calls


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], {"once": False, "callers": 256, "seconds": 3.0}),
        (["--once", "--callers=300", "--seconds", "0.5"], {"once": True, "callers": 300, "seconds": 0.5}),
    ],
)
def test_flags(shown: list[dict[str, Any]], flags: list[str], expected: dict[str, Any]) -> None:
    """They reach the demo, and its status is ours."""
    assert 7 == main(["demo", *flags])
    assert [expected] == shown


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--callers=1"], "--callers: expected a whole number from 2"),
        (["--callers=many"], "got 'many'"),
        (["--seconds=0"], "--seconds: expected seconds, above 0 and up to 3600, got '0'"),
        (["--seconds=nan"], "got 'nan'"),
        (["--seconds=long"], "got 'long'"),
        (["--twice"], "unknown flag --twice"),
    ],
)
def test_wrong_flags(
    shown: list[dict[str, Any]], flags: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the flag, and exit status 2."""
    assert 2 == main(["demo", *flags])
    assert text in capsys.readouterr().err
    assert [] == shown


def test_missing_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the extra, the line to type is told."""
    monkeypatch.setattr(demo, "find_spec", lambda name: None)

    assert 2 == main(["demo"])
    assert "the demo needs onnx and onnxruntime: pip install 'batchproxy[demo]'" in capsys.readouterr().err
