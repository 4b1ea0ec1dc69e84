"""``batchproxy serve``: its flags, and how they and a file become one configuration. Serving itself is `app`'s."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from batchproxy import flags
from batchproxy.batching_parameters import BatchingParameters, load_batching_parameters
from batchproxy.cli.commands import version
from batchproxy.config import (
    EVERY_OTHER,
    Bytes,
    Config,
    Count,
    Delay,
    Listen,
    ModelConfig,
    Name,
    PoolConfig,
    Port,
    Seconds,
    checked,
    name_problem,
    parse_address,
    read,
    require_models,
)
from batchproxy.core.errors import ConfigError
from batchproxy.documents import fingerprint
from batchproxy.endpoints import ServerAddress, SourceAddress, parse

BACKEND = "backend"
"""The pool of the servers that ``--backend`` names."""

EPILOG = """\
A flag wins over the file. Flags are written --flag=value or --flag value. All flags of tensorflow_model_server
are known here: docs/configuration.md says which are obeyed, which have no effect and which are refused.

examples:
  batchproxy serve --backend grpc://tf:8500,http://tf:8501
  batchproxy serve --backend grpc://tf-0:8500,http://tf-0:8501 --backend grpc://tf-1:8500,http://tf-1:8501
  batchproxy serve --model digits=onnx:models/digits
  batchproxy serve --model half=python:my_models:half_plus_two --port 9000 --rest_api_port 9001
  batchproxy serve --config batchproxy.yaml --batching_parameters_file batching.txt

  curl -d '{"instances": [1.0, 2.0]}' http://localhost:8501/v1/models/half:predict"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes. Every flag defaults to ``None``, "not given", so that the file can speak."""
    parser.usage = "batchproxy serve --backend grpc://HOST:PORT | --model NAME=onnx:PATH | --config FILE ... [flags]"
    parser.epilog = EPILOG
    models = parser.add_argument_group("what to serve")
    models.add_argument(
        "--backend",
        action="append",
        type=_backend,
        metavar="grpc://HOST:PORT[,http://HOST:PORT]",
        help="stand in front of a TF Serving process, for all its models; a comma joins the two doors of one server; "
        "may be repeated, for more servers of the same models",
    )
    models.add_argument(
        "--model",
        action="append",
        type=_model,
        metavar="NAME=onnx:PATH|python:MODULE:FUNCTION",
        help="add an embedded model; may be repeated",
    )
    models.add_argument(
        "--grpc_client",
        choices=("aio", "wire"),
        help="what makes gRPC calls to servers: our own client, or grpcio's (default wire)",
    )
    models.add_argument(
        "--file_system_poll_wait_seconds",
        type=_typed(int),
        metavar="S",
        help="how often the version folders of ONNX models are looked through (default 1; 0: at the start only)",
    )
    models.add_argument("--config", metavar="FILE", help="a configuration, YAML or JSON (*.json)")
    doors = parser.add_argument_group("where to listen (0 closes a door)")
    doors.add_argument("--port", type=_typed(Port), metavar="PORT", help="gRPC (default 8500)")
    doors.add_argument("--rest_api_port", type=_typed(Port), metavar="PORT", help="REST (default 8501)")
    doors.add_argument("--admin_port", type=_typed(Port), metavar="PORT", help="probes and metrics (default 8502)")
    doors.add_argument(
        "--host", type=_host, help="address of all three (default 0.0.0.0 for gRPC and REST, 127.0.0.1 for admin)"
    )
    doors.add_argument("--grpc_socket_path", metavar="PATH", help="a Unix socket beside the ports (default none)")
    doors.add_argument(
        "--takeover",
        type=_typed(Name),
        metavar="PATH",
        help="a Unix socket: take the ports over from the process that serves with the same PATH, and hand them to the "
        "next one; no connection is lost (default none)",
    )
    flags.add_flag(
        doors,
        "rest_api_enable_cors_support",
        flags.boolean,
        metavar="BOOL",
        help="CORS headers on REST answers, but on those that a server gave (default false)",
    )
    flags.add_flag(
        doors,
        "enable_grpc_healthcheck_service",
        flags.boolean,
        metavar="BOOL",
        help="answer grpc.health.v1 as /readyz is; false: as any unknown method, a server's matter (default false)",
    )
    batching = parser.add_argument_group("batching, of every model")
    flags.add_flag(
        batching, "enable_batching", flags.boolean, metavar="BOOL", help="false: every request alone (default true)"
    )
    batching.add_argument(
        "--max_batch_rows", type=_typed(Count), metavar="N", help="rows of a batch (64, and more while it pays)"
    )
    batching.add_argument(
        "--max_delay_ms", type=_typed(Delay), metavar="MS", help="how long to wait for company (default 0: not at all)"
    )
    batching.add_argument(
        "--max_queued_rows", type=_typed(Count), metavar="N", help="rows of a model that may wait (default 8192)"
    )
    batching.add_argument(
        "--max_inflight", type=_typed(Count), metavar="N", help="batches an endpoint may have at once (learned)"
    )
    batching.add_argument("--batching_parameters_file", metavar="FILE", help="TF Serving's text file of these")
    batching.add_argument(
        "--max_buffered_bytes",
        type=_typed(Bytes),
        metavar="N",
        help="of requests and answers held at once, of all models (default 536870912: 512 MiB)",
    )
    batching.add_argument(
        "--state_dir", type=_typed(Name), metavar="FOLDER", help="keeps what was learned over a restart (default none)"
    )
    times = parser.add_argument_group("time limits")
    times.add_argument(
        "--rest_api_timeout_in_ms", type=_typed(int), metavar="MS", help="of a REST call (default 30000; 0: none)"
    )
    times.add_argument("--drain_delay_s", type=_typed(Seconds), metavar="S", help="listen on after SIGTERM (default 0)")
    times.add_argument(
        "--drain_timeout_s", type=_typed(Seconds), metavar="S", help="then, to answer what was taken (default 30)"
    )
    flags.add_flag(parser, "version", flags.boolean, metavar="BOOL", help="print the version")
    flags.add_to(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop, and return the exit status.

    Raises:
        ConfigError: a flag, a file or a model is wrong.
    """
    if args.version:
        print(version())
        return 0
    paths = [path for path in (args.config, args.batching_parameters_file) if path]
    seen = fingerprint(paths)
    config = from_flags(args, say=_say)
    from batchproxy import app  # noqa: PLC0415 - everything that serves, which a wrong flag need not load

    return app.serve(config, args.takeover, app.Origin(lambda: from_flags(args, say=_nothing), paths, seen))


def from_flags(args: argparse.Namespace, say: Callable[[str], None]) -> Config:
    """The configuration that a command line means: its flags over the batching parameters file over ``--config``.

    Args:
        args: as `add_arguments` has them.
        say: is called with a line for whatever was given without effect.

    Raises:
        ConfigError: what is wrong, where, and what would be right.
    """
    for note in flags.notes(args):
        say(note)
    if not (args.backend or args.model or args.config):
        raise ConfigError(
            "nothing to serve: give --backend grpc://HOST:PORT,http://HOST:PORT, --model NAME=onnx:PATH, "
            "--model NAME=python:MODULE:FUNCTION or --config FILE"
        )
    config = read(args.config) if args.config else Config()
    where = f"{args.config} and the flags" if args.config else "flags"
    parameters = _parameters(args)
    for note in parameters.notes:
        say(note)
    pools, models = _with_places(config, args.backend or [], args.model or [])
    changes = {
        "listen": _listen(config.listen, args),
        "pools": tuple(_pool(parameters.apply_to_pool(pool), args) for pool in pools),
        "models": tuple(_batched(parameters, model, args) for model in models),
        **_given(args, "rest_api_enable_cors_support", "enable_grpc_healthcheck_service"),
        **_given(args, "max_buffered_bytes", "drain_delay_s", "drain_timeout_s"),
        **_given(args, "state_dir"),
    }
    if args.file_system_poll_wait_seconds is not None:
        changes["file_system_poll_wait_seconds"] = float(max(0, args.file_system_poll_wait_seconds))
    if args.rest_api_timeout_in_ms is not None:
        changes["rest_api_timeout_in_ms"] = max(0, args.rest_api_timeout_in_ms)  # TF Serving: 0 or less is none
    try:
        result: Config = msgspec.structs.replace(config, **changes)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}") from None
    require_models(result, where)
    return result


def _parameters(args: argparse.Namespace) -> BatchingParameters:
    if not args.batching_parameters_file:
        return BatchingParameters()
    if args.enable_batching is False:
        raise ConfigError(  # TF Serving's own text (model_servers/server.cc), and what it means
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true: "
            "leave --enable_batching=false or --batching_parameters_file away"
        )
    return load_batching_parameters(args.batching_parameters_file)


def _with_places(
    config: Config, servers: list[str], added: list[tuple[str, str]]
) -> tuple[tuple[PoolConfig, ...], tuple[ModelConfig, ...]]:
    """The file's pools and models with ``--backend``'s and ``--model``'s.

    A pool or a model that the file has too keeps its settings and gets the new place.
    """
    pools = {pool.name: pool for pool in config.pools}
    models = {model.name: model for model in config.models}
    if servers:
        former = pools.get(BACKEND, PoolConfig(name=BACKEND, endpoints=tuple(servers)))
        pools[BACKEND] = msgspec.structs.replace(former, endpoints=tuple(servers))
    seen = set()
    for name, endpoint in added:
        if name in seen:
            raise ConfigError(f"--model {name}: given twice; a model has one place here, use --config for several")
        seen.add(name)
        settings = _taken_out(name, pools, models, keep=bool(servers))
        pool = name if name not in pools else f"--model {name}"
        pools[pool] = PoolConfig(name=pool, endpoints=(endpoint,))
        models[name] = msgspec.structs.replace(settings, pool=pool)
    if servers and all(model.pool != BACKEND for model in models.values()):
        settings = _taken_out(EVERY_OTHER, pools, models, keep=True)
        models[EVERY_OTHER] = msgspec.structs.replace(settings, pool=BACKEND)
    return tuple(pools.values()), tuple(models.values())


def _taken_out(name: str, pools: dict[str, PoolConfig], models: dict[str, ModelConfig], *, keep: bool) -> ModelConfig:
    """The model's settings, the file's or the defaults; it leaves its pool, which goes if that was the last one.

    Args:
        name: the model's name.
        pools: by name; changed.
        models: by name; changed.
        keep: whether the pool of ``--backend`` stays in any case.
    """
    former = models.pop(name, None)
    if former is None:
        return ModelConfig(name=name, pool=name)
    if all(model.pool != former.pool for model in models.values()) and not (keep and former.pool == BACKEND):
        pools.pop(former.pool, None)  # nobody else's: it would be loaded for nothing
    return former


def _pool(pool: PoolConfig, args: argparse.Namespace) -> PoolConfig:
    return msgspec.structs.replace(pool, **_given(args, "max_inflight", "grpc_client"))


def _batched(parameters: BatchingParameters, model: ModelConfig, args: argparse.Namespace) -> ModelConfig:
    if args.max_batch_rows is not None:
        parameters = dataclasses.replace(parameters, max_batch_rows=args.max_batch_rows)  # its queue counts in these
    model = parameters.apply_to_model(model)
    changes = _given(args, "max_batch_rows", "max_delay_ms", "max_queued_rows")
    if args.enable_batching is False:  # true is the default already, and leaves a model's `batching: false` alone
        changes["batching"] = False
    return msgspec.structs.replace(model, **changes)


def _listen(listen: Listen, args: argparse.Namespace) -> Listen:
    default = Listen()
    return Listen(
        rest=_door(listen.rest, default.rest, args.host, args.rest_api_port),
        grpc=_door(listen.grpc, default.grpc, args.host, args.port),
        admin=_door(listen.admin, default.admin, args.host, args.admin_port),
        grpc_socket_path=listen.grpc_socket_path if args.grpc_socket_path is None else args.grpc_socket_path or None,
    )


def _door(address: str | None, default: str | None, host: str | None, port: int | None) -> str | None:
    """``host:port`` of a door: the flags' part where given, else the file's; closed by port 0, or by the file."""
    if port == 0 or (port is None and address is None):
        return None
    its_host, its_port = parse_address(address or default or "")
    host = host or its_host
    return f"{f'[{host}]' if ':' in host else host}:{its_port if port is None else port}"


def _given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _nothing(note: str) -> None:
    """What is to be said was said at the start."""


def _say(note: str) -> None:
    print(f"batchproxy: note: {note}", file=sys.stderr)


# ---------------------------------------------------------------- the types of flags


def _typed(kind: Any) -> Callable[[str], object]:
    """A flag's value, checked as the same value in a file is."""

    def convert(text: str) -> object:
        try:
            return checked(text, kind, from_text=True)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(error.message) from None

    return convert


def _backend(text: str) -> str:
    try:
        address = parse(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(error.message) from None
    if not isinstance(address, ServerAddress | SourceAddress):
        raise argparse.ArgumentTypeError(
            f"expected a server, grpc://HOST:PORT or http://HOST:PORT, got {text!r}; write --model NAME={text}"
        )
    return text


def _model(text: str) -> tuple[str, str]:
    name, equals, endpoint = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"expected NAME=onnx:PATH or NAME=python:MODULE:FUNCTION, got {text!r}")
    if problem := name_problem(name):
        raise argparse.ArgumentTypeError(problem)
    try:
        address = parse(endpoint)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(error.message) from None
    if isinstance(address, ServerAddress | SourceAddress):
        raise argparse.ArgumentTypeError(
            f"{endpoint!r} is a server: write --backend {endpoint}, for all its models, or name some in --config"
        )
    if name == EVERY_OTHER:
        raise argparse.ArgumentTypeError(f"'*' stands for the models of servers, not for {endpoint!r}; name the model")
    return name, endpoint


def _host(text: str) -> str:
    host = text.strip("[]")
    try:
        parse_address(f"[{host}]:0" if ":" in host else f"{host}:0")
    except ConfigError:
        raise argparse.ArgumentTypeError(
            f"expected an address without a port, such as 127.0.0.1, got {text!r}"
        ) from None
    return host
