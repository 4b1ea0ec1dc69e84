"""Files and values become the typed configuration, each fault told in one line. What is wrong across keys: `tree`."""

from __future__ import annotations

import json
import os
import re
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from batchproxy import documents
from batchproxy.config.onnx import OnnxConfig, VersionPolicyConfig
from batchproxy.config.tree import Config, Doors, Listen, ModelConfig, PoolConfig, Tls
from batchproxy.core.errors import ConfigError
from batchproxy.documents import nearest

T = TypeVar("T")

_STRUCTS: dict[str, type[Struct]] = {
    "$": Config,
    "$.listen": Listen,
    "$.pools[]": PoolConfig,
    "$.pools[].endpoints[]": Doors,
    "$.pools[].tls": Tls,
    "$.pools[].onnx": OnnxConfig,
    "$.pools[].onnx.model_version_policy": VersionPolicyConfig,
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
        what, where = match[1], _with_the_key(match[2], data)
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


def _with_the_key(where: str, data: object) -> str:
    """msgspec writes ``[...]`` for a key of a free mapping, whose values are all text: names the first that is not."""
    mapping, dots, _ = where.partition("[...]")
    if not dots:
        return where
    return next(f"{mapping}.{key}" for key, value in _value_at(data, mapping).items() if not isinstance(value, str))


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
    if where.startswith("$.listen.") and not where.endswith("_path"):
        return "; write host:port, such as '0.0.0.0:8501'"
    if re.match(r"\$\.pools\[\d+\]\.endpoints\[\d+\]\.", where):
        return "; write host:port, such as 'tf-0:8501'"
    if where == "$":  # a lone value, from a flag
        return ""
    if expected.startswith("text") and isinstance(value, int | float):
        return "; put it in quotes"
    if "number" in expected and isinstance(value, str) and re.fullmatch(r"-?[\d.]+", value):
        return "; leave the quotes away"
    if expected == "a list" and isinstance(value, str):
        return f"; write it as a list: [{value}]"
    return ""
