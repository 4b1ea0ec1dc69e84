"""The configuration as a typed value, and the rules across its keys. How it is read from a file: `reading`.

A configuration never changes once it is made; ``configs/annotated.yaml`` says what each key means.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from batchproxy import endpoints
from batchproxy.config import onnx as onnx_models
from batchproxy.config.onnx import OnnxConfig
from batchproxy.core.errors import ConfigError
from batchproxy.core.policy import PRIORITIES, ROWS, Policy
from batchproxy.documents import nearest
from batchproxy.endpoints import Address, OnnxAddress, ServerAddress, SourceAddress, parse_address

EVERY_OTHER = "*"
"""In place of a model's name: every model that no other entry names."""

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Bytes = Annotated[int, Meta(ge=1, le=2**53)]
Milliseconds = Annotated[int, Meta(ge=0, le=2**31 - 1)]  # an int32 in TF Serving
Name = Annotated[str, Meta(min_length=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Delay = Annotated[float, Meta(ge=0, le=60_000)]  # milliseconds; a minute
Seconds = Annotated[float, Meta(ge=0, le=86_400)]  # a day: longer is a slip of units


class Listen(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to listen, as ``host:port``; ``None`` closes a door, port 0 takes any free port.

    Args:
        rest: TF Serving's REST API.
        grpc: its gRPC API.
        admin: probes and metrics.
        grpc_socket_path: a Unix socket that takes both protocols, as both ports do; ``None``: no such socket.
    """

    rest: str | None = "0.0.0.0:8501"
    grpc: str | None = "0.0.0.0:8500"
    admin: str | None = "127.0.0.1:8502"
    grpc_socket_path: Name | None = None


class Doors(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One TF Serving process as a mapping, ``{grpc: "tf-0:8500", rest: "tf-0:8501"}``; one door is enough."""

    grpc: str | None = None
    rest: str | None = None


class Tls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a pool's ``grpcs://`` and ``https://`` endpoints are reached; see `batchproxy.backends.tls.ClientTls`.

    Args:
        ca_file: PEM certificates of who may vouch for the servers; ``None``: the system's.
        cert_file: our own certificate, for servers that ask for one; ``None``: none.
        key_file: its key.
        server_name: the name in the servers' certificates, where it is not the endpoint's host.
    """

    ca_file: Name | None = None
    cert_file: Name | None = None
    key_file: Name | None = None
    server_name: Name | None = None


class PoolConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Endpoints that serve the same models: servers, or models in this process, never both.

    Args:
        endpoints: see `batchproxy.endpoints`.
        max_inflight: merged calls that one endpoint may have at once; left out, it is learned.
        max_relayed: calls that are not merged, per endpoint; beyond it they are refused (R2).
        max_queued_bytes: of all requests that wait for this pool; beyond it they are refused.
        static_headers: header to value, sent to servers with each call. Where a caller sent the same one, and for
            a merged call it is in ``partition_by``, theirs is sent.
        grpc_client: what carries calls to servers by gRPC: our own client, or ``grpc.aio``.
        tls: for endpoints within TLS.
        onnx: how ``onnx:`` endpoints are run.
    """

    name: Name
    endpoints: Annotated[tuple[str | Doors, ...], Meta(min_length=1)]
    max_inflight: Count | None = None
    max_relayed: Count = 256
    max_queued_bytes: Bytes = 256 * 2**20
    static_headers: dict[str, str] = msgspec.field(default_factory=dict)
    grpc_client: Literal["aio", "wire"] = "wire"
    tls: Tls = Tls()
    onnx: OnnxConfig = OnnxConfig()

    def addresses(self) -> tuple[Address, ...]:
        """The endpoints, parsed; all servers or all embedded."""
        return tuple(_address(entry) for entry in self.endpoints)

    @property
    def remote(self) -> bool:
        """Whether its endpoints are servers."""
        return _is_remote(_address(self.endpoints[0]))


def _is_remote(address: Address) -> bool:
    return isinstance(address, ServerAddress | SourceAddress)


def _server_of(address: Address) -> ServerAddress | None:
    """What is known of the servers that an endpoint names; None: a file says it, or there are none."""
    if isinstance(address, SourceAddress):
        return address.server
    return address if isinstance(address, ServerAddress) else None


def _address(entry: str | Doors) -> Address:
    return endpoints.parse(entry) if isinstance(entry, str) else endpoints.server(entry.grpc, entry.rest)


class ModelConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model and how it is batched; what is not told here is as in `Policy`, the delay in milliseconds.

    Args:
        name: ``EVERY_OTHER`` ("*"): all models of the pool's servers that no other entry names.
        batchable: True: a server that does not tell this model's metadata is taken to leave the first axis
            of every input and output open. False: it never does. None: its metadata is asked (R5).
        max_batch_rows: left out, a batch has 64 rows at first, and more while that pays; never more where a request
            may not be run twice, since a server may find it too large.
        slo_ms: milliseconds within which answers are wanted; 0: nobody said.
        hedging_delay_ms: gRPC: ``hedgingPolicy.hedgingDelay``; ``None``: as learned.
        canary_every: of so many batches one is checked for rows that influence each other; 0: none.
        partition_by: headers that callers must agree in to share a call, which carries them on. In lower case.
            Callers that agree are one tenant, and tenants of a pool take turns.
    """

    name: Name
    pool: Name
    max_batch_rows: Count | None = None
    max_batch_bytes: Bytes = 64 * 2**20
    max_delay_ms: Delay = 0.0
    slo_ms: Delay = 0.0
    max_queued_rows: Count = 8192
    allowed_batch_sizes: tuple[Count, ...] = ()
    batching: bool = True
    idempotent: bool = True
    hedging: bool = False
    hedging_delay_ms: Annotated[float, Meta(gt=0, le=86_400_000)] | None = None
    canary_every: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 1000
    priority: Literal["high", "normal", "low"] = "normal"
    batchable: bool | None = None
    partition_by: tuple[str, ...] = ("authorization",)

    @property
    def rows(self) -> int:
        """Rows of a batch at first; at most, where ``max_batch_rows`` is set."""
        return self.max_batch_rows or ROWS

    def policy(self) -> Policy:
        """What the core needs to know of it."""
        return Policy(
            max_batch_rows=self.rows,
            grows=self.max_batch_rows is None and self.idempotent and not self.allowed_batch_sizes,
            max_batch_bytes=self.max_batch_bytes,
            max_delay_s=self.max_delay_ms / 1000,
            slo_s=self.slo_ms / 1000,
            max_queued_rows=self.max_queued_rows,
            allowed_batch_sizes=self.allowed_batch_sizes,
            batching=self.batching,
            idempotent=self.idempotent,
            hedging=self.hedging,
            hedging_delay_s=(self.hedging_delay_ms or 0.0) / 1000,
            canary_every=self.canary_every,
            priority=PRIORITIES[self.priority],
        )


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything ``batchproxy serve`` is told.

    Args:
        rest_api_timeout_in_ms: time limit of a REST call; 0: none (R6).
        rest_api_enable_cors_support: whether pages of other sites may read the REST answers that are our own.
        enable_grpc_healthcheck_service: whether ``grpc.health.v1`` is answered for this process, as ``/readyz`` is;
            else its methods are like others that we do not know: passed on to the servers, where there are any.
        deadline_header: request header that may shorten it, in milliseconds; ``None``: no header does. Lower case.
        priority_header: request header or gRPC metadata that names a priority: high, normal, low, or 0, 1, 2; ``None``:
            none does. Lower case.
        max_buffered_bytes: of requests and answers that the process holds (R7).
        backend_timeout_s: time limit of a merged call none of whose members has one.
        probe_interval_s: how often endpoints are asked whether they are up.
        file_system_poll_wait_seconds: how often the version folders of ``onnx:`` endpoints are looked through; 0: at
            the start only.
        drain_delay_s: after SIGTERM, how long to listen on while ``/readyz`` already says 503.
        drain_timeout_s: after that, how long requests that were taken may need.
        state_dir: folder of the file in which what was learned outlives a restart; ``None``: nothing is written.

    Raises:
        ConfigError: the parts do not fit together; the text begins with the key's path.
    """

    listen: Listen = Listen()
    pools: tuple[PoolConfig, ...] = ()
    models: tuple[ModelConfig, ...] = ()
    rest_api_timeout_in_ms: Milliseconds = 30_000
    rest_api_enable_cors_support: bool = False
    enable_grpc_healthcheck_service: bool = False
    deadline_header: str | None = "x-request-timeout-ms"
    priority_header: str | None = None
    max_buffered_bytes: Bytes = 512 * 2**20
    backend_timeout_s: Annotated[float, Meta(gt=0, le=86_400)] = 300.0
    probe_interval_s: Annotated[float, Meta(ge=0.01, le=86_400)] = 1.0
    file_system_poll_wait_seconds: Seconds = 1.0
    drain_delay_s: Seconds = 0.0
    drain_timeout_s: Seconds = 30.0
    state_dir: Name | None = None

    def __post_init__(self) -> None:
        for key in ("deadline_header", "priority_header"):
            if (name := getattr(self, key)) is not None:
                msgspec.structs.force_setattr(self, key, name.lower())
        for path, problem in _problems(self):
            raise ConfigError(f"{path}: {problem}")


# ---------------------------------------------------------------- what the types cannot say


def _problems(config: Config) -> Iterator[tuple[str, str]]:
    yield from _listen_problems(config.listen)
    for key in ("deadline_header", "priority_header"):
        if (name := getattr(config, key)) is not None and not re.fullmatch(r"[a-z0-9_-]+", name):
            yield f"$.{key}", f"{name!r} is not the name of a header; null for none"
    pools: dict[str, PoolConfig] = {}
    for index, pool in enumerate(config.pools):
        if pool.name in pools:
            number = list(pools).index(pool.name)
            yield f"$.pools[{index}].name", f"there is a pool {pool.name!r} already, $.pools[{number}]"
        pools[pool.name] = pool
        yield from _pool_problems(f"$.pools[{index}]", pool)
    models: list[str] = []
    for index, model in enumerate(config.models):
        path = f"$.models[{index}]"
        if model.name in models:
            yield f"{path}.name", f"there is a model {model.name!r} already, $.models[{models.index(model.name)}]"
        models.append(model.name)
        yield from _model_problems(path, model, pools)


def _pool_problems(path: str, pool: PoolConfig) -> Iterator[tuple[str, str]]:
    doors: dict[tuple[str, str], int] = {}
    first: Address | None = None
    for number, entry in enumerate(pool.endpoints):
        place = f"{path}.endpoints[{number}]"
        try:
            address = _address(entry)
        except ConfigError as error:
            raise ConfigError(f"{place}: {error.message}") from None
        first = first or address
        if _is_remote(address) is not _is_remote(first):
            kinds = f"{address.name!r} and {first.name!r} are a server and a model in this process"
            yield place, f"{kinds}, which no pool mixes; put one of them into a pool of its own"
        server, other_server = _server_of(address), _server_of(first)
        if server is not None:
            if other_server is not None and server.v2 is not other_server.v2:
                kinds = f"{address.name!r} and {first.name!r} do not speak the same protocol"
                yield place, f"{kinds}, and callers of one pool get either; put one of them into a pool of its own"
            for door, at in (("grpc", server.grpc), ("rest", server.rest)):
                if at is not None and doors.setdefault((door, at), number) != number:
                    other = f"{path}.endpoints[{doors[door, at]}]"
                    yield place, f"the {door} door {at!r} is that of {other} already; one server is one endpoint"
    for name, value in pool.static_headers.items():
        if problem := _header_problem(name):
            yield f"{path}.static_headers", problem
        if not (value.isascii() and value.isprintable() and value == value.strip()):  # which is not shown: a secret?
            yield f"{path}.static_headers.{name}", "the value is not one line of ASCII without spaces around it"
    addresses = pool.addresses()
    if pool.tls != Tls() and not any(
        _is_remote(address) and ((server := _server_of(address)) is None or server.grpc_tls or server.rest_tls)
        for address in addresses
    ):
        yield f"{path}.tls", "no endpoint is within TLS; write grpcs://HOST:PORT or https://HOST:PORT, or leave it away"
    if (pool.tls.cert_file is None) is not (pool.tls.key_file is None):
        yield f"{path}.tls", "cert_file and key_file go together; give both or neither"
    if pool.onnx != OnnxConfig() and not any(isinstance(address, OnnxAddress) for address in addresses):
        yield f"{path}.onnx", "no endpoint is onnx:PATH; leave it away"
    yield from onnx_models.problems(f"{path}.onnx", pool.onnx)
    if pool.static_headers and not pool.remote:
        yield f"{path}.static_headers", "models in this process see no headers; leave it away"


def _model_problems(path: str, model: ModelConfig, pools: Mapping[str, PoolConfig]) -> Iterator[tuple[str, str]]:
    if problem := name_problem(model.name):
        yield f"{path}.name", problem
    pool = pools.get(model.pool)
    if pool is None:
        names = f"pools are: {', '.join(pools)}" if pools else "there are no pools: add it to $.pools"
        yield f"{path}.pool", f"no pool is named {model.pool!r}; {nearest(model.pool, pools, names)}"
    elif not pool.remote:
        if model.name == EVERY_OTHER:
            yield f"{path}.pool", f"'*' takes a pool of servers; {model.pool!r} runs in this process: name its models"
        if model.batchable is not None:
            yield f"{path}.batchable", "a model in this process says itself what may be batched; leave it away"
    yield from _policy_problems(path, model)
    for number, name in enumerate(model.partition_by):
        if problem := _header_problem(name):
            yield f"{path}.partition_by[{number}]", problem
        if name in model.partition_by[:number]:
            yield f"{path}.partition_by[{number}]", f"{name!r} is given twice; keep one"


_RESERVED = frozenset(
    {
        *("connection", "content-encoding", "content-length", "content-type", "expect", "host", "keep-alive", "te"),
        *("trailer", "transfer-encoding", "upgrade", "user-agent"),
    }
)
"""Headers of one connection or one body, and those that the HTTP and gRPC clients write themselves."""


def _header_problem(name: str) -> str | None:
    """What is wrong with a header's name, if anything; it has to be one of gRPC metadata, too."""
    if name != name.lower():
        return f"{name!r}: write it in lower case, {name.lower()!r}"
    if not re.fullmatch(r"[a-z0-9_.-]+", name):
        return f"{name!r} is not the name of a header"
    if name.endswith("-bin"):
        return f"{name!r}: binary metadata is not supported here"
    if name in _RESERVED or name.startswith("grpc-"):
        return f"{name!r} belongs to the connection or the body, and is written for each call anew"
    return None


def name_problem(name: str) -> str | None:
    """What is wrong with a model's name, if anything: it has to fit into a REST path (TF Serving: ``[^/:]+``)."""
    if re.search(r"[/:]", name) or not name.isprintable():
        return f"{name!r} cannot stand in a path: use no '/', no ':' and no control characters"
    return None


def _listen_problems(listen: Listen) -> Iterator[tuple[str, str]]:
    taken: dict[str, tuple[str, int]] = {}
    for door in ("rest", "grpc", "admin"):
        text = getattr(listen, door)
        if text is None:
            continue
        try:
            host, port = parse_address(text)
        except ConfigError as error:
            yield f"$.listen.{door}", error.message
        else:
            for other, (its_host, its_port) in taken.items():
                if port and port == its_port and (host == its_host or {"0.0.0.0", "::"} & {host, its_host}):
                    yield f"$.listen.{door}", f"{text!r} has the port of {other}; every door needs its own"
            taken[door] = (host, port)
    if listen.rest is None and listen.grpc is None and listen.grpc_socket_path is None:
        yield "$.listen", "rest and grpc are both closed, so no request could come in; open one"


def _policy_problems(path: str, model: ModelConfig) -> Iterator[tuple[str, str]]:
    sizes, rows = model.allowed_batch_sizes, model.rows
    if any(one >= two for one, two in itertools.pairwise(sizes)):
        yield f"{path}.allowed_batch_sizes", f"sizes must ascend, got {list(sizes)}"
    if sizes and sizes[-1] != rows:
        # TF Serving's own text (batching_session.cc); max_batch_size is its name of max_batch_rows
        yield (
            f"{path}.allowed_batch_sizes",
            f"Last entry in allowed_batch_sizes must match max_batch_size; last entry was {sizes[-1]}; expected {rows}",
        )
    if model.hedging and not model.idempotent:
        yield f"{path}.hedging", "a hedged batch may run twice, which idempotent: false forbids; leave one of them away"
    if model.hedging_delay_ms is not None and not model.hedging:
        yield f"{path}.hedging_delay_ms", "nothing is hedged; set hedging: true, or leave it away"
    if model.max_queued_rows < rows:
        yield (
            f"{path}.max_queued_rows",
            f"{model.max_queued_rows} is below max_batch_rows ({rows}), so no batch could fill; at least {rows}",
        )
