"""`batchproxy check`: reads a configuration and looks for what it names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from batchproxy.cli import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with an ONNX folder, an ONNX file and a Python module in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "models_of_check", raising=False)
    (tmp_path / "digits" / "3").mkdir(parents=True)
    (tmp_path / "digits" / "3" / "model.onnx").touch()
    (tmp_path / "half.onnx").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "models_of_check.py").write_text(
        "def predict(inputs): return inputs\nboth = {'a': predict}\nnumber = 3\n"
    )
    (tmp_path / "broken_of_check.py").write_text("1 / 0\n")
    return tmp_path


def config(*endpoints: str) -> None:
    """Write a.yaml with one pool and two models."""
    shown = ", ".join(f"'{endpoint}'" for endpoint in endpoints)
    Path("a.yaml").write_text(
        f"pools: [{{name: p, endpoints: [{shown}]}}]\nmodels: [{{name: m, pool: p}}, {{name: n, pool: p}}]\n"
    )


def test_a_good_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files, folders of versions, functions and mappings of functions in the current directory are found."""
    config("onnx:digits", "onnx:half.onnx", "python:models_of_check:predict", "python:models_of_check:both")

    assert 0 == main(["check", "a.yaml"])
    assert "a.yaml: ok (1 pool, 2 models)\n" == capsys.readouterr().out


@pytest.mark.parametrize(
    ("endpoint", "what"),
    [
        ("onnx:nowhere", "no such file or folder"),
        ("onnx:empty", "model.onnx"),
        ("python:nowhere_of_check:f", "there is no module 'nowhere_of_check'"),
        ("python:broken_of_check:f", "ZeroDivisionError"),
        ("python:models_of_check:nothing", "has no 'nothing'"),
        ("python:models_of_check:number", "wanted a function"),
    ],
)
def test_what_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str], endpoint: str, what: str) -> None:
    """One line: the file, the endpoint's path in it, and what is missing."""
    config("onnx:digits", endpoint)
    status = main(["check", "a.yaml"])
    captured = capsys.readouterr()

    assert (2, "") == (status, captured.out)
    assert captured.err.startswith("batchproxy: error: a.yaml: $.pools[0].endpoints[1]: ")
    assert what in captured.err
    assert 1 == captured.err.count("\n")


def test_servers_are_not_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only how their addresses are written is checked; nobody listens there."""
    config("grpc://127.0.0.1:1,http://127.0.0.1:2", "grpc://unix:/nowhere.sock")

    assert 0 == main(["check", "a.yaml"])
    assert "a.yaml: ok (1 pool, 2 models)\n" == capsys.readouterr().out


def test_a_bad_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `load` says."""
    status = main(["check", "b.yaml"])

    assert 2 == status
    assert "batchproxy: error: b.yaml: no such file; check the path\n" == capsys.readouterr().err


def test_onnxruntime_is_not_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that only checks files may lack it."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    config("onnx:digits")

    assert 0 == main(["check", "a.yaml"])


def test_a_file_of_servers_is_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names are not looked up."""
    config("file:servers", "dns+grpc://no-such-host.invalid:1")
    missing = main(["check", "a.yaml"])
    Path("servers").write_text("grpc://tf:8500")
    found = main(["check", "a.yaml"])

    assert (2, 0) == (missing, found)
    assert "$.pools[0].endpoints[0]: file:servers: No such file or directory" in capsys.readouterr().err
