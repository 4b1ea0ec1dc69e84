"""The configuration as a typed value, each fault told in one line. No object of the server is made here.

Paths in a file are looked for from the current directory.
`configs/annotated.yaml` says what each key means. A configuration never changes once it is made.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import os
import re
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from batchproxy import documents, endpoints
from batchproxy.core.errors import ConfigError
from batchproxy.core.policy import Policy
from batchproxy.documents import nearest
from batchproxy.endpoints import Address

T = TypeVar("T")

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Bytes = Annotated[int, Meta(ge=1, le=2**53)]
Milliseconds = Annotated[int, Meta(ge=0, le=2**31 - 1)]  # an int32 in TF Serving
Name = Annotated[str, Meta(min_length=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Delay = Annotated[float, Meta(ge=0, le=60_000)]  # milliseconds; a minute
Seconds = Annotated[float, Meta(ge=0, le=86_400)]  # a day: longer is a slip of units


class Listen(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to listen, as ``host:port``; ``None`` closes a door, port 0 takes any free port."""

    rest: str | None = "0.0.0.0:8501"
    grpc: str | None = "0.0.0.0:8500"
    admin: str | None = "127.0.0.1:8502"


class PoolConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Endpoints that serve the same models.

    Args:
        endpoints: see `batchproxy.endpoints`.
        max_inflight: merged calls that one endpoint may have at once.
        max_relayed: calls that are not merged, per endpoint; beyond it they are refused (R2).
        max_queued_bytes: of all requests that wait for this pool; beyond it they are refused.
    """

    name: Name
    endpoints: Annotated[tuple[str, ...], Meta(min_length=1)]
    max_inflight: Count = 2
    max_relayed: Count = 256
    max_queued_bytes: Bytes = 256 * 2**20

    def addresses(self) -> tuple[Address, ...]:
        """The endpoint strings, parsed."""
        return tuple(endpoints.parse(text) for text in self.endpoints)


class ModelConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model and how it is batched; the arguments are those of `Policy`, the delay in milliseconds."""

    name: Name
    pool: Name
    max_batch_rows: Count = 64
    max_delay_ms: Delay = 0.0
    max_queued_rows: Count = 8192
    allowed_batch_sizes: tuple[Count, ...] = ()
    batching: bool = True
    idempotent: bool = True

    def policy(self) -> Policy:
        """What the core needs to know of it."""
        return Policy(
            max_batch_rows=self.max_batch_rows,
            max_delay_s=self.max_delay_ms / 1000,
            max_queued_rows=self.max_queued_rows,
            allowed_batch_sizes=self.allowed_batch_sizes,
            batching=self.batching,
            idempotent=self.idempotent,
        )


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything ``batchproxy serve`` is told.

    Args:
        rest_api_timeout_in_ms: time limit of a REST call; 0: none (R6).
        deadline_header: request header that may shorten it, in milliseconds; ``None``: no header does. Lower case.
        backend_timeout_s: time limit of a merged call none of whose members has one.
        drain_delay_s: after SIGTERM, how long to listen on while ``/readyz`` already says 503.
        drain_timeout_s: after that, how long requests that were taken may need.

    Raises:
        ConfigError: the parts do not fit together; the text begins with the key's path.
    """

    listen: Listen = Listen()
    pools: tuple[PoolConfig, ...] = ()
    models: tuple[ModelConfig, ...] = ()
    rest_api_timeout_in_ms: Milliseconds = 30_000
    deadline_header: str | None = "x-request-timeout-ms"
    backend_timeout_s: Annotated[float, Meta(gt=0, le=86_400)] = 300.0
    drain_delay_s: Seconds = 0.0
    drain_timeout_s: Seconds = 30.0

    def __post_init__(self) -> None:
        if self.deadline_header is not None:
            msgspec.structs.force_setattr(self, "deadline_header", self.deadline_header.lower())
        for path, problem in _problems(self):
            raise ConfigError(f"{path}: {problem}")


_STRUCTS: dict[str, type[Struct]] = {
    "$": Config,
    "$.listen": Listen,
    "$.pools[]": PoolConfig,
    "$.models[]": ModelConfig,
}


def load(path: str | os.PathLike[str]) -> Config:
    """Read and check a configuration file: JSON if it is called ``*.json``, else YAML.

    Raises:
        ConfigError: one line: file, key path, what is wrong, what would be right.
    """
    config = read(path)
    require_models(config, os.fspath(path))
    return config


def read(path: str | os.PathLike[str]) -> Config:
    """As `load`, for a file that may leave the models to the command line."""
    name = os.fspath(path)
    data = documents.read(name)
    try:
        return msgspec.convert(data, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {_explain(str(error), data)}") from None
    except ConfigError as error:
        raise ConfigError(f"{name}: {error.message}") from None


def require_models(config: Config, where: str) -> None:
    """Refuse a configuration that serves nothing; ``where`` says who ought to have named a model."""
    if not config.models:
        raise ConfigError(f"{where}: $.models: no model is named; add one, such as {{name: digits, pool: local}}")


def parse_address(text: str) -> tuple[str, int]:
    """Split ``host:port``; an IPv6 host is in brackets, which are taken off.

    Raises:
        ConfigError: it has another form.

    Example:
        >>> parse_address("[::1]:8501")
        ('::1', 8501)
    """
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\s:/\[\]]+)):(\d{1,5})", text, re.ASCII)
    if match is None or int(match[3]) > 65535 or not _is_ipv6(match[1] or "::"):
        raise ConfigError(f"expected host:port such as '0.0.0.0:8501' or '[::1]:8501', got {text!r}")
    return match[1] or match[2], int(match[3])


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def checked(value: object, kind: type[T] | Any, *, from_text: bool = False) -> T:
    """Check a value that comes from elsewhere, such as a flag, as the same value in a file would be.

    Args:
        value: what to check.
        kind: a type with its bounds, such as `Count`.
        from_text: the value may be the text of a number.

    Raises:
        ConfigError: what was expected and what was given.
    """
    try:
        result: T = msgspec.convert(value, kind, strict=not from_text)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), value).removeprefix("$: ")) from None
    return result


# ---------------------------------------------------------------- what the types cannot say


def _problems(config: Config) -> Iterator[tuple[str, str]]:
    yield from _listen_problems(config.listen)
    if config.deadline_header is not None and not re.fullmatch(r"[a-z0-9_-]+", config.deadline_header):
        yield "$.deadline_header", f"{config.deadline_header!r} is not the name of a header; null for none"
    pools: list[str] = []
    for index, pool in enumerate(config.pools):
        if pool.name in pools:
            yield f"$.pools[{index}].name", f"there is a pool {pool.name!r} already, $.pools[{pools.index(pool.name)}]"
        pools.append(pool.name)
        for number, text in enumerate(pool.endpoints):
            try:
                endpoints.parse(text)
            except ConfigError as error:
                yield f"$.pools[{index}].endpoints[{number}]", error.message
    models: list[str] = []
    for index, model in enumerate(config.models):
        path = f"$.models[{index}]"
        if model.name in models:
            yield f"{path}.name", f"there is a model {model.name!r} already, $.models[{models.index(model.name)}]"
        models.append(model.name)
        if problem := name_problem(model.name):
            yield f"{path}.name", problem
        if model.pool not in pools:
            names = f"pools are: {', '.join(pools)}" if pools else "there are no pools: add it to $.pools"
            yield f"{path}.pool", f"no pool is named {model.pool!r}; {nearest(model.pool, pools, names)}"
        yield from _policy_problems(path, model)


def name_problem(name: str) -> str | None:
    """What is wrong with a model's name, if anything: it has to fit into a REST path (TF Serving: ``[^/:]+``)."""
    if name == "*":
        return "a model for every other name ('*') is not supported yet; name the models"
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
    if listen.rest is None and listen.grpc is None:
        yield "$.listen", "rest and grpc are both closed, so no request could come in; open one"


def _policy_problems(path: str, model: ModelConfig) -> Iterator[tuple[str, str]]:
    sizes, rows = model.allowed_batch_sizes, model.max_batch_rows
    if any(one >= two for one, two in itertools.pairwise(sizes)):
        yield f"{path}.allowed_batch_sizes", f"sizes must ascend, got {list(sizes)}"
    if sizes and sizes[-1] != rows:
        # TF Serving's own text (batching_session.cc); max_batch_size is its name of max_batch_rows
        yield (
            f"{path}.allowed_batch_sizes",
            f"Last entry in allowed_batch_sizes must match max_batch_size; last entry was {sizes[-1]}; expected {rows}",
        )
    if model.max_queued_rows < rows:
        yield (
            f"{path}.max_queued_rows",
            f"{model.max_queued_rows} is below max_batch_rows ({rows}), so no batch could fill; at least {rows}",
        )


# ---------------------------------------------------------------- msgspec's errors in the words of a file's author

_WORDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "null": "null",
    "object": "a mapping (key: value)",
    "str": "text",
}
_EXAMPLES = {
    "$.pools[]": "{name: local, endpoints: ['onnx:models/digits']}",
    "$.models[]": "{name: digits, pool: local}",
}


def _explain(text: str, data: object) -> str:
    return documents.one_line(_explained(text, data))


def _explained(text: str, data: object) -> str:
    what, where = text, "$"
    if match := re.fullmatch(r"(.*) - at `key` in `(.*)`", text, re.DOTALL):
        return f"{match[2]}: a key is not text; put it in quotes"
    if match := re.fullmatch(r"(.*) - at `(.*)`", text, re.DOTALL):
        what, where = match[1], match[2]
    place = re.sub(r"\[\d+\]", "[]", where)
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL):
        return f"{where}.{match[1]}: unknown key; {_where_it_belongs(match[1], place)}"
    if match := re.fullmatch(r"Object missing required field `(.*)`", what):
        return f"{where}: the key {match[1]!r} is missing, as in {_EXAMPLES.get(place)}"
    value = _value_at(data, where)
    if match := re.fullmatch(r"Expected `(.*?)`(?:, got `.*`| (.*))", what):
        expected = " or ".join(_WORDS.get(word, word) for word in match[1].split(" | "))
        bound = f" {match[2]}" if match[2] else ""
        return f"{where}: expected {expected}{bound}, got {_show(value)}{_hint(where, expected, value)}"
    return f"{where}: {what}"


def _where_it_belongs(key: str, place: str) -> str:
    known = [field.encode_name for field in msgspec.structs.fields(_STRUCTS[place])]
    elsewhere = [where for where, struct in _STRUCTS.items() if key in struct.__struct_fields__]
    if elsewhere:
        return f"it belongs into {elsewhere[0]}"
    return nearest(key, known, f"known here: {', '.join(known)}")


def _value_at(data: Any, where: str) -> Any:
    for key, index in re.findall(r"\.([^.\[]+)|\[(\d+)\]", where):
        data = data[key] if key else data[int(index)]
    return data


def _show(value: object) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    shown = repr(value) if isinstance(value, str) else str(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _hint(where: str, expected: str, value: object) -> str:
    if where.startswith("$.listen."):
        return "; write host:port, such as '0.0.0.0:8501'"
    if where == "$":  # a lone value, from a flag
        return ""
    if expected.startswith("text") and isinstance(value, int | float):
        return "; put it in quotes"
    if "number" in expected and isinstance(value, str) and re.fullmatch(r"-?[\d.]+", value):
        return "; leave the quotes away"
    if expected == "a list" and isinstance(value, str):
        return f"; write it as a list: [{value}]"
    return ""
