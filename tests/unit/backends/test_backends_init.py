"""Tests of ``batchproxy.backends``: the registry."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from batchproxy.backends import BACKENDS, USAGE, CallableBackend, open_backend
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import ConfigError
from batchproxy.core.request import BatchKey

MODULE = """
import sys
def double(inputs):
    return {"y": inputs["x"] * 2}
both = {"double": double, "same": lambda inputs: {"y": inputs["x"]}}
number = 3
empty = {}
mixed = {"a": double, "b": 1}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module in it that only this test sees."""
    (tmp_path / "registry_models.py").write_text(MODULE)
    (tmp_path / "registry_leaves.py").write_text("import sys; sys.exit('no licence')")
    (tmp_path / "registry_breaks.py").write_text("1 / 0")
    (tmp_path / "registry_needs.py").write_text("import registry_absent_package")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", ".")])
    monkeypatch.delitem(sys.modules, "registry_models", raising=False)
    return tmp_path


async def test_function_in_the_current_folder(folder: Path) -> None:
    """``python:MODULE:NAME`` finds modules where we were started, as ``python -m`` does."""
    backend = open_backend("python:registry_models:double")
    key = BatchKey("m", 1, "serving_default")
    answer = (await backend.infer(key, {"x": ArrayColumn(np.array([1, 2]))})).columns
    await backend.aclose()
    column = answer["y"]
    assert isinstance(column, ArrayColumn)

    assert isinstance(backend, CallableBackend)
    assert [2, 4] == column.array.tolist()


def test_mapping_of_signatures(folder: Path) -> None:
    """A dict of functions is a model of several signatures."""
    assert {"double", "same"} == set(open_backend("python:registry_models:both").signatures)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "unknown scheme ''; a model's URL begins with one of: onnx:..., python:..."),
        ("models/digits", "unknown scheme 'models/digits'"),
        ("tensorrt:x", "unknown scheme 'tensorrt'"),
        ("onnx:", "ends after the scheme; write onnx:PATH"),
        ("onnx:nowhere", "nowhere: no such file or folder"),
        ("python:", "ends after the scheme; write python:MODULE:FUNCTION"),
        ("python:registry_models", "names no function"),
        ("python:registry_models:", "names no function"),
        ("python::double", "names no function"),
        ("python:registry_nowhere:f", "no module 'registry_nowhere'"),
        ("python:registry_models.deeper:f", "no module 'registry_models.deeper'"),
        ("python:.registry_models:f", "importing '.registry_models' failed with TypeError"),
        ("python:registry_needs:f", "needs 'registry_absent_package', which is not installed"),
        ("python:registry_leaves:f", "failed with SystemExit: no licence"),
        ("python:registry_breaks:f", "failed with ZeroDivisionError"),
        ("python:registry_models:triple", "has no 'triple' in it"),
        ("python:registry_models:number", "'number' is 3; wanted a function"),
        ("python:registry_models:empty", "'empty' is {}; wanted a function"),
        ("python:registry_models:mixed", "wanted a function"),
    ],
)
def test_wrong_urls(folder: Path, url: str, text: str) -> None:
    """Each fault is told in one line with the URL or path, and what would be right."""
    with pytest.raises(ConfigError) as caught:
        open_backend(url)

    assert text in caught.value.message
    assert "\n" not in caught.value.message


def test_every_scheme_has_its_usage() -> None:
    """Messages can say how each kind of URL reads."""
    assert set(BACKENDS) == set(USAGE)
