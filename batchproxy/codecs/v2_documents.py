"""The Open Inference Protocol over REST beside inference: paths, metadata, errors, both ways. No tensors here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote

import msgspec
import orjson

from batchproxy.codecs import _dtypes, v2_calls
from batchproxy.core.errors import BackendProtocolError, BatchProxyError, DecodeError
from batchproxy.core.request import Version
from batchproxy.core.shapes import ModelInfo, Signature, TensorSpec

_PATH = re.compile(
    r"/v2(?:/(?:health/(?P<health>live|ready)|repository/(?P<index>index)|models/(?P<model>[^/?]+)"
    r"(?:/versions/(?P<version>[^/?]+))?(?:/(?P<verb>infer|ready|config|stats))?))?/?(?:\?.*)?"
)

_POSTS = frozenset({"infer", "index"})


class Target(NamedTuple):
    """What a request asks for.

    Attributes:
        verb: ``infer``; or ``metadata``, ``ready``, ``config`` or ``stats`` of a model; or, of the server, ``server``
            (its metadata), ``live``, ``ready`` or ``index``, without a model.
        model: its name; empty where the server is meant.
        version: as for ``BatchKey``.
    """

    verb: str
    model: str = ""
    version: Version = None


class _Spec(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]


class _ServerMetadata(msgspec.Struct):
    name: str
    extensions: list[str] | None = None


class _Metadata(msgspec.Struct):
    name: str
    versions: list[str] | None = None
    inputs: list[_Spec] | None = None
    outputs: list[_Spec] | None = None


_SERVER_METADATA = msgspec.json.Decoder(_ServerMetadata)
_METADATA = msgspec.json.Decoder(_Metadata)

# ---------------------------------------------------------------- paths


def parse_target(method: str, path: str) -> Target | None:
    """What a request under ``/v2`` asks for; None: nothing that we know.

    Raises:
        DecodeError: a version beyond 64 bits.

    >>> parse_target("POST", "/v2/models/m/versions/7/infer")
    Target(verb='infer', model='m', version=7)
    """
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    health, index, model, version, verb = found.groups()
    if model == "stats" and version is None and verb is None:  # Triton's own path: of all models
        target = Target("stats")
    elif model is not None:
        target = Target(verb or "metadata", unquote(model), v2_calls.version_of(unquote(version or "")))
    else:
        target = Target(health or index or "server")
    return target if (method == "POST") is (target.verb in _POSTS) and method in {"GET", "POST"} else None


def model_path(model: str, version: Version, verb: str = "") -> str:
    """The path of a model; ``verb`` as in ``Target``, empty for its metadata.

    >>> model_path("a/b", 3, "infer")
    '/v2/models/a%2Fb/versions/3/infer'
    """
    path = "/v2/models/" + quote(model, safe="")
    if version is not None:
        path += "/versions/" + quote(str(version), safe="")
    return f"{path}/{verb}" if verb else path


# ---------------------------------------------------------------- what is said of servers and models


def encode_server_metadata(name: str, version: str, extensions: Sequence[str] = v2_calls.EXTENSIONS) -> bytes:
    """The document of ``/v2``."""
    return orjson.dumps({"name": name, "version": version, "extensions": extensions})


def decode_server_metadata(body: bytes) -> tuple[str, Sequence[str]]:
    """A server's name and its extensions, out of the document of ``/v2``.

    Raises:
        BackendProtocolError: it is none.
    """
    try:
        found = _SERVER_METADATA.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BackendProtocolError(f"the server's metadata: {error}") from None
    return found.name, found.extensions or ()


def encode_metadata(info: ModelInfo, signature: Signature, platform: str = v2_calls.PLATFORM) -> bytes:
    """The document of a model."""
    sides = {
        side: [
            {"name": name, "datatype": _dtypes.v2_name(spec.dtype), "shape": v2_calls.sizes_of(spec)}
            for name, spec in specs.items()
        ]
        for side, specs in (("inputs", signature.inputs), ("outputs", signature.outputs))
    }
    return orjson.dumps({"name": info.name, "versions": [str(info.version)], "platform": platform, **sides})


def decode_metadata(body: bytes) -> ModelInfo:
    """What a server's document of a model says.

    Raises:
        BackendProtocolError: it is none.
    """
    try:
        found = _METADATA.decode(body)
        inputs, outputs = _specs(found.inputs or ()), _specs(found.outputs or ())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BackendProtocolError(f"the server's metadata of a model: {error}") from None
    except DecodeError as error:
        raise BackendProtocolError(f"the server's metadata of a model: {error.message}") from None
    return v2_calls.info_of(found.name, found.versions or (), inputs, outputs)


def encode_config(info: ModelInfo, signature: Signature) -> bytes:
    """Triton's configuration of a model. ``max_batch_size`` is 0: shapes have all of their axes."""
    sides = {
        side: [
            {
                "name": name,
                "data_type": "TYPE_" + _dtypes.v2_name(spec.dtype).replace("BYTES", "STRING"),
                "dims": v2_calls.sizes_of(spec),
            }
            for name, spec in specs.items()
        ]
        for side, specs in (("input", signature.inputs), ("output", signature.outputs))
    }
    kind = v2_calls.PLATFORM
    return orjson.dumps({"name": info.name, "platform": kind, "backend": kind, "max_batch_size": 0, **sides})


def encode_index(models: Sequence[tuple[str, int]]) -> bytes:
    """Triton's repository index of models that are ready: names and versions."""
    return orjson.dumps([{"name": name, "version": str(version), "state": "READY"} for name, version in models])


def encode_error(error: BatchProxyError) -> tuple[int, bytes]:
    """The status and the body of an error.

    >>> encode_error(DecodeError("no"))
    (400, b'{"error":"no"}')
    """
    text = error.message.encode("utf-8", "replace").decode()  # a lone surrogate of some model's own text
    return error.http_status, orjson.dumps({"error": text})


def decode_error(body: bytes) -> str:
    """The text of a server's error: what the protocol's body says, else what is there, cut.

    >>> decode_error(b'{"error": "no"}'), decode_error(b"Bad Gateway")
    ('no', 'Bad Gateway')
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    text = found.get("error", found.get("detail")) if isinstance(found, dict) else None
    return text if isinstance(text, str) else body[:1024].decode("utf-8", "replace")


# ---------------------------------------------------------------- inside


def _specs(tensors: Sequence[_Spec]) -> dict[str, TensorSpec]:
    return {tensor.name: v2_calls.spec_of(tensor.name, tensor.datatype, tensor.shape) for tensor in tensors}
