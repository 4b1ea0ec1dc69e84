"""configs/ and docs/configuration.md: every example loads, and every key is explained with its true default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from batchproxy.cli import main
from batchproxy.config import EVERY_OTHER, Config, Doors, Listen, ModelConfig, PoolConfig, Tls, load
from batchproxy.config.onnx import OnnxConfig, VersionPolicyConfig

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
ANNOTATED = ROOT / "configs" / "annotated.yaml"

STRUCTS: dict[str, type[msgspec.Struct]] = {
    "": Config,
    "listen.": Listen,
    "pools[].": PoolConfig,
    "pools[].endpoints[].": Doors,
    "pools[].tls.": Tls,
    "pools[].onnx.": OnnxConfig,
    "pools[].onnx.model_version_policy.": VersionPolicyConfig,
    "models[].": ModelConfig,
}


def test_the_examples_are_there() -> None:
    """The glob below found them."""
    expected = [
        "annotated.yaml",
        "discovery.yaml",
        "minimal.yaml",
        "onnx-embedded.yaml",
        "onnx-versions.yaml",
        "tfserving.yaml",
    ]

    assert expected == [path.name for path in CONFIGS]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_examples_pass_the_check(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An example is valid and, from the repository's root, names models that are there."""
    monkeypatch.chdir(ROOT)

    assert 0 == main(["check", str(path)])


def test_annotated_has_every_key() -> None:
    """Each field of each struct is a key of annotated.yaml."""
    data: dict[str, Any] = yaml.safe_load(ANNOTATED.read_text())
    pool, model = data["pools"][0], data["models"][0]
    endpoint = pool["endpoints"][0]
    written = {
        "": data,
        "listen.": data["listen"],
        "models[].": model,
        "pools[].": pool,
        "pools[].endpoints[].": endpoint,
        "pools[].tls.": pool["tls"],
        "pools[].onnx.": pool["onnx"],
        "pools[].onnx.model_version_policy.": pool["onnx"]["model_version_policy"],
    }

    for place, struct in STRUCTS.items():
        assert set(struct.__struct_fields__) == set(written[place]), place


def test_annotated_shows_the_defaults() -> None:
    """Its values are the defaults, but for allowed_batch_sizes, whose default would show nothing."""
    config = load(ANNOTATED)
    pool, model = config.pools[0], config.models[0]

    assert Config(pools=config.pools, models=config.models) == config
    assert PoolConfig(name=pool.name, endpoints=pool.endpoints) == pool
    assert ModelConfig(name=model.name, pool=model.pool, allowed_batch_sizes=model.allowed_batch_sizes) == model


def test_the_servers_of_the_example_have_both_doors() -> None:
    """tfserving.yaml and the flags in its head mean the same servers."""
    path = ROOT / "configs" / "tfserving.yaml"
    [pool] = load(path).pools
    [model] = load(path).models

    assert EVERY_OTHER == model.name
    assert 2 == len(pool.addresses())
    for address in pool.addresses():
        assert f"--backend {address.name}" in path.read_text()


def test_the_docs_name_every_key_with_its_default() -> None:
    """docs/configuration.md has a row for each key."""
    text = (ROOT / "docs" / "configuration.md").read_text()

    for place, struct in STRUCTS.items():
        if struct is Doors:
            continue  # a way to write an endpoint; none of its keys stands alone
        for field in msgspec.structs.fields(struct):
            if isinstance(field.default, msgspec.Struct) or field.name in {"pools", "models"}:
                continue  # has rows of its own
            default = "required"
            if not field.required:
                value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
                default = f"`{json.dumps(int(value) if isinstance(value, float) else value)}`"
            assert f"| `{place}{field.name}` | {default} |" in text
