"""Model status and metadata as TF Serving's REST documents. Values in, bytes out; no model is looked up here.

Both are protobuf's JSON text, fields without a value included (``model_servers/http_rest_api_util.cc``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from batchproxy.codecs import _dtypes
from batchproxy.codecs.tfs_grpc import VersionStatus
from batchproxy.codecs.tfs_json import document
from batchproxy.core.shapes import ModelInfo, Signature, TensorSpec


def encode_status(versions: Iterable[VersionStatus]) -> bytes:
    """The status of a model; newest version first, whatever the order given."""
    entries = [
        {
            "version": str(line.version),
            "state": line.state.name,
            "status": {"error_code": line.code.name, "error_message": line.message},
        }
        for line in sorted(versions, reverse=True)
    ]
    return document({"model_version_status": entries})


def encode_metadata(info: ModelInfo) -> bytes:
    """The signatures of one version of a model, in its two pieces put together by hand as TF Serving does."""
    spec = document({"name": info.name, "version": str(info.version), "signature_name": ""})
    signatures = {name: _signature(signature) for name, signature in info.signatures.items()}
    definitions = document({"signature_def": signatures})
    return b'{\n"model_spec":' + spec + b',\n"metadata": {"signature_def": ' + definitions + b"}\n}\n"


def _signature(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": _tensors(signature.inputs),
        "outputs": _tensors(signature.outputs),
        "method_name": signature.method_name,
        "defaults": {},
    }


def _tensors(specs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    return {
        alias: {
            "name": spec.name or alias,
            "dtype": _dtypes.tf_name(spec.dtype),
            "tensor_shape": {
                "dim": [{"size": str(-1 if size is None else size), "name": ""} for size in spec.shape or ()],
                "unknown_rank": spec.shape is None,
            },
        }
        for alias, spec in specs.items()
    }
