"""Status and metadata documents; ``tests/conformance/test_rest_golden.py`` has the recorded ones."""

from __future__ import annotations

import json

from batchproxy.codecs.tfs_documents import encode_metadata, encode_status
from batchproxy.codecs.tfs_grpc import State, VersionStatus
from batchproxy.core.shapes import UNDECLARED, ModelInfo, Signature, TensorSpec


def test_the_newest_version_comes_first() -> None:
    """Whatever the order."""
    read = json.loads(encode_status([VersionStatus(2, State.END), VersionStatus(10)]))

    assert [("10", "AVAILABLE"), ("2", "END")] == [
        (entry["version"], entry["state"]) for entry in read["model_version_status"]
    ]


def test_metadata_says_what_the_model_says() -> None:
    """Open lengths are -1; an unknown rank is told; an alias stands in for a tensor's name."""
    inputs = {"x": TensorSpec("float32", (None, 3), "px:0"), "any": TensorSpec("string")}
    info = ModelInfo("m", 7, {"serving_default": Signature(inputs, {"y": TensorSpec("float16", ())}), "f": UNDECLARED})
    read = json.loads(encode_metadata(info))
    told = read["metadata"]["signature_def"]["signature_def"]

    assert read["model_spec"] == {"name": "m", "version": "7", "signature_name": ""}
    assert told["serving_default"]["inputs"]["x"] == {
        "name": "px:0",
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "3", "name": ""}], "unknown_rank": False},
    }
    assert told["serving_default"]["inputs"]["any"]["tensor_shape"] == {"dim": [], "unknown_rank": True}
    assert told["serving_default"]["outputs"]["y"]["name"] == "y"
    assert told["f"] == {"inputs": {}, "outputs": {}, "method_name": "tensorflow/serving/predict", "defaults": {}}
