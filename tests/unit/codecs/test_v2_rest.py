"""Bodies of the Open Inference Protocol: JSON flat and nested, numbers that do not fit, buffers, what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from batchproxy.codecs import v2_rest
from batchproxy.codecs.v2_calls import InferCall, Said
from batchproxy.codecs.v2_documents import Target
from batchproxy.codecs.v2_rest_answers import Wanted
from batchproxy.core.columns import Array, ArrayColumn
from batchproxy.core.errors import BackendProtocolError, DecodeError, RequestError
from batchproxy.core.request import Reply

TARGET = Target("infer", "m", 3)


def body_of(*tensors: dict[str, Any], **members: Any) -> bytes:
    """A request."""
    return json.dumps({"inputs": tensors, **members}).encode()


def tensor(datatype: str, data: Any, shape: list[int], **members: Any) -> dict[str, Any]:
    """A tensor with its data as JSON."""
    return {"name": "x", "datatype": datatype, "shape": shape, "data": data, **members}


def parsed(body: bytes, length: int | None = None) -> InferCall:
    """A call of the model ``m``."""
    return v2_rest.parse_infer(TARGET, body, len(body) if length is None else length)


def array_of(datatype: str, data: Any, shape: list[int]) -> Array:
    """What a tensor's JSON becomes."""
    return parsed(body_of(tensor(datatype, data, shape))).inputs["x"].array


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]], [[[1], [2]], [[3], [4]]]])
def test_data_flat_or_nested(data: Any) -> None:
    """The shape is what ``shape`` says."""
    assert [[1.0, 2.0], [3.0, 4.0]] == array_of("FP32", data, [2, 2]).tolist()
    strings = json.loads(json.dumps(data), parse_int=str)
    assert [[b"1", b"2"], [b"3", b"4"]] == array_of("BYTES", strings, [2, 2]).tolist()


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("BOOL", [True, False]),
        ("INT64", [-(2**63), 2**63 - 1]),
        ("UINT64", [0, 2**64 - 1]),
        ("UINT64", [2**63, 2**64 - 1]),
        ("INT8", [-128, 127]),
        ("FP16", [0.5, 65504]),
        ("BF16", [0.5, -3]),
        ("FP64", [0.1, 1e300]),
        ("FP32", [float("nan"), float("-inf")]),
    ],
)
def test_values_arrive_as_they_are(datatype: str, data: list[Any]) -> None:
    """Each at the ends of its type; NaN and Infinity as Python and Triton write them."""
    assert repr([type(item)(item) for item in data]) == repr(
        [type(item)(found) for item, found in zip(data, array_of(datatype, data, [2]).tolist(), strict=True)]
    )


def test_no_data_in_an_empty_tensor() -> None:
    """Of any type."""
    assert (0, 3) == array_of("INT32", [], [0, 3]).shape
    assert (0,) == array_of("BYTES", [], [0]).shape


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "the JSON of the request"),
        (b"[]", "the JSON of the request"),
        (b'{"inputs": 3}', "the JSON of the request"),
        (b'{"inputs": [NaN', "the JSON of the request"),
        (b"\xff", "the JSON of the request"),
        (body_of(tensor("FP8", [1], [1])), "'FP8'"),
        (body_of(tensor("FP32", [1], [2])), "'x' has 1 elements, its shape [2] takes 2"),
        (body_of(tensor("FP32", ["1"], [1])), "the model takes float32"),
        (body_of(tensor("FP32", [1e39], [1])), "does not fit"),
        (body_of(tensor("FP32", [[1], [2, 3]], [3])), "cannot be made an array"),
        (body_of(tensor("FP32", None, [1])), "'x' holds an object of type NoneType"),
        (body_of(tensor("INT32", [1.5], [1])), "the model takes int32"),
        (body_of(tensor("INT8", [128], [1])), "128 does not fit"),
        (body_of(tensor("UINT64", [2**63, -1], [2])), "the model takes uint64"),
        (body_of(tensor("BYTES", [1], [1])), "something that is no string"),
        (body_of({"name": "x", "datatype": "FP32", "shape": [1]}), "neither data nor binary_data_size"),
        (body_of(tensor("FP32", [1], [1]), tensor("FP32", [1], [1])), "'x' is there twice"),
        (body_of(parameters={"a": [1]}), "parameter 'a' is no number, string or boolean"),
        (body_of(tensor("FP32", [1], [1], parameters={"binary_data_size": 4})), "not what is left of the body"),
        (b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [01]}]}', "the JSON of the request"),
        (b'{"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": ["\xff"]}]}', "tensor 'x'"),
    ],
)
def test_bodies_that_say_nothing_good_are_refused(body: bytes, text: str) -> None:
    """By the name of the tensor where there is one."""
    with pytest.raises(DecodeError) as refused:
        parsed(body)

    assert text in refused.value.message


def test_brackets_without_end_are_refused() -> None:
    """They are no stack to overflow."""
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": ' + b"[" * 100_000 + b"NaN"

    with pytest.raises(DecodeError):
        parsed(body)
    with pytest.raises(DecodeError):
        parsed(body.replace(b"NaN", b"1"))


def test_buffers_follow_the_json() -> None:
    """Those that have a size, in order; JSON may stand between them."""
    head = body_of(
        tensor("FP32", None, [1, 2], parameters={"binary_data_size": 8, "content_type": "np"}),
        {**tensor("INT8", [7], [1]), "name": "j"},
        {**tensor("BYTES", None, [1], parameters={"binary_data_size": 5}), "name": "s"},
        id="7",
        outputs=[{"name": "y", "parameters": {"binary_data": True}}, {"name": "z"}],
    )
    body = head + np.array([0.5, 2], np.float32).tobytes() + b"\x01\0\0\0\xff"
    call = parsed(body, len(head))

    assert ([[0.5, 2.0]], [7], [b"\xff"]) == tuple(column.array.tolist() for column in call.inputs.values())
    assert ("m", 3, "7", ("y", "z")) == (call.model, call.version, call.id, call.outputs)
    assert {"x": {"content_type": "np"}} == call.input_parameters
    assert (True, frozenset("y")) == (call.buffers, Wanted.of(call).buffers(call.outputs))
    with pytest.raises(DecodeError, match="2 bytes are left over"):
        parsed(body + b"ab", len(head))


def test_who_asks_for_buffers() -> None:
    """By one word for all outputs, which an output may contradict."""
    quiet, every = parsed(body_of()), parsed(body_of(parameters={"binary_data_output": True}))
    some = parsed(
        body_of(parameters={"binary_data_output": True}, outputs=[{"name": "y", "parameters": {"binary_data": False}}])
    )

    assert (False, True, True) == (quiet.buffers, every.buffers, some.buffers)
    assert (frozenset(), frozenset("yz"), frozenset("z")) == tuple(
        Wanted.of(call).buffers(["y", "z"]) for call in (quiet, every, some)
    )


@pytest.mark.parametrize("parameters", [{"shared_memory_region": "r", "shared_memory_byte_size": 4}])
def test_what_is_odd_is_not_read(parameters: dict[str, Any]) -> None:
    """Its tensors are not here; nor is an answer by classes ours to give."""
    call = parsed(body_of({"name": "x", "datatype": "FP32", "shape": [1], "parameters": parameters}))
    classes = parsed(body_of(outputs=[{"name": "y", "parameters": {"classification": 2}}]))

    assert ("shared memory", {}) == (call.odd, call.inputs)
    assert "the classification extension" == classes.odd


@pytest.mark.parametrize(
    ("header", "expected"), [(None, 4), ("0", 0), ("4", 4), ("5", None), ("-1", None), ("x", None), ("9" * 5000, None)]
)
def test_where_the_json_ends(header: str | None, expected: int | None) -> None:
    """Within the body, or it is refused."""
    if expected is not None:
        assert expected == v2_rest.json_length(header, b"abcd")
        return
    with pytest.raises(DecodeError, match="no length within the body of 4 bytes"):
        v2_rest.json_length(header, b"abcd")


def test_an_answer_as_json() -> None:
    """Flat, in the order that was asked for, with id and parameters; short numbers, NaN as Python writes it."""
    reply = Reply(
        {
            "f": ArrayColumn(np.array([[0.1, 1e10]], np.float32)),
            "n": ArrayColumn(np.array([np.nan, np.inf, 0.1])),
            "s": ArrayColumn(np.array([b"\xc3\xa9"], np.object_)),
            "h": ArrayColumn(np.array([0.5], np.float16)),
        },
        3,
    )
    reply.memo[Said] = Said("3", {"p": 1}, {"h": {"q": True}})
    body, length = v2_rest.encode_reply(reply, InferCall("m", None, "7", {}, ("s", "f", "n", "h")))

    assert length is None
    assert (
        b'{"model_name":"m","model_version":"3","id":"7","parameters":{"p":1},"outputs":['
        b'{"name":"s","datatype":"BYTES","shape":[1],"data":["\xc3\xa9"]},'
        b'{"name":"f","datatype":"FP32","shape":[1,2],"data":[0.1,10000000000.0]},'
        b'{"name":"n","datatype":"FP64","shape":[3],"data":[NaN, Infinity, 0.1]},'
        b'{"name":"h","datatype":"FP16","shape":[1],"parameters":{"q":true},"data":[0.5]}]}'
    ) == body


def test_bytes_that_json_cannot_carry() -> None:
    """The refusal says how they can be had."""
    reply = Reply({"s": ArrayColumn(np.array([b"\xff"], np.object_))}, 3)

    with pytest.raises(RequestError, match="'s' holds bytes that are no UTF-8.*ask for binary_data"):
        v2_rest.encode_reply(reply, InferCall("m", None, "", {}))


@pytest.mark.parametrize(
    ("body", "header"), [(b"{", None), (b'{"outputs": []}', "99"), (b'{"outputs": [{"name": "x"}]}', None)]
)
def test_answers_of_servers_that_are_none(body: bytes, header: str | None) -> None:
    """A protocol error, which names the server's answer; of a version nothing is known."""
    with pytest.raises(BackendProtocolError, match="the server's answer"):
        v2_rest.decode_reply(body, header)
    assert 0 == v2_rest.version_answered(body, header)
