"""Endpoint strings: what parses, and what the errors suggest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.errors import ConfigError
from batchproxy.endpoints import NOT_YET, OnnxAddress, PythonAddress, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("onnx:models/digits", OnnxAddress("models/digits")),
        ("onnx:/models/a:b.onnx", OnnxAddress("/models/a:b.onnx")),
        ("python:package.module:predict", PythonAddress("package.module", "predict")),
    ],
)
def test_known_schemes(text: str, expected: object) -> None:
    """A path or a module and a function come out, and print as they came in."""
    address = parse(text)

    assert expected == address
    assert text == str(address)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("models/digits", "'onnx:models/digits'"),
        ("onnx:", "write onnx:PATH"),
        ("onnx://models", "write onnx:PATH"),
        ("python:module", "write python:MODULE:FUNCTION"),
        ("python:my-module:f", "write python:MODULE:FUNCTION"),
        ("python:module:f.g", "write python:MODULE:FUNCTION"),
        ("python:.module:f", "write python:MODULE:FUNCTION"),
        ("onxn:x", "did you mean 'onnx'?"),
        ("ftp:x", "known: onnx:PATH, python:MODULE:FUNCTION"),
    ],
)
def test_wrong_endpoints_name_themselves_and_the_fix(text: str, fix: str) -> None:
    """The error repeats the string and says what would be right."""
    with pytest.raises(ConfigError) as caught:
        parse(text)

    assert repr(text) in caught.value.message
    assert fix in caught.value.message


@pytest.mark.parametrize("scheme", sorted(NOT_YET))
def test_servers_elsewhere_are_not_supported_yet(scheme: str) -> None:
    """A scheme that is planned is told from a typo."""
    with pytest.raises(ConfigError) as caught:
        parse(f"{scheme}://tf:8500")

    assert f"{scheme} is not supported yet; known now: onnx:PATH, python:MODULE:FUNCTION" in caught.value.message


@given(st.text())
def test_any_text_parses_or_is_a_config_error(text: str) -> None:
    """No text breaks the parser, and what parses prints as itself."""
    try:
        address = parse(text)
    except ConfigError:
        return

    assert text == str(address)
