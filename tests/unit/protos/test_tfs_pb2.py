"""Our messages beside TF Serving's: the same on the wire, and at peace in one process."""

from __future__ import annotations

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before the import: TensorFlow writes to stderr otherwise
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    input_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
    status_pb2,
)

from batchproxy.protos import tfs_pb2

ROOT = Path(__file__).parents[3]
MODULES: list[Any] = [
    classification_pb2,
    example_pb2,
    feature_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    input_pb2,
    meta_graph_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
    status_pb2,
    tensor_pb2,
    tensor_shape_pb2,
]
THEIRS: dict[str, Descriptor] = {
    name: message for module in MODULES for name, message in module.DESCRIPTOR.message_types_by_name.items()
}


AS_BYTES = {"examples", "context", "classifications", "label"}
"""Fields that we declare as bytes: messages that are only handed on, and a string that nobody checks."""


def wire(field: FieldDescriptor) -> tuple[int, bool, str | int]:
    """What of a field travels: number, repeated or not, and the type; an enum travels as an int32."""
    kind: str | int = field.message_type.name if field.message_type else field.type
    if field.name in AS_BYTES and (field.message_type or kind == FieldDescriptor.TYPE_STRING):
        kind = FieldDescriptor.TYPE_BYTES
    return field.number, field.is_repeated, FieldDescriptor.TYPE_INT32 if kind == FieldDescriptor.TYPE_ENUM else kind


@pytest.mark.parametrize("ours", tfs_pb2.DESCRIPTOR.message_types_by_name.values(), ids=lambda ours: ours.name)
def test_our_fields_are_theirs(ours: Descriptor) -> None:
    """Each field, of nested messages and map entries too, has the number and the type of TF Serving's."""
    theirs = THEIRS[ours.name]
    pairs = [(ours, theirs), *((inner, theirs.nested_types_by_name[inner.name]) for inner in ours.nested_types)]

    for mine, real in pairs:
        for field in mine.fields:
            assert wire(real.fields_by_name[field.name]) == wire(field), field.full_name


@pytest.mark.parametrize("ours", ["Request", "Result", "Response"])
def test_regression_is_classification_under_another_name(ours: str) -> None:
    """So that one definition of ours serves both."""
    classified, regressed = (
        [wire(field)[:2] for field in THEIRS[f"{method}{ours}"].fields] for method in ("Classification", "Regression")
    )

    assert classified == regressed


OURS_IMPORTED = "from batchproxy.protos import tfs_pb2 as ours"
THEIRS_IMPORTED = "from tensorflow_serving.apis import predict_pb2 as theirs, get_model_metadata_pb2"


@pytest.mark.parametrize(
    "imports",
    [(OURS_IMPORTED, THEIRS_IMPORTED), (THEIRS_IMPORTED, OURS_IMPORTED)],
    ids=["ours first", "theirs first"],
)
def test_our_messages_and_theirs_live_in_one_process(imports: tuple[str, str]) -> None:
    """No descriptor clashes, in either order, and fields that we do not know pass through."""
    use = (
        "request = theirs.PredictRequest(client_id=b'c'); request.model_spec.name = 'm'\n"
        "raw = request.SerializeToString()\n"
        "print(ours.PredictRequest.FromString(raw).SerializeToString() == raw)"
    )
    script = "\n".join((*imports, use))
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, cwd=ROOT)

    assert (0, "True") == (done.returncode, done.stdout.strip()), done.stderr


def test_tensorflow_is_not_needed() -> None:
    """The codec imports no TensorFlow: 580 MB of memory and seconds of start."""
    script = "import sys, batchproxy.codecs.tfs_grpc; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, cwd=ROOT)

    assert (0, "False") == (done.returncode, done.stdout.strip()), done.stderr
