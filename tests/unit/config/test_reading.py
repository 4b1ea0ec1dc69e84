"""Reading the configuration: what loads, and that a wrong key or type is one line with file, key path, what, fix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.config import Config, Count, Doors, Listen, ModelConfig, PoolConfig, checked, load, read
from batchproxy.core.errors import ConfigError
from batchproxy.core.policy import Policy
from batchproxy.endpoints import ServerAddress

ENDPOINT = "$.pools[0].endpoints[0]"
POOL = "pools: [{name: p, endpoints: ['onnx:x']}]\n"


def fault(tmp_path: Path, text: str) -> str:
    """What loading this text as YAML says, without the path."""
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert "\n" not in caught.value.message
    return caught.value.message.removeprefix(f"{path}: ")


def model(keys: str) -> str:
    """A file whose one model has these keys besides name and pool."""
    return f"{POOL}models: [{{name: m, pool: p, {keys}}}]"


def test_json_is_accepted_and_every_key_arrives(tmp_path: Path) -> None:
    """What is written as JSON is the configuration that wrote it."""
    config = Config(
        listen=Listen(rest="[::1]:0", grpc=None, admin="localhost:1"),
        pools=(
            PoolConfig(
                name="p",
                endpoints=("http://tf-0:1", Doors(grpc="tf-1:2"), Doors(grpc="unix:/tf.sock", rest="tf-2:3")),
                max_inflight=3,
                max_relayed=4,
                static_headers={"x-tenant": "a b"},
            ),
        ),
        models=(
            ModelConfig(
                name="m",
                pool="p",
                max_batch_rows=8,
                max_delay_ms=2.5,
                max_queued_rows=80,
                allowed_batch_sizes=(4, 8),
                batching=False,
                idempotent=False,
                canary_every=7,
                max_batch_bytes=1 << 20,
                priority="low",
                batchable=True,
                partition_by=("x-user", "x-role"),
            ),
        ),
        rest_api_timeout_in_ms=0,
        rest_api_enable_cors_support=True,
        deadline_header=None,
        priority_header="x-priority",
        backend_timeout_s=1,
        probe_interval_s=0.5,
        drain_delay_s=5,
        drain_timeout_s=6,
    )
    path = tmp_path / "a.json"
    path.write_bytes(msgspec.json.encode(config))

    assert config == load(path)
    assert (
        ServerAddress(rest="tf-0:1"),
        ServerAddress(grpc="tf-1:2"),
        ServerAddress(grpc="unix:/tf.sock", rest="tf-2:3"),
    ) == config.pools[0].addresses()
    expected = Policy(
        max_batch_rows=8,
        max_delay_s=0.0025,
        max_queued_rows=80,
        allowed_batch_sizes=(4, 8),
        batching=False,
        idempotent=False,
        canary_every=7,
        max_batch_bytes=1 << 20,
        priority=2,
    )
    assert expected == config.models[0].policy()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a", "$: expected a mapping (key: value), got a list of 1"),
        ("models: {name: a}", "$.models: expected a list, got a mapping"),
        ("models: [null]", "$.models[0]: expected a mapping (key: value), got null"),
        ("modles: []", "$.modles: unknown key; did you mean 'models'?"),
        ("max_batch_rows: 3", "$.max_batch_rows: unknown key; it belongs into $.models[]"),
        ("listen: {http: x}", "$.listen.http: unknown key; known here: rest, grpc, admin, grpc_socket_path"),
        ("1: 2", "$: a key is not text; put it in quotes"),
        ("pools: [{1: 2}]", "$.pools[0]: a key is not text; put it in quotes"),
        ("models: [{pool: p}]", "$.models[0]: the key 'name' is missing, as in {name: digits, pool: local}"),
        (
            "pools: [{name: p}]",
            "$.pools[0]: the key 'endpoints' is missing, as in {name: local, endpoints: ['onnx:models/digits']}",
        ),
        ("models: [{name: 1, pool: p}]", "$.models[0].name: expected text, got 1; put it in quotes"),
        ("models: [{name: '', pool: p}]", "$.models[0].name: expected text of length >= 1, got ''"),
        (f"backend_timeout_s: {'x' * 99}", f"$.backend_timeout_s: expected a number, got '{'x' * 56}..."),
        ("backend_timeout_s: 0", "$.backend_timeout_s: expected a number > 0.0, got 0"),
        ("backend_timeout_s: .nan", "$.backend_timeout_s: expected a number > 0.0, got nan"),
        ("drain_delay_s: .inf", "$.drain_delay_s: expected a number <= 86400.0, got inf"),
        ("drain_delay_s: true", "$.drain_delay_s: expected a number, got true"),
        (
            "listen: {rest: 8501}",
            "$.listen.rest: expected text or null, got 8501; write host:port, such as '0.0.0.0:8501'",
        ),
        (
            model("max_batch_rows: '8'"),
            "$.models[0].max_batch_rows: expected a whole number or null, got '8'; leave the quotes away",
        ),
        (model("max_batch_rows: 0"), "$.models[0].max_batch_rows: expected a whole number >= 1, got 0"),
        (model("max_delay_ms: -1"), "$.models[0].max_delay_ms: expected a number >= 0.0, got -1"),
        (
            model("allowed_batch_sizes: [8, 0]"),
            "$.models[0].allowed_batch_sizes[1]: expected a whole number >= 1, got 0",
        ),
        (
            "pools: [{name: p, endpoints: 'onnx:x'}]",
            "$.pools[0].endpoints: expected a list, got 'onnx:x'; write it as a list: [onnx:x]",
        ),
        ("pools: [{name: p, endpoints: []}]", "$.pools[0].endpoints: expected a list of length >= 1, got a list of 0"),
        ("pools: [{name: p, endpoints: [null]}]", f"{ENDPOINT}: expected text or a mapping (key: value), got null"),
        ("pools: [{name: p, endpoints: [{http: x}]}]", f"{ENDPOINT}.http: unknown key; known here: grpc, rest"),
        (
            "pools: [{name: p, endpoints: [{rest: 8501}]}]",
            f"{ENDPOINT}.rest: expected text or null, got 8501; write host:port, such as 'tf-0:8501'",
        ),
        (
            "pools: [{name: p, endpoints: ['http://a:1'], static_headers: {a: b, c: 1}}]",
            "$.pools[0].static_headers.c: expected text, got 1; put it in quotes",
        ),
        (
            "pools: [{name: p, endpoints: ['http://a:1'], static_headers: {1: a}}]",
            "$.pools[0].static_headers: a key is not text; put it in quotes",
        ),
        (
            model("partition_by: x-user"),
            "$.models[0].partition_by: expected a list, got 'x-user'; write it as a list: [x-user]",
        ),
        (model("batchable: 'yes'"), "$.models[0].batchable: expected true or false or null, got 'yes'"),
        ("probe_interval_s: 0", "$.probe_interval_s: expected a number >= 0.01, got 0"),
    ],
)
def test_wrong_keys_and_types(tmp_path: Path, text: str, expected: str) -> None:
    """One line: key path, what was expected, what was given, and the fix where it can be guessed."""
    assert expected == fault(tmp_path, text)


def test_read_leaves_the_models_to_the_flags(tmp_path: Path) -> None:
    """A file without models is whole where --model adds one."""
    (tmp_path / "a.yaml").write_text("drain_delay_s: 5")

    assert Config(drain_delay_s=5) == read(tmp_path / "a.yaml")


def test_checked_reads_text_only_where_asked() -> None:
    """A flag's text becomes a number within its bounds; a file's does not."""
    assert 8 == checked("8", Count, from_text=True)
    with pytest.raises(ConfigError, match="^expected a whole number >= 1, got '0'$"):
        checked("0", Count, from_text=True)
    with pytest.raises(ConfigError, match="^expected a whole number, got '8'$"):
        checked("8", Count)


def test_what_msgspec_says_otherwise_is_passed_on() -> None:
    """A kind of fault that no key of ours can have keeps its text."""
    with pytest.raises(ConfigError, match="^Invalid enum value 'b'$"):
        checked("b", Literal["a"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["listen", "pools", "models", "name", "endpoints", "pool", "rest", "grpc", "static_headers", "x`y"]
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(data=JSON)
def test_any_json_loads_or_is_one_line(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    """Whatever a file holds, loading it ends well or with a ConfigError of one line that names the file."""
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(data))
    said = f"{path}: read"
    try:
        read(path)
    except ConfigError as error:
        said = error.message

    assert said.startswith(str(path))
    assert 1 == len(said.splitlines())
