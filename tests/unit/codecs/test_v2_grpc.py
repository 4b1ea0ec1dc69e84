"""Messages of the Open Inference Protocol: typed contents, what is refused, metadata, what strangers write and read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from batchproxy.codecs import v2_grpc
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import BackendProtocolError, DecodeError, RequestError
from batchproxy.core.request import BatchKey, Reply
from batchproxy.core.shapes import ModelInfo, Signature, TensorSpec
from batchproxy.protos import v2_pb2 as pb

KEY = BatchKey("m", 3, "serving_default")
SIGNATURE = Signature(
    {"x": TensorSpec("float32", (None, 2)), "c": TensorSpec("complex64", (None,))}, {"y": TensorSpec("string", (None,))}
)
INFO = ModelInfo("m", 3, {"serving_default": SIGNATURE})


def typed(datatype: str, field: str, values: Any, shape: tuple[int, ...]) -> bytes:
    """A request with one tensor in typed contents."""
    request = pb.ModelInferRequest(model_name="m")
    tensor = request.inputs.add(name="x", datatype=datatype, shape=shape)
    getattr(tensor.contents, field).extend(values)
    return request.SerializeToString()


@pytest.mark.parametrize(
    ("datatype", "field", "values", "dtype"),
    [
        ("BOOL", "bool_contents", [True, False], np.bool_),
        ("INT8", "int_contents", [-128, 127], np.int8),
        ("INT16", "int_contents", [-(2**15), 1], np.int16),
        ("INT32", "int_contents", [-(2**31), 2**31 - 1], np.int32),
        ("INT64", "int64_contents", [-(2**63), 2**63 - 1], np.int64),
        ("UINT8", "uint_contents", [0, 255], np.uint8),
        ("UINT16", "uint_contents", [0, 2**16 - 1], np.uint16),
        ("UINT32", "uint_contents", [0, 2**32 - 1], np.uint32),
        ("UINT64", "uint64_contents", [0, 2**64 - 1], np.uint64),
        ("FP32", "fp32_contents", [0.5, float("inf")], np.float32),
        ("FP64", "fp64_contents", [0.1, -2.0], np.float64),
        ("BYTES", "bytes_contents", [b"", b"\xff"], np.object_),
    ],
)
def test_typed_contents(datatype: str, field: str, values: list[Any], dtype: type[Any]) -> None:
    """Each type in its field, in its shape; none at all in a tensor without elements."""
    array = v2_grpc.parse_infer(typed(datatype, field, values, (2, 1))).inputs["x"].array
    empty = v2_grpc.parse_infer(typed(datatype, field, [], (0, 4))).inputs["x"].array

    assert (dtype, (2, 1), values) == (array.dtype.type, array.shape, array.ravel().tolist())
    assert (dtype, (0, 4)) == (empty.dtype.type, empty.shape)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"\xff", "no ModelInferRequest"),
        (b"", "names no model"),
        (typed("FP32", "fp32_contents", [1.0], (2,)), "1 elements in fp32_contents, its shape [2] takes 2"),
        (typed("FP32", "int_contents", [1], (1,)), "0 elements in fp32_contents"),
        (typed("INT8", "int_contents", [200], (1,)), "holds a number that is no INT8"),
        (typed("FP16", "fp32_contents", [1.0], (1,)), "FP16, which the protocol only sends raw"),
        (typed("INT3", "int_contents", [1], (1,)), "'INT3'"),
        (
            pb.ModelInferRequest(
                model_name="m", inputs=[pb.InferTensor(name="x", datatype="FP32")], raw_input_contents=[b"", b""]
            ).SerializeToString(),
            "2 raw buffers for 1 tensors",
        ),
        (typed("FP32", "fp32_contents", [1.0], (1,)) + b"\x3a\x04\0\0\0\0", "'x' is sent raw and typed"),
        (
            pb.ModelInferRequest(
                model_name="m", inputs=[pb.InferTensor(name="x", datatype="FP32", shape=[0])] * 2
            ).SerializeToString(),
            "'x' is there twice",
        ),
        (
            pb.ModelInferRequest(model_name="m", model_version="9" * 20).SerializeToString(),
            "beyond 64 bits",
        ),
    ],
)
def test_requests_that_say_nothing_good_are_refused(message: bytes, text: str) -> None:
    """By the name of the tensor where there is one."""
    with pytest.raises(DecodeError) as refused:
        v2_grpc.parse_infer(message)

    assert text in refused.value.message


def test_a_tensor_without_elements_needs_no_contents() -> None:
    """FP16 among them."""
    message = pb.ModelInferRequest(model_name="m", inputs=[pb.InferTensor(name="x", datatype="FP16", shape=[0])])

    assert (0,) == v2_grpc.parse_infer(message.SerializeToString()).inputs["x"].array.shape


def test_parameters_say_what_is_odd() -> None:
    """Shared memory and classification are another server's matter: tensors are not looked for."""
    memory, classes = pb.ModelInferRequest(model_name="m"), pb.ModelInferRequest(model_name="m")
    memory.inputs.add(name="x").parameters["shared_memory_region"].string_param = "r"
    memory.inputs[0].parameters["nothing"].SetInParent()
    classes.outputs.add(name="y").parameters["classification"].int64_param = 2
    call = v2_grpc.parse_infer(memory.SerializeToString())

    assert ("shared memory", {}) == (call.odd, call.inputs)
    assert "the classification extension" == v2_grpc.parse_infer(classes.SerializeToString()).odd


def test_answers_are_in_the_order_that_was_asked_for() -> None:
    """With the caller's id, under the name it used."""
    reply = Reply({"a": ArrayColumn(np.zeros(1)), "b": ArrayColumn(np.zeros(1))}, 3)
    answer = pb.ModelInferResponse.FromString(v2_grpc.encode_reply(reply, "m", "7", ("b", "a")))

    assert ("m", "3", "7") == (answer.model_name, answer.model_version, answer.id)
    assert ["b", "a"] == [output.name for output in answer.outputs]


def test_answers_without_a_counterpart_are_refused() -> None:
    """By name."""
    with pytest.raises(RequestError, match="'y' is of type DT_COMPLEX64"):
        v2_grpc.encode_reply(Reply({"y": ArrayColumn(np.zeros(1, np.complex64))}, 1), "m")


@pytest.mark.parametrize(
    "read", [v2_grpc.decode_reply, v2_grpc.decode_metadata, v2_grpc.decode_flag], ids=lambda read: str(read.__name__)
)
def test_answers_of_servers_that_are_none(read: Any) -> None:
    """A protocol error, which names the server's answer."""
    with pytest.raises(BackendProtocolError, match="the server's"):
        read(b"\xff")


def test_versions_of_answers_without_reading_them() -> None:
    """0 where there is none."""
    message = pb.ModelInferResponse(model_name="m", model_version="12", raw_output_contents=[b"x" * 100])

    assert [12, 0, 0] == [v2_grpc.version_answered(one) for one in (message.SerializeToString(), b"", b"\xff")]


def test_metadata_comes_back() -> None:
    """What the protocol has no word for cannot be read again, and that is said."""
    plain = Signature({"x": TensorSpec("float32", (None, 2))}, {"y": TensorSpec("string", (None,))})
    written = v2_grpc.encode_metadata(INFO, SIGNATURE)
    inputs = pb.ModelMetadataResponse.FromString(written).inputs

    assert ["FP32", "DT_COMPLEX64"] == [tensor.datatype for tensor in inputs]
    assert ModelInfo("m", 3, {"serving_default": plain}) == v2_grpc.decode_metadata(
        v2_grpc.encode_metadata(INFO, plain)
    )
    with pytest.raises(BackendProtocolError, match="'DT_COMPLEX64'"):
        v2_grpc.decode_metadata(written)


def test_questions_and_flags() -> None:
    """Models by name and version, and yes or no."""
    assert ("m", 3) == v2_grpc.parse_model(v2_grpc.encode_model("m", 3))
    assert ("m", "stable") == v2_grpc.parse_model(v2_grpc.encode_model("m", "stable"))
    assert [True, False] == [v2_grpc.decode_flag(v2_grpc.encode_flag(value)) for value in (True, False)]
    assert ["m", "", ""] == [v2_grpc.model_named(one) for one in (v2_grpc.encode_model("m", 1), b"", b"\xff")]


def test_configuration_and_index_say_what_there_is() -> None:
    """Shapes with all of their axes; types by Triton's numbers, 0 for what it lacks."""
    config = pb.ModelConfigResponse.FromString(v2_grpc.encode_config(INFO, SIGNATURE)).config
    index = pb.RepositoryIndexResponse.FromString(v2_grpc.encode_index([("m", 3)])).models
    server = pb.ServerMetadataResponse.FromString(v2_grpc.encode_server_metadata("s", "1", ["e"]))

    assert [("x", 11, [-1, 2]), ("c", 0, [-1])] == [(one.name, one.data_type, list(one.dims)) for one in config.input]
    assert [("y", 13, [-1])] == [(one.name, one.data_type, list(one.dims)) for one in config.output]
    assert [("m", "3", "READY")] == [(one.name, one.version, one.state) for one in index]
    assert ("s", "1", ["e"]) == (server.name, server.version, list(server.extensions))


def test_inputs_of_a_request_keep_their_parameters() -> None:
    """Through the key, and back into the message."""
    request = pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=[1]).parameters["content_type"].string_param = "np"
    request.raw_input_contents.append(b"\0\0\0\0")
    call = v2_grpc.parse_infer(request.SerializeToString())
    key = KEY._replace(extras=call.extras() or b"")
    again = pb.ModelInferRequest.FromString(v2_grpc.encode_infer_request(key, call.inputs))

    assert "np" == again.inputs[0].parameters["content_type"].string_param


def test_empty_typed_contents_beside_raw_ones_say_nothing() -> None:
    """MLServer sends them with every tensor."""
    answer = pb.ModelInferResponse(model_name="m", raw_output_contents=[b"\0\0\x80\x3f"])
    tensor = answer.outputs.add(name="y", datatype="FP32", shape=[1])
    tensor.contents.SetInParent()
    (column,) = v2_grpc.decode_reply(answer.SerializeToString()).columns.values()

    assert isinstance(column, ArrayColumn)
    assert [1.0] == column.array.tolist()
