"""How a pool's ONNX models are run, as a value."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from batchproxy.config import Config
from batchproxy.config.onnx import OnnxConfig, problems
from batchproxy.core.errors import ConfigError


def config(onnx: dict[str, Any], endpoint: str = "onnx:m") -> Config:
    """A configuration of one pool."""
    pool = {"name": "p", "endpoints": [endpoint], "onnx": onnx}
    return msgspec.convert({"pools": [pool], "models": [{"name": "m", "pool": "p"}]}, Config)


def test_defaults_ask_for_the_newest_version_on_the_processor() -> None:
    """Nothing has to be said."""
    assert OnnxConfig() == config({}).pools[0].onnx
    assert [] == list(problems("$", OnnxConfig()))


def test_everything_said() -> None:
    """Each key has its place."""
    found = config(
        {
            "threads": 2,
            "threads_per_call": 1,
            "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"],
            "provider_options": {"CUDAExecutionProvider": {"device_id": "1"}},
            "model_version_policy": {"specific": [1, 3]},
            "version_labels": {"stable": 1},
        }
    )

    assert (1, 3) == found.pools[0].onnx.model_version_policy.specific


@pytest.mark.parametrize(
    ("onnx", "text"),
    [
        ({"model_version_policy": {"latest": 1, "all": True}}, "model_version_policy: latest, specific and all"),
        ({"threads": 2, "threads_per_call": 3}, "threads_per_call: the model has 2 threads; give that many at most"),
        ({"provider_options": {"X": {}}}, "provider_options.X: it is none of the providers"),
        ({"version_labels": {"a/b": 1}}, "version_labels: 'a/b' cannot stand in a path"),
        ({"version_labels": {"": 1}}, "version_labels: '' cannot stand in a path"),
    ],
)
def test_what_does_not_fit_together(onnx: dict[str, Any], text: str) -> None:
    """Said with the key's path."""
    with pytest.raises(ConfigError) as caught:
        config(onnx)

    assert caught.value.message.startswith(f"$.pools[0].onnx.{text}")


def test_only_for_onnx() -> None:
    """Functions and servers have no such settings."""
    with pytest.raises(ConfigError, match="no endpoint is onnx:PATH"):
        config({"threads": 2}, "python:numpy:positive")
