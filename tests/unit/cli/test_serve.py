"""`batchproxy serve`: how flags, the batching parameters file and the configuration file become one configuration."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import msgspec
import pytest

from batchproxy.cli import main
from batchproxy.cli.commands import Parser
from batchproxy.cli.serve import add_arguments, from_flags
from batchproxy.config import EVERY_OTHER, Config, Doors, Listen, ModelConfig, PoolConfig
from batchproxy.core.errors import ConfigError

FILE = """
listen: {rest: "127.0.0.1:0", grpc: null, admin: "[::1]:7000"}
pools:
  - {name: p, endpoints: ["onnx:p"]}
  - {name: q, endpoints: ["onnx:q"], max_inflight: 4}
models:
  - {name: a, pool: p, max_batch_rows: 8}
  - {name: b, pool: q, batching: false}
  - {name: c, pool: q}
drain_delay_s: 5
"""


def config(*argv: str) -> Config:
    """The configuration that a command line means."""
    parser = Parser(prog="batchproxy serve")
    add_arguments(parser)
    said: list[str] = []
    result = from_flags(parser.parse(argv), say=said.append)
    assert [] == said
    return result


def fault(*argv: str) -> str:
    """What is wrong with a command line."""
    with pytest.raises(ConfigError) as caught:
        config(*argv)
    return caught.value.message


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A configuration file."""
    path = tmp_path / "a.yaml"
    path.write_text(FILE)
    return str(path)


def test_models_by_flag_alone() -> None:
    """Each makes a pool and a model of its name; all else is the default."""
    expected = Config(
        pools=(PoolConfig(name="a", endpoints=("onnx:x",)), PoolConfig(name="b", endpoints=("python:m:f",))),
        models=(ModelConfig(name="a", pool="a"), ModelConfig(name="b", pool="b")),
    )

    assert expected == config("--model", "a=onnx:x", "--model=b=python:m:f")


def test_servers_by_flag_alone() -> None:
    """One pool of them all, and every model they have."""
    expected = Config(
        pools=(PoolConfig(name="backend", endpoints=("grpc://a:1,http://a:2", "http://b:2")),),
        models=(ModelConfig(name=EVERY_OTHER, pool="backend"),),
    )

    assert expected == config("--backend", "grpc://a:1,http://a:2", "--backend=http://b:2")
    assert expected.pools[0].remote


def test_servers_and_models_by_flag() -> None:
    """An embedded model wins over '*', and may be called as the pool of the servers is."""
    found = config("--model=a=onnx:x", "--backend=grpc://tf:1", "--model=backend=onnx:y", "--enable_batching=false")

    assert {"backend": ("grpc://tf:1",), "a": ("onnx:x",), "--model backend": ("onnx:y",)} == {
        pool.name: pool.endpoints for pool in found.pools
    }
    assert {"a": "a", "backend": "--model backend", EVERY_OTHER: "backend"} == {m.name: m.pool for m in found.models}
    assert not any(model.batching for model in found.models)


def test_servers_by_flag_beside_a_file(file: str) -> None:
    """What the file names stays where it is; flags hold for the servers, too."""
    found = config(
        *("--config", file, "--backend=grpc://tf:1", "--max_inflight=9", "--max_delay_ms=2", "--grpc_client=aio")
    )

    assert ["p", "q", "backend"] == [pool.name for pool in found.pools]
    assert {"a": "p", "b": "q", "c": "q", EVERY_OTHER: "backend"} == {m.name: m.pool for m in found.models}
    assert {(9, "aio")} == {(pool.max_inflight, pool.grpc_client) for pool in found.pools}
    assert {2} == {model.max_delay_ms for model in found.models}


def test_servers_by_flag_for_the_pool_of_a_file(tmp_path: Path) -> None:
    """The pool keeps its settings and its models, gets other endpoints, and no model is added."""
    (tmp_path / "a.yaml").write_text(
        "pools: [{name: backend, endpoints: [{grpc: 'old:1'}], static_headers: {a: b}}]\n"
        "models: [{name: resnet, pool: backend, max_batch_rows: 8}]"
    )
    path = str(tmp_path / "a.yaml")
    [pool] = config("--config", path, "--backend=grpc://new:1").pools
    moved = config("--config", path, "--backend=grpc://new:1", "--model=resnet=onnx:x")

    assert PoolConfig(name="backend", endpoints=("grpc://new:1",), static_headers={"a": "b"}) == pool
    assert (Doors(grpc="old:1"),) == config("--config", path).pools[0].endpoints
    assert ["resnet"] == [model.name for model in config("--config", path, "--backend=grpc://new:1").models]
    assert [("resnet", "resnet", 8), (EVERY_OTHER, "backend", None)] == [
        (model.name, model.pool, model.max_batch_rows) for model in moved.models
    ]


def test_every_other_model_of_a_file_moves_by_flag(tmp_path: Path) -> None:
    """It keeps its settings; the pool that nobody uses any more goes."""
    (tmp_path / "a.yaml").write_text(
        "pools: [{name: tf, endpoints: ['grpc://old:1']}]\nmodels: [{name: '*', pool: tf, max_batch_rows: 8}]"
    )
    found = config("--config", str(tmp_path / "a.yaml"), "--backend=grpc://new:1")

    assert {"backend": ("grpc://new:1",)} == {pool.name: pool.endpoints for pool in found.pools}
    assert (ModelConfig(name=EVERY_OTHER, pool="backend", max_batch_rows=8),) == found.models


def test_what_may_be_held() -> None:
    """In bytes, of the whole process."""
    assert 1 << 20 == config("--model", "a=onnx:x", "--max_buffered_bytes", "1048576").max_buffered_bytes
    with pytest.raises((ConfigError, SystemExit)):
        config("--model", "a=onnx:x", "--max_buffered_bytes", "0")


def test_the_folder_of_what_was_learned(file: str) -> None:
    """A folder has a name; without the flag nothing is written."""
    assert "state" == config("--config", file, "--state_dir", "state").state_dir
    assert config("--config", file).state_dir is None
    assert fault("--config", file, "--state_dir", "").startswith("--state_dir: ")


def test_a_file_alone(file: str) -> None:
    """Flags that are not given change nothing."""
    found = config("--config", file)

    assert Listen(rest="127.0.0.1:0", grpc=None, admin="[::1]:7000") == found.listen
    assert ["p", "q"] == [pool.name for pool in found.pools]
    assert [8, None, None] == [model.max_batch_rows for model in found.models]
    assert 5 == found.drain_delay_s


def test_flags_win_over_the_file(file: str) -> None:
    """Every flag of a number, on every pool and model."""
    found = config(
        *("--config", file, "--max_batch_rows=16", "--max_delay_ms=1.5", "--max_queued_rows=160", "--max_inflight=3"),
        *("--drain_delay_s=1", "--drain_timeout_s=2", "--rest_api_timeout_in_ms=100"),
    )

    assert {(16, 1.5, 160)} == {(m.max_batch_rows, m.max_delay_ms, m.max_queued_rows) for m in found.models}
    assert {3} == {pool.max_inflight for pool in found.pools}
    assert (1, 2, 100) == (found.drain_delay_s, found.drain_timeout_s, found.rest_api_timeout_in_ms)


def test_cors_by_flag(tmp_path: Path) -> None:
    """Off if nothing is said; the flag wins over the file, whichever it says."""
    (tmp_path / "a.yaml").write_text("rest_api_enable_cors_support: true")
    argv = ["--model", "a=onnx:x"]
    in_file = [*argv, "--config", str(tmp_path / "a.yaml")]
    given = [argv, [*argv, "--rest_api_enable_cors_support"], in_file, [*in_file, "--rest_api_enable_cors_support=0"]]

    assert [False, True, True, False] == [config(*one).rest_api_enable_cors_support for one in given]


def test_a_negative_rest_timeout_is_none() -> None:
    """As in TF Serving."""
    assert 0 == config("--model", "a=onnx:x", "--rest_api_timeout_in_ms", "-1").rest_api_timeout_in_ms


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--port=9"], Listen(rest="0.0.0.0:8501", grpc="0.0.0.0:9", admin="127.0.0.1:8502")),
        (["--port=0", "--admin_port=0"], Listen(rest="0.0.0.0:8501", grpc=None, admin=None)),
        (["--grpc_socket_path=a/b"], Listen(grpc_socket_path="a/b")),
        (["--grpc_socket_path="], Listen()),
        (["--rest_api_port=0"], Listen(rest=None, grpc="0.0.0.0:8500", admin="127.0.0.1:8502")),
        (["--host=::1"], Listen(rest="[::1]:8501", grpc="[::1]:8500", admin="[::1]:8502")),
        (["--host", "[::1]", "--admin_port=1"], Listen(rest="[::1]:8501", grpc="[::1]:8500", admin="[::1]:1")),
    ],
)
def test_doors_by_flag(argv: list[str], expected: Listen) -> None:
    """A port of 0 closes a door, as in TF Serving; a host moves all three."""
    assert expected == config("--model", "a=onnx:x", *argv).listen


def test_doors_by_flag_over_a_file(file: str) -> None:
    """A port keeps the file's host and opens a door that the file closed; a host keeps the file's ports."""
    ports = config("--config", file, "--rest_api_port=1", "--port=2", "--admin_port=3").listen
    host = config("--config", file, "--host=localhost").listen

    assert Listen(rest="127.0.0.1:1", grpc="0.0.0.0:2", admin="[::1]:3") == ports
    assert Listen(rest="localhost:0", grpc=None, admin="localhost:7000") == host


def test_a_model_of_the_file_moves_by_flag(file: str) -> None:
    """It keeps its settings; the pool that nobody uses any more goes, one that others use stays."""
    found = config("--config", file, "--model", "a=onnx:new", "--model=c=onnx:other", "--model=q=onnx:third")

    assert {"q": ("onnx:q",), "a": ("onnx:new",), "c": ("onnx:other",), "--model q": ("onnx:third",)} == {
        pool.name: pool.endpoints for pool in found.pools
    }
    assert {"a": ("a", 8), "b": ("q", None), "c": ("c", None), "q": ("--model q", None)} == {
        model.name: (model.pool, model.max_batch_rows) for model in found.models
    }


def test_a_file_without_models_and_a_model_by_flag(tmp_path: Path) -> None:
    """The file may leave the models to the flags, but somebody has to name one."""
    (tmp_path / "a.yaml").write_text("drain_delay_s: 5")
    path = str(tmp_path / "a.yaml")

    assert 5 == config("--config", path, "--model=a=onnx:x").drain_delay_s
    assert f"{path} and the flags: $.models: no model is named" in fault("--config", path)


def test_enable_batching(file: str) -> None:
    """False sends everything alone; true is the default and leaves the file's word alone."""
    assert [False, False, False] == [m.batching for m in config("--config", file, "--enable_batching=false").models]
    assert [True, False, True] == [m.batching for m in config("--config", file, "--enable_batching").models]


def test_the_batching_parameters_file(tmp_path: Path, file: str) -> None:
    """It wins over the file and loses against the flags; its queue counts in the rows that hold in the end."""
    path = tmp_path / "b.txt"
    path.write_text(
        "max_batch_size { value: 32 } max_enqueued_batches { value: 10 } num_batch_threads { value: 7 } "
        "batch_timeout_micros { value: 2000 }"
    )
    over_file = config("--config", file, f"--batching_parameters_file={path}")
    under_flags = config(
        "--config", file, f"--batching_parameters_file={path}", "--max_batch_rows=16", "--max_inflight=1"
    )

    assert {(32, 320, 2.0)} == {(m.max_batch_rows, m.max_queued_rows, m.max_delay_ms) for m in over_file.models}
    assert {7} == {pool.max_inflight for pool in over_file.pools}
    assert {(16, 160, 2.0)} == {(m.max_batch_rows, m.max_queued_rows, m.max_delay_ms) for m in under_flags.models}
    assert {1} == {pool.max_inflight for pool in under_flags.pools}


def test_an_empty_batching_parameters_file_name_is_none() -> None:
    """TF Serving's default is the empty string."""
    assert config("--model=a=onnx:x") == config("--model=a=onnx:x", "--batching_parameters_file=")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (
            [],
            (
                "nothing to serve: give --backend grpc://HOST:PORT,http://HOST:PORT, --model NAME=onnx:PATH, "
                "--model NAME=python:MODULE:FUNCTION or --config FILE"
            ),
        ),
        (
            ["--model=a=onnx:x", "--model=a=onnx:y"],
            "--model a: given twice; a model has one place here, use --config for several",
        ),
        (
            ["--model=a=onnx:x", "--port=1", "--rest_api_port=1"],
            "flags: $.listen.grpc: '0.0.0.0:1' has the port of rest; every door needs its own",
        ),
        (
            ["--model=a=onnx:x", "--max_queued_rows=8"],
            "flags: $.models[0].max_queued_rows: 8 is below max_batch_rows (64), so no batch could fill; at least 64",
        ),
        (
            ["--backend=grpc://tf:1", "--backend=grpc://tf:1,http://tf:2"],
            (
                "flags: $.pools[0].endpoints[1]: the grpc door 'tf:1' is that of $.pools[0].endpoints[0] already; "
                "one server is one endpoint"
            ),
        ),
        (["--model=a=onnx:x", "--config=/nowhere/a.yaml"], "/nowhere/a.yaml: no such file; check the path"),
    ],
)
def test_faults_across_flags(argv: list[str], expected: str) -> None:
    """Where no single flag is to blame, the key that it became is named."""
    assert expected == fault(*argv)


def test_a_batching_parameters_file_without_batching() -> None:
    """TF Serving's own text, and the way out."""
    said = fault("--model=a=onnx:x", "--enable_batching=false", "--batching_parameters_file=b.txt")

    assert said.startswith(
        "server_options.batching_parameters_file is set without setting server_options.enable_batching to true"
    )


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--port=x", "--port: expected a whole number, got 'x'"),
        ("--port=70000", "--port: expected a whole number <= 65535, got '70000'"),
        ("--rest_api_port=-1", "--rest_api_port: expected a whole number >= 0, got '-1'"),
        ("--max_batch_rows=0", "--max_batch_rows: expected a whole number >= 1, got '0'"),
        ("--max_batch_rows=1.5", "--max_batch_rows: expected a whole number, got '1.5'"),
        ("--max_delay_ms=nan", "--max_delay_ms: expected a number >= 0.0, got 'nan'"),
        ("--host=a:1", "--host: expected an address without a port, such as 127.0.0.1, got 'a:1'"),
        ("--model=x", "--model: expected NAME=onnx:PATH or NAME=python:MODULE:FUNCTION, got 'x'"),
        ("--model==onnx:x", "--model: expected NAME=onnx:PATH or NAME=python:MODULE:FUNCTION, got '=onnx:x'"),
        ("--model=*=onnx:x", "--model: '*' stands for the models of servers, not for 'onnx:x'; name the model"),
        (
            "--model=a/b=onnx:x",
            "--model: 'a/b' cannot stand in a path: use no '/', no ':' and no control characters",
        ),
        (
            "--model=a=grpc://tf",
            "--model: endpoint 'grpc://tf': the grpc door: expected host:port such as 'tf-0:8500', got 'tf'",
        ),
        (
            "--model=a=grpc://tf:1",
            (
                "--model: 'grpc://tf:1' is a server: write --backend grpc://tf:1, for all its models, "
                "or name some in --config"
            ),
        ),
        (
            "--backend=onnx:x",
            (
                "--backend: expected a server, grpc://HOST:PORT or http://HOST:PORT, got 'onnx:x'; "
                "write --model NAME=onnx:x"
            ),
        ),
        (
            "--backend=tf:8500",
            "--backend: endpoint 'tf:8500' has no scheme; write 'grpc://tf:8500' or 'http://tf:8500'",
        ),
    ],
)
def test_wrong_values(argument: str, expected: str) -> None:
    """The flag, what was expected and what was given."""
    assert f"{expected}; see batchproxy serve --help" == fault(argument)


def test_run_serves_the_configuration(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`app.serve` gets it and gives the exit status; notes go to stderr."""
    import batchproxy  # noqa: PLC0415 - patched below

    served: list[tuple[Config, str | None]] = []

    def serve(config: Config, takeover: str | None, origin: types.SimpleNamespace) -> int:
        assert ([], (), config) == (origin.paths, origin.seen, origin.read())
        served.append((config, takeover))
        return 3

    def origin(read: object, paths: object, seen: object) -> types.SimpleNamespace:
        return types.SimpleNamespace(read=read, paths=paths, seen=seen)

    fake = types.SimpleNamespace(serve=serve, Origin=origin)
    monkeypatch.setitem(sys.modules, "batchproxy.app", fake)
    monkeypatch.setattr(batchproxy, "app", fake, raising=False)
    status = main(["serve", "--model=a=onnx:x", "--grpc_max_threads=3", "--takeover=/run/b"])

    assert 3 == status
    assert [(config("--model=a=onnx:x"), "/run/b")] == served
    assert (
        "batchproxy: note: --grpc_max_threads has no effect: calls are not handled by threads\n"
        == capsys.readouterr().err
    )


def test_a_note_of_the_batching_parameters_file_is_said(tmp_path: Path) -> None:
    """As is a flag's."""
    (tmp_path / "b.txt").write_text('thread_pool_name { value: "x" }')
    parser = Parser(prog="batchproxy serve")
    add_arguments(parser)
    said: list[str] = []
    found = from_flags(
        parser.parse(["--model=a=onnx:x", f"--batching_parameters_file={tmp_path / 'b.txt'}"]), say=said.append
    )

    assert msgspec.structs.replace(found) == config("--model=a=onnx:x")
    assert 1 == len(said)
    assert "thread_pool_name has no effect" in said[0]
