"""What a call of the Open Inference Protocol asks, apart from how it was written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from batchproxy.codecs import v2_calls
from batchproxy.codecs.v2_calls import InferCall, Said
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import Code, DecodeError, RequestError
from batchproxy.core.request import Reply, Share
from batchproxy.core.shapes import UNDECLARED, ModelInfo, Signature, TensorSpec

FLOATS = TensorSpec("float32", (None, 2))
SIGNATURE = Signature({"x": FLOATS, "n": TensorSpec("int64", (None,))}, {"y": FLOATS, "z": TensorSpec("bool", (None,))})


def a_call(**changes: Any) -> InferCall:
    """A call that fits ``SIGNATURE``."""
    inputs = {"x": ArrayColumn(np.zeros((3, 2), np.float32)), "n": ArrayColumn(np.zeros(3, np.int64))}
    return InferCall(**({"model": "m", "version": None, "id": "", "inputs": inputs} | changes))


@pytest.mark.parametrize(
    ("parameters", "priority", "timeout_s", "sequence", "signature"),
    [
        ({}, None, None, False, "serving_default"),
        ({"priority": 0, "timeout": 0, "sequence_id": 0}, None, None, False, "serving_default"),
        ({"priority": 1, "timeout": 250_000}, 0, 0.25, False, "serving_default"),
        ({"priority": 9, "sequence_id": 7}, 2, None, True, "serving_default"),
        ({"priority": True, "timeout": "soon", "sequence_id": "a"}, None, None, True, "serving_default"),
        ({"signature_name": "regress"}, None, None, False, "regress"),
        ({"signature_name": 3}, None, None, False, "serving_default"),
    ],
)
def test_parameters_that_we_answer_for(
    parameters: dict[str, Any], priority: int | None, timeout_s: float | None, sequence: bool, signature: str
) -> None:
    """Triton's priorities count from 1, its timeouts microseconds; what is no number is none."""
    call = a_call(parameters=parameters)

    assert (priority, timeout_s, sequence, signature) == (
        call.priority,
        call.timeout_s,
        call.sequence,
        call.signature_name,
    )


def test_what_is_left_of_the_parameters_is_the_key() -> None:
    """In any order; without what says how bytes are sent; and read again as it was."""
    first = a_call(parameters={"a": 1, "b": True, "binary_data_output": True}, input_parameters={"x": {"c": "d"}})
    second = a_call(parameters={"b": True, "a": 1, "priority": 2}, input_parameters={"x": {"c": "d"}})
    other = a_call(parameters={"b": True, "a": 1.0}, input_parameters={"x": {"c": "d"}})
    extras = first.extras()

    assert extras == second.extras()
    assert extras != other.extras()
    assert extras is not None
    assert ({"a": 1, "b": True}, {"x": {"c": "d"}}) == v2_calls.read_extras(extras)
    assert (b"", ({}, {})) == (a_call().extras(), v2_calls.read_extras(b""))


def test_a_parameter_that_no_key_can_hold_travels_alone() -> None:
    """NaN is not equal to itself."""
    call = a_call(parameters={"a": float("nan")})
    request = v2_calls.infer_request(call, "m", 1, SIGNATURE, extras=call.extras())

    assert call.extras() is None
    assert request.rows is None


def test_a_sequence_is_never_batched() -> None:
    """R3; the same call without one is."""
    alone = a_call(parameters={"sequence_id": 5})

    assert v2_calls.infer_request(alone, "m", 1, SIGNATURE, extras=b"").rows is None
    assert 3 == v2_calls.infer_request(a_call(), "m", 1, SIGNATURE, extras=b"").rows


def test_all_outputs_by_name_are_all_outputs() -> None:
    """So that those who name them ride with those who do not."""
    requests = [
        v2_calls.infer_request(a_call(outputs=outputs), "m", 1, SIGNATURE, extras=b"e")
        for outputs in ((), ("z", "y"), ("z",))
    ]

    assert requests[0].key == requests[1].key
    assert (None, ("z",), b"e") == (requests[0].key.outputs, requests[2].key.outputs, requests[2].key.extras)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"inputs": {"w": ArrayColumn(np.zeros(3))}}, "has no input 'w'; it has: n, x"),
        ({"inputs": {"n": ArrayColumn(np.zeros(3, np.int64))}}, "input 'x' is missing"),
        (
            {"inputs": {"x": ArrayColumn(np.zeros((3, 2)))}},
            "input 'x' of model 'm' is of datatype FP64, the model takes FP32",
        ),
        ({"outputs": ("w",)}, "has no output 'w'; it has: y, z"),
        ({"outputs": ("y", "y")}, "output 'y' is asked for twice"),
    ],
)
def test_calls_that_do_not_fit_are_refused(changes: dict[str, Any], text: str) -> None:
    """By name, with what would be right."""
    with pytest.raises(RequestError) as refused:
        v2_calls.infer_request(a_call(**changes), "m", 1, SIGNATURE, extras=b"")

    assert text in refused.value.message


def test_a_model_that_takes_what_the_protocol_lacks() -> None:
    """The refusal says so, instead of a type that nobody can send."""
    signature = Signature({"x": TensorSpec("complex64", (None,))}, {})
    call = a_call(inputs={"x": ArrayColumn(np.zeros(3, np.float32))})

    with pytest.raises(RequestError, match="DT_COMPLEX64, which has no counterpart"):
        v2_calls.infer_request(call, "m", 1, signature, extras=b"")


def test_a_model_that_says_nothing_takes_anything() -> None:
    """Names, types and outputs as they come."""
    call = a_call(inputs={"w": ArrayColumn(np.zeros(3))}, outputs=("w",))

    assert 3 == v2_calls.infer_request(call, "m", 1, UNDECLARED, extras=b"").rows


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"shared_memory_region": "r"}, "shared memory"),
        ({"classification": 3}, "the classification extension"),
        ({"classification": 0, "binary_data": True}, ""),
    ],
)
def test_what_only_a_server_can_answer(parameters: dict[str, Any], why: str) -> None:
    """It is refused where there is none."""
    assert why == v2_calls.oddity(parameters)
    call = a_call(odd=why)
    if not why:
        call.refuse_odd()
        return
    with pytest.raises(RequestError, match=why) as refused:
        call.refuse_odd()
    assert Code.UNIMPLEMENTED is refused.value.code


def test_versions_as_text() -> None:
    """Numbers, labels, none; a number beyond 64 bits is none of them."""
    versions = [v2_calls.version_of(text) for text in ("3", "", "stable", "٣")]

    assert [3, None, "stable", "٣"] == versions
    assert ["3", "", "stable"] == [v2_calls.version_text(version) for version in versions[:3]]
    for text in (str(2**63), "9" * 40):
        with pytest.raises(DecodeError, match="beyond 64 bits"):
            v2_calls.version_of(text)


def test_what_a_server_said_is_kept_with_its_answer() -> None:
    """For each share of it; an answer of another protocol says its version at most."""
    whole = Reply({"y": ArrayColumn(np.zeros(2))}, 3)
    before = v2_calls.said(Share(whole, 0, 1))
    whole.memo[Said] = Said("3-beta", {"a": 1})

    assert Said("3") == before
    assert Said("3-beta", {"a": 1}) == v2_calls.said(Share(whole, 1, 2)) == v2_calls.said(whole)
    assert "" == v2_calls.said(Reply({}, 0)).version


def test_signatures_by_name() -> None:
    """What there is is listed where one is missing."""
    info = ModelInfo("m", 1, {"serving_default": SIGNATURE})

    assert SIGNATURE is v2_calls.signature_of(info, "serving_default")
    with pytest.raises(RequestError, match="no signature 'x'; it has: serving_default"):
        v2_calls.signature_of(info, "x")


def test_specs_become_sizes_and_come_back() -> None:
    """-1 is open; an unknown rank, which the protocol cannot say, becomes one open axis."""
    sizes = [v2_calls.sizes_of(spec) for spec in (FLOATS, TensorSpec("bool", ()), TensorSpec("bool"))]

    assert [[-1, 2], [], [-1]] == sizes
    assert FLOATS == v2_calls.spec_of("x", "FP32", [-1, 2])
    with pytest.raises(DecodeError, match="'FP8'"):
        v2_calls.spec_of("x", "FP8", [])


def test_the_highest_version_is_the_one() -> None:
    """Of those that are numbers."""
    found = [v2_calls.info_of("m", versions, {}, {}).version for versions in (["2", "10", "v3"], [], ["x"])]

    assert [10, 0, 0] == found
    assert [7, 0] == [v2_calls.version_number("7"), v2_calls.version_number("9" * 30)]


@pytest.mark.parametrize(
    ("dtype", "shape", "data", "expected"),
    [
        ("float32", (None, 2), bytes(16), [[0.0, 0.0], [0.0, 0.0]]),
        ("int8", (None, None), b"\x01\x02", [[1, 2]]),
        ("int8", (3,), b"\x01\x02\x03", [1, 2, 3]),
        ("string", (None,), b"\x01\0\0\0abc", [b"\x01\0\0\0abc"]),
    ],
)
def test_a_request_without_json(dtype: str, shape: tuple[int | None, ...], data: bytes, expected: object) -> None:
    """Its bytes are the model's only input."""
    call = a_call(inputs={}, whole=data)
    v2_calls.read_whole(call, "m", Signature({"x": TensorSpec(dtype, shape)}, {}))

    assert expected == call.inputs["x"].array.tolist()


@pytest.mark.parametrize(
    ("specs", "data", "text"),
    [
        ({}, b"a", "exactly one input"),
        ({"x": FLOATS, "n": FLOATS}, b"a", "exactly one input"),
        ({"x": FLOATS}, b"abc", "cannot be told from 3 bytes"),
        ({"x": TensorSpec("float32")}, b"abcd", "cannot be told"),
        ({"x": TensorSpec("int8", (None, 0))}, b"abcd", "cannot be told"),
        ({"x": TensorSpec("int8", (2, None, None))}, b"abcd", "cannot be told"),
        ({"x": TensorSpec("string", (None, 2))}, b"abcd", "cannot be told"),
        ({"x": TensorSpec("int8", (3,))}, b"abcd", "4 bytes are no INT8 of shape"),
        ({"x": TensorSpec("complex64", (None,))}, b"abcd", "no counterpart"),
    ],
)
def test_requests_without_json_that_their_model_does_not_describe(
    specs: dict[str, TensorSpec], data: bytes, text: str
) -> None:
    """Too few bytes, too many open axes, several inputs."""
    with pytest.raises(RequestError, match=text):
        v2_calls.read_whole(a_call(inputs={}, whole=data), "m", Signature(specs, {}))


def test_a_request_with_json_is_left_alone() -> None:
    """Whatever its model takes."""
    call = a_call()
    v2_calls.read_whole(call, "m", SIGNATURE)

    assert ["x", "n"] == list(call.inputs)
