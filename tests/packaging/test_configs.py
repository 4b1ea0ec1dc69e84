"""configs/ and docs/configuration.md: every example loads, and every key is explained with its true default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from batchproxy.cli import main
from batchproxy.config import Config, Listen, ModelConfig, PoolConfig, load

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
ANNOTATED = ROOT / "configs" / "annotated.yaml"

STRUCTS: dict[str, type[msgspec.Struct]] = {
    "": Config,
    "listen.": Listen,
    "pools[].": PoolConfig,
    "models[].": ModelConfig,
}


def test_the_three_examples_are_there() -> None:
    """The glob below found them."""
    assert ["annotated.yaml", "minimal.yaml", "onnx-embedded.yaml"] == [path.name for path in CONFIGS]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_examples_pass_the_check(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An example is valid and, from the repository's root, names models that are there."""
    monkeypatch.chdir(ROOT)

    assert 0 == main(["check", str(path)])


def test_annotated_has_every_key() -> None:
    """Each field of each struct is a key of annotated.yaml."""
    data: dict[str, Any] = yaml.safe_load(ANNOTATED.read_text())
    written = {"": data, "listen.": data["listen"], "pools[].": data["pools"][0], "models[].": data["models"][0]}

    for place, struct in STRUCTS.items():
        assert set(struct.__struct_fields__) == set(written[place]), place


def test_annotated_shows_the_defaults() -> None:
    """Its values are the defaults, but for allowed_batch_sizes, whose default would show nothing."""
    config = load(ANNOTATED)
    pool, model = config.pools[0], config.models[0]

    assert Config(pools=config.pools, models=config.models) == config
    assert PoolConfig(name=pool.name, endpoints=pool.endpoints) == pool
    assert ModelConfig(name=model.name, pool=model.pool, allowed_batch_sizes=model.allowed_batch_sizes) == model


def test_the_docs_name_every_key_with_its_default() -> None:
    """docs/configuration.md has a row for each key."""
    text = (ROOT / "docs" / "configuration.md").read_text()

    for place, struct in STRUCTS.items():
        for field in msgspec.structs.fields(struct):
            if isinstance(field.default, msgspec.Struct) or field.name in {"pools", "models"}:
                continue  # has rows of its own
            default = "required"
            if field.default is not msgspec.NODEFAULT:
                value = int(field.default) if isinstance(field.default, float) else field.default
                default = f"`{json.dumps(value)}`"
            assert f"| `{place}{field.name}` | {default} |" in text
