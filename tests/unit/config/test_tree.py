"""The typed configuration: its defaults, and that what does not fit together is told in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchproxy.config import EVERY_OTHER, Config, Listen, ModelConfig, PoolConfig, Tls, load
from batchproxy.core.errors import ConfigError
from batchproxy.core.policy import Policy
from batchproxy.endpoints import OnnxAddress, PythonAddress, ServerAddress

LAST_ENTRY = "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 16; expected 64"
MIXED = "are a server and a model in this process, which no pool mixes; put one of them into a pool of its own"
SAYS_ITSELF = "a model in this process says itself what may be batched; leave it away"
CONNECTION = "belongs to the connection or the body, and is written for each call anew"
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


def servers(*endpoints: str, keys: str = "") -> str:
    """A file with one pool with these endpoints, and these keys besides, for every model."""
    shown = ", ".join(endpoints)
    return f"pools: [{{name: p, endpoints: [{shown}], {keys}}}]\nmodels:\n  - {{name: '*', pool: p}}"


def test_the_least_file_has_the_documented_defaults(tmp_path: Path) -> None:
    """Two lines are enough; everything else has its default."""
    (tmp_path / "a.yaml").write_text(POOL + "models: [{name: m, pool: p}]")
    config = load(tmp_path / "a.yaml")

    assert Listen(rest="0.0.0.0:8501", grpc="0.0.0.0:8500", admin="127.0.0.1:8502") == config.listen
    assert (
        PoolConfig(name="p", endpoints=("onnx:x",), max_inflight=None, max_relayed=256, max_queued_bytes=268_435_456),
    ) == config.pools
    assert {} == config.pools[0].static_headers
    assert Policy(grows=True, canary_every=1000) == config.models[0].policy()
    assert (None, ("authorization",)) == (config.models[0].batchable, config.models[0].partition_by)
    assert (30_000, "x-request-timeout-ms", 300, 1, 0, 30) == (
        config.rest_api_timeout_in_ms,
        config.deadline_header,
        config.backend_timeout_s,
        config.probe_interval_s,
        config.drain_delay_s,
        config.drain_timeout_s,
    )


def test_every_other_model_of_servers(tmp_path: Path) -> None:
    """Beside named ones, wherever these run; batched or a pure relay."""
    (tmp_path / "a.yaml").write_text(
        "pools:\n"
        "  - {name: tf, endpoints: [{grpc: 'tf-0:8500', rest: 'tf-0:8501'}, 'grpc://tf-1:8500']}\n"
        "  - {name: local, endpoints: ['onnx:x', 'onnx:x', 'python:m:f']}\n"
        "models:\n"
        "  - {name: digits, pool: local}\n"
        "  - {name: '*', pool: tf, batching: false}\n"
        "  - {name: resnet, pool: tf, batchable: true, partition_by: []}\n"
    )
    config = load(tmp_path / "a.yaml")
    tf, local = config.pools

    assert (True, False) == (tf.remote, local.remote)
    assert (ServerAddress("tf-0:8500", "tf-0:8501"), ServerAddress("tf-1:8500")) == tf.addresses()
    assert (OnnxAddress("x"), OnnxAddress("x"), PythonAddress("m", "f")) == local.addresses()
    assert ["digits", EVERY_OTHER, "resnet"] == [model.name for model in config.models]
    assert not config.models[1].policy().batching


def test_names_of_headers_are_lower_case() -> None:
    """Listeners compare lower-case names."""
    config = Config(deadline_header="X-Timeout", priority_header="X-Priority")

    assert ("x-timeout", "x-priority") == (config.deadline_header, config.priority_header)


@pytest.mark.parametrize(("name", "expected"), [("high", 0), ("normal", 1), ("low", 2)])
def test_priority_is_named(tmp_path: Path, name: str, expected: int) -> None:
    """The core counts them."""
    (tmp_path / "a.yaml").write_text(model(f"priority: {name}, max_batch_bytes: 1000"))

    expected_policy = Policy(grows=True, canary_every=1000, priority=expected, max_batch_bytes=1000)
    assert expected_policy == load(tmp_path / "a.yaml").models[0].policy()


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
            "$.models[0].pool: '*' takes a pool of servers; 'p' runs in this process: name its models",
        ),
        (
            servers("'http://a:1'") + "\n  - {name: '*', pool: p}",
            "$.models[1].name: there is a model '*' already, $.models[0]",
        ),
        (
            servers("'onnx:x'", "'grpc://tf:8500'"),
            f"$.pools[0].endpoints[1]: 'grpc://tf:8500' and 'onnx:x' {MIXED}",
        ),
        (
            servers("{rest: 'tf:1'}", "'python:m:f'"),
            f"$.pools[0].endpoints[1]: 'python:m:f' and 'http://tf:1' {MIXED}",
        ),
        (
            servers("'grpc://tf'"),
            (
                "$.pools[0].endpoints[0]: endpoint 'grpc://tf': the grpc door: expected host:port such as 'tf-0:8500', "
                "got 'tf'"
            ),
        ),
        (
            servers("'http://a:1'", "{}"),
            "$.pools[0].endpoints[1]: a server needs a door, as in {grpc: 'tf-0:8500', rest: 'tf-0:8501'}",
        ),
        (
            servers("{grpc: 'a:1', rest: 'a:2'}", "'http://b:2'", "'http://a:2'"),
            (
                "$.pools[0].endpoints[2]: the rest door 'a:2' is that of $.pools[0].endpoints[0] already; "
                "one server is one endpoint"
            ),
        ),
        (
            servers("'onnx:x'", keys="static_headers: {a: b}"),
            "$.pools[0].static_headers: models in this process see no headers; leave it away",
        ),
        (
            servers("'http://a:1'", keys="static_headers: {X-Tenant: b}"),
            "$.pools[0].static_headers: 'X-Tenant': write it in lower case, 'x-tenant'",
        ),
        (
            servers("'http://a:1'", keys='static_headers: {x-tenant: "secret\\r\\nb: c"}'),
            "$.pools[0].static_headers.x-tenant: the value is not one line of ASCII without spaces around it",
        ),
        (model("batchable: true"), "$.models[0].batchable: " + SAYS_ITSELF),
        (model("batchable: false"), "$.models[0].batchable: " + SAYS_ITSELF),
        (model("partition_by: [a, b, a]"), "$.models[0].partition_by[2]: 'a' is given twice; keep one"),
        (model("partition_by: ['a b']"), "$.models[0].partition_by[0]: 'a b' is not the name of a header"),
        (model("partition_by: ['']"), "$.models[0].partition_by[0]: '' is not the name of a header"),
        (model("partition_by: [a, Host]"), "$.models[0].partition_by[1]: 'Host': write it in lower case, 'host'"),
        (model("partition_by: [host]"), f"$.models[0].partition_by[0]: 'host' {CONNECTION}"),
        (model("partition_by: [grpc-timeout]"), f"$.models[0].partition_by[0]: 'grpc-timeout' {CONNECTION}"),
        (
            model("partition_by: [user-bin]"),
            "$.models[0].partition_by[0]: 'user-bin': binary metadata is not supported here",
        ),
        (
            model("hedging: true, idempotent: false"),
            (
                "$.models[0].hedging: a hedged batch may run twice, which idempotent: false forbids; "
                "leave one of them away"
            ),
        ),
        (
            model("hedging_delay_ms: 5"),
            "$.models[0].hedging_delay_ms: nothing is hedged; set hedging: true, or leave it away",
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
            "listen: {grpc_socket_path: ''}",
            "$.listen.grpc_socket_path: expected text of length >= 1, got ''",
        ),
        (
            "listen: {rest: ':80'}",
            "$.listen.rest: expected host:port such as '0.0.0.0:8501' or '[::1]:8501', got ':80'",
        ),
        ("deadline_header: 'a b'", "$.deadline_header: 'a b' is not the name of a header; null for none"),
        ("priority_header: ''", "$.priority_header: '' is not the name of a header; null for none"),
    ],
)
def test_what_does_not_fit_together(tmp_path: Path, text: str, expected: str) -> None:
    """Rules across keys are told with the full path of the key to change."""
    assert expected == fault(tmp_path, text)


def test_the_same_port_on_two_addresses_or_zero_is_fine() -> None:
    """Only doors that would collide are refused."""
    Config(listen=Listen(rest="127.0.0.1:1", grpc="127.0.0.2:1", admin=None))
    Config(listen=Listen(rest="0.0.0.0:0", grpc="0.0.0.0:0", admin="0.0.0.0:0"))
    Config(listen=Listen(rest=None, grpc=None, grpc_socket_path="socket"))


def test_made_by_hand_the_rules_hold_too() -> None:
    """The library's way in has the same cross-field rules as the file's."""
    with pytest.raises(ConfigError, match=r"\$\.models\[0\]\.pool: no pool is named 'p'"):
        Config(models=(ModelConfig(name="m", pool="p"),))


@pytest.mark.parametrize(
    ("endpoint", "tls", "expected"),
    [
        ("http://a:1", "{ca_file: ca.pem}", "$.pools[0].tls: no endpoint is within TLS; write grpcs://HOST:PORT or"),
        ("grpcs://a:1", "{cert_file: c.pem}", "$.pools[0].tls: cert_file and key_file go together; give both or"),
        ("grpcs://a:1", "{insecure: true}", "$.pools[0].tls.insecure: unknown key; known here: ca_file, cert_file,"),
        ("grpcs://a:1", "{ca_file: ''}", "$.pools[0].tls.ca_file: expected text of length >= 1, got ''"),
    ],
)
def test_tls_that_does_not_fit(tmp_path: Path, endpoint: str, tls: str, expected: str) -> None:
    """Files without use, half of a pair, and no way to leave a certificate unchecked."""
    assert fault(tmp_path, servers(f"'{endpoint}'", keys=f"tls: {tls}")).startswith(expected)


def test_tls(tmp_path: Path) -> None:
    """Doors are within TLS as their schemes say; the rest is the pool's."""
    path = tmp_path / "a.yaml"
    path.write_text(servers("'grpcs://a:1,http://a:2'", "{rest: 'https://b:2', grpc: 'b:1'}", keys="tls: {ca_file: x}"))
    [pool] = load(path).pools

    assert (Tls(ca_file="x"), True) == (pool.tls, pool.remote)
    assert (
        ServerAddress("a:1", "a:2", grpc_tls=True),
        ServerAddress("b:1", "b:2", rest_tls=True),
    ) == pool.addresses()
