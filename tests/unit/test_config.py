"""The typed configuration: what loads, and that each fault is one line with file, key path, what and fix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.config import Config, Count, Listen, ModelConfig, PoolConfig, checked, load, parse_address, read
from batchproxy.core.errors import ConfigError
from batchproxy.core.policy import Policy
from batchproxy.endpoints import OnnxAddress, PythonAddress

KNOWN_NOW = "known now: onnx:PATH, python:MODULE:FUNCTION"
LAST_ENTRY = "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 16; expected 64"
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


def test_the_least_file_has_the_documented_defaults(tmp_path: Path) -> None:
    """Two lines are enough; everything else has its default."""
    (tmp_path / "a.yaml").write_text(POOL + "models: [{name: m, pool: p}]")
    config = load(tmp_path / "a.yaml")

    assert Listen(rest="0.0.0.0:8501", grpc="0.0.0.0:8500", admin="127.0.0.1:8502") == config.listen
    assert (
        PoolConfig(name="p", endpoints=("onnx:x",), max_inflight=2, max_relayed=256, max_queued_bytes=268_435_456),
    ) == config.pools
    assert Policy() == config.models[0].policy()
    assert (30_000, "x-request-timeout-ms", 300, 0, 30) == (
        config.rest_api_timeout_in_ms,
        config.deadline_header,
        config.backend_timeout_s,
        config.drain_delay_s,
        config.drain_timeout_s,
    )


def test_json_is_accepted_and_every_key_arrives(tmp_path: Path) -> None:
    """What is written as JSON is the configuration that wrote it."""
    config = Config(
        listen=Listen(rest="[::1]:0", grpc=None, admin="localhost:1"),
        pools=(PoolConfig(name="p", endpoints=("onnx:x", "python:m:f"), max_inflight=3, max_relayed=4),),
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
            ),
        ),
        rest_api_timeout_in_ms=0,
        deadline_header=None,
        backend_timeout_s=1,
        drain_delay_s=5,
        drain_timeout_s=6,
    )
    path = tmp_path / "a.json"
    path.write_bytes(msgspec.json.encode(config))

    assert config == load(path)
    assert (OnnxAddress("x"), PythonAddress("m", "f")) == config.pools[0].addresses()
    assert Policy(8, 0.0025, 80, (4, 8), batching=False, idempotent=False) == config.models[0].policy()


def test_the_deadline_header_is_lower_case() -> None:
    """Listeners compare lower-case names."""
    assert "x-timeout" == Config(deadline_header="X-Timeout").deadline_header


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a", "$: expected a mapping (key: value), got a list of 1"),
        ("models: {name: a}", "$.models: expected a list, got a mapping"),
        ("models: [null]", "$.models[0]: expected a mapping (key: value), got null"),
        ("modles: []", "$.modles: unknown key; did you mean 'models'?"),
        ("max_batch_rows: 3", "$.max_batch_rows: unknown key; it belongs into $.models[]"),
        ("listen: {http: x}", "$.listen.http: unknown key; known here: rest, grpc, admin"),
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
            "$.models[0].max_batch_rows: expected a whole number, got '8'; leave the quotes away",
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
    ],
)
def test_wrong_keys_and_types(tmp_path: Path, text: str, expected: str) -> None:
    """One line: key path, what was expected, what was given, and the fix where it can be guessed."""
    assert expected == fault(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (POOL, "$.models: no model is named; add one, such as {name: digits, pool: local}"),
        (
            "pools: [{name: p, endpoints: ['onnx:x']}, {name: p, endpoints: ['onnx:x']}]",
            "$.pools[1].name: there is a pool 'p' already, $.pools[0]",
        ),
        (
            POOL + "models: [{name: m, pool: p}, {name: m, pool: p}]",
            "$.models[1].name: there is a model 'm' already, $.models[0]",
        ),
        (POOL + "models: [{name: m, pool: q}]", "$.models[0].pool: no pool is named 'q'; pools are: p"),
        (
            "pools: [{name: local, endpoints: ['onnx:x']}]\nmodels: [{name: m, pool: locl}]",
            "$.models[0].pool: no pool is named 'locl'; did you mean 'local'?",
        ),
        (
            "models: [{name: m, pool: q}]",
            "$.models[0].pool: no pool is named 'q'; there are no pools: add it to $.pools",
        ),
        (
            POOL + "models: [{name: a/b, pool: p}]",
            "$.models[0].name: 'a/b' cannot stand in a path: use no '/', no ':' and no control characters",
        ),
        (
            POOL + "models: [{name: '*', pool: p}]",
            "$.models[0].name: a model for every other name ('*') is not supported yet; name the models",
        ),
        (
            "pools: [{name: p, endpoints: ['onnx:x', 'grpc://tf:8500']}]",
            "$.pools[0].endpoints[1]: endpoint 'grpc://tf:8500': grpc is not supported yet; " + KNOWN_NOW,
        ),
        (model("allowed_batch_sizes: [64, 8]"), "$.models[0].allowed_batch_sizes: sizes must ascend, got [64, 8]"),
        (model("allowed_batch_sizes: [8, 8]"), "$.models[0].allowed_batch_sizes: sizes must ascend, got [8, 8]"),
        (
            model("allowed_batch_sizes: [8, 16]"),
            "$.models[0].allowed_batch_sizes: " + LAST_ENTRY,
        ),
        (
            model("max_queued_rows: 63"),
            "$.models[0].max_queued_rows: 63 is below max_batch_rows (64), so no batch could fill; at least 64",
        ),
        ("listen: {grpc: 'a:1', rest: 'a:1'}", "$.listen.grpc: 'a:1' has the port of rest; every door needs its own"),
        (
            "listen: {grpc: '0.0.0.0:1', admin: '127.0.0.1:1'}",
            "$.listen.admin: '127.0.0.1:1' has the port of grpc; every door needs its own",
        ),
        (
            "listen: {grpc: null, rest: null}",
            "$.listen: rest and grpc are both closed, so no request could come in; open one",
        ),
        (
            "listen: {rest: ':80'}",
            "$.listen.rest: expected host:port such as '0.0.0.0:8501' or '[::1]:8501', got ':80'",
        ),
        ("deadline_header: 'a b'", "$.deadline_header: 'a b' is not the name of a header; null for none"),
    ],
)
def test_what_does_not_fit_together(tmp_path: Path, text: str, expected: str) -> None:
    """Rules across keys are told with the full path of the key to change."""
    assert expected == fault(tmp_path, text)


def test_the_same_port_on_two_addresses_or_zero_is_fine() -> None:
    """Only doors that would collide are refused."""
    Config(listen=Listen(rest="127.0.0.1:1", grpc="127.0.0.2:1", admin=None))
    Config(listen=Listen(rest="0.0.0.0:0", grpc="0.0.0.0:0", admin="0.0.0.0:0"))


def test_made_by_hand_the_rules_hold_too() -> None:
    """The library's way in has the same cross-field rules as the file's."""
    with pytest.raises(ConfigError, match=r"\$\.models\[0\]\.pool: no pool is named 'p'"):
        Config(models=(ModelConfig(name="m", pool="p"),))


def test_read_leaves_the_models_to_the_flags(tmp_path: Path) -> None:
    """A file without models is whole where --model adds one."""
    (tmp_path / "a.yaml").write_text("drain_delay_s: 5")

    assert Config(drain_delay_s=5) == read(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.0.0.0:8501", ("0.0.0.0", 8501)), ("[::1]:80", ("::1", 80)), ("localhost:0", ("localhost", 0))],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    """Host and port come apart, brackets come off."""
    assert expected == parse_address(text)


@pytest.mark.parametrize(
    "text", ["", "8501", ":8501", "a:", "a:65536", "a:-1", "::1:80", "[1:2]:80", "http://a:1", "a b:1"]
)
def test_what_is_no_address(text: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(ConfigError, match="expected host:port such as"):
        parse_address(text)


@given(st.text())
def test_any_text_is_an_address_or_a_config_error(text: str) -> None:
    """No text breaks the parser, and a port fits 16 bits."""
    try:
        host, port = parse_address(text)
    except ConfigError:
        return

    assert host
    assert 0 <= port <= 65535


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
            st.sampled_from(["listen", "pools", "models", "name", "endpoints", "pool", "rest", "max_batch_rows", "x`y"])
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
