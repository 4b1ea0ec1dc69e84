"""The status and the metadata of a model as JSON: protobuf's layout, built by hand (facts 4.5, 4.6). No HTTP."""

from __future__ import annotations

import json
from typing import Any

from tensorflow.core.framework import types_pb2

from tests.tfserving.models import Servable, State


def status(states: list[State]) -> bytes:
    """The body of a status answer."""
    return _json(
        {
            "model_version_status": [
                {
                    "version": str(one.version),
                    "state": one.state,
                    "status": {"error_code": one.code, "error_message": one.message},
                }
                for one in states
            ]
        }
    ).encode()


def metadata(servable: Servable) -> bytes:
    """The body of a metadata answer: two documents glued together, hence the two ``signature_def``."""
    spec = {"name": servable.name, "version": str(servable.version), "signature_name": ""}
    signatures = {name: _signature(signature) for name, signature in servable.signatures.items()}
    inner = _json({"signature_def": signatures})
    return f'{{\n"model_spec":{_json(spec)},\n"metadata": {{"signature_def": {inner}}}\n}}\n'.encode()


def _signature(signature: Any) -> dict[str, Any]:
    return {
        "inputs": {alias: _tensor(info) for alias, info in signature.inputs.items()},
        "outputs": {alias: _tensor(info) for alias, info in signature.outputs.items()},
        "method_name": signature.method_name,
        "defaults": {},
    }


def _tensor(info: Any) -> dict[str, Any]:
    return {
        "name": info.name,
        "dtype": types_pb2.DataType.Name(info.dtype),
        "tensor_shape": {
            "dim": [{"size": str(dim.size), "name": dim.name} for dim in info.tensor_shape.dim],
            "unknown_rank": info.tensor_shape.unknown_rank,
        },
    }


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
