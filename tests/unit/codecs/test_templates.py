"""Which requests a plan is made for; the law that it holds by is in tests/property/test_templates.py."""

from __future__ import annotations

import numpy as np
import pytest

from batchproxy.codecs import templates as module
from batchproxy.codecs import tensor_proto, tfs_grpc
from batchproxy.codecs.templates import Plan, Templates
from batchproxy.core.columns import Array, ArrayColumn, Columns, ListColumn, PackedColumn
from batchproxy.core.shapes import UNDECLARED
from batchproxy.protos import tfs_pb2 as pb


def request_of(array: Array, *, model: str = "m") -> pb.PredictRequest:
    """A request with one input, as a raw buffer."""
    request = pb.PredictRequest()
    request.model_spec.name = model
    tensor = request.inputs["x"]
    tensor_proto.write_head(array, tensor)
    tensor.tensor_content = array.tobytes()
    return request


def columns_of(message: bytes) -> Columns:
    """Its inputs, read in the general way."""
    return tfs_grpc.decode_inputs(tfs_grpc.parse_predict(message), UNDECLARED)


def learned(*found: bytes) -> Templates[int]:
    """Templates that met each message twice; the plans' values are their numbers."""
    templates: Templates[int] = Templates()
    for number, message in enumerate(found):
        for _ in range(2):
            templates.learn(message, columns_of(message), number)
    return templates


def plan_of(message: bytes) -> Plan[int] | None:
    """What is found for a message that came twice before."""
    return learned(message).find(message)


ROW = np.arange(3, dtype=np.float32).reshape(1, 3)
ONE = request_of(ROW).SerializeToString()
TWO = request_of(ROW + 1).SerializeToString()


def test_requests_that_differ_in_numbers_share_a_plan() -> None:
    """And the numbers stay where they are until somebody wants an array."""
    plan = learned(ONE).find(TWO)

    assert plan is not None
    column = plan.columns(TWO)["x"]
    assert isinstance(column, PackedColumn)
    assert (ROW + 1).tobytes() == column.data
    assert [[1.0, 2.0, 3.0]] == column.array.tolist()


def test_a_length_that_comes_once_is_not_worth_a_plan() -> None:
    """Most lengths of requests whose lengths vary never come again."""
    templates: Templates[int] = Templates()
    templates.learn(ONE, columns_of(ONE), 1)

    assert templates.find(TWO) is None


def test_other_models_and_shapes_of_one_length_have_plans_of_their_own() -> None:
    """What is not numbers is compared, byte by byte."""
    other_model = request_of(ROW, model="n").SerializeToString()
    other_shape = request_of(ROW.reshape(3, 1)).SerializeToString()
    templates = learned(ONE, other_model, other_shape)
    found = [templates.find(message) for message in (TWO, other_model, other_shape)]

    assert len(ONE) == len(other_model) == len(other_shape)
    assert [0, 1, 2] == [plan.value for plan in found if plan is not None]


def test_what_follows_the_numbers_is_compared_too() -> None:
    """An output filter comes after the inputs."""
    requests = [request_of(ROW) for _ in range(2)]
    for request, name in zip(requests, "yz", strict=True):
        request.output_filter.append(name)
    one, other = (request.SerializeToString() for request in requests)
    templates = learned(one)

    assert templates.find(one) is not None
    assert templates.find(other) is None


def test_large_buffers_are_not_copied() -> None:
    """From a few KiB on a view costs less."""
    message = request_of(np.zeros((2, 4096), np.float32)).SerializeToString()
    plan = plan_of(message)

    assert plan is not None
    column = plan.columns(message)["x"]
    assert isinstance(column, PackedColumn)
    assert isinstance(column.data, memoryview)
    assert (2, 4096) == column.array.shape


def test_packed_floats_count_as_numbers_too() -> None:
    """float_val holds what tensor_content would."""
    request = pb.PredictRequest()
    request.model_spec.name = "m"
    tensor = request.inputs["x"]
    tensor.dtype = 1
    tensor.tensor_shape.dim.add().size = 2
    tensor.float_val.extend([1.0, 2.0])
    message = request.SerializeToString()
    plan = plan_of(message)

    assert plan is not None
    assert plan.columns(message)["x"].array.tolist() == [1.0, 2.0]


def _spec_twice() -> bytes:
    return ONE + pb.PredictRequest(model_spec=pb.ModelSpec(name="m")).SerializeToString()


def _input_twice() -> bytes:
    return ONE + pb.PredictRequest.FromString(ONE).SerializeToString()[len(b"\x0a\x03\x0a\x01m") :]


def _unknown_field() -> bytes:
    return ONE + b"\xf8\x06\x01"


def _fixed_field() -> bytes:
    return ONE + b"\xfd\x06abcd"


def _tensor(**fields: object) -> bytes:
    request = pb.PredictRequest.FromString(ONE)
    for name, value in fields.items():
        field = getattr(request.inputs["x"], name)
        field.extend(value) if isinstance(value, list) else setattr(request.inputs["x"], name, value)
    return request.SerializeToString()


def _no_key() -> bytes:
    tensor = pb.PredictRequest.FromString(ONE).inputs["x"].SerializeToString()
    entry = b"\x12" + bytes([len(tensor)]) + tensor
    return b"\x0a\x03\x0a\x01m\x12" + bytes([len(entry)]) + entry


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(_spec_twice(), id="a model spec twice: they are merged"),
        pytest.param(_input_twice(), id="an input twice: the last one counts"),
        pytest.param(_unknown_field(), id="a field we do not know"),
        pytest.param(_fixed_field(), id="a field of a kind that none of ours is"),
        pytest.param(_tensor(float_val=[7.0]), id="numbers in two places"),
        pytest.param(_tensor(half_val=[1]), id="a tensor with numbers of another type beside"),
        pytest.param(_no_key(), id="an input without a name"),
        pytest.param(request_of(np.array([[True]])).SerializeToString(), id="booleans: two of 256 values are valid"),
        pytest.param(request_of(np.zeros((), np.float32)).SerializeToString(), id="a scalar has no rows"),
        pytest.param(request_of(np.zeros((0, 3), np.float32)).SerializeToString(), id="no rows"),
        pytest.param(request_of(ROW, model="m" * 5000).SerializeToString(), id="too much to compare"),
    ],
)
def test_unsure(message: bytes) -> None:
    """What is not of the usual build is read in the general way, each time."""
    assert plan_of(message) is None


def test_values_that_are_left_out_are_no_plan() -> None:
    """One number that stands for three is not three numbers."""
    request = pb.PredictRequest.FromString(ONE)
    request.inputs["x"].tensor_content = b""
    request.inputs["x"].float_val.append(1.0)

    assert plan_of(request.SerializeToString()) is None


def test_columns_that_are_no_arrays_are_no_plan() -> None:
    """Only arrays can be told to be what the message holds."""
    templates: Templates[int] = Templates()
    for _ in range(2):
        templates.learn(ONE, {"x": ListColumn([1])}, 1)

    assert templates.find(ONE) is None


def test_no_inputs_no_plan() -> None:
    """There is nothing to slice."""
    message = pb.PredictRequest(model_spec=pb.ModelSpec(name="m")).SerializeToString()

    assert plan_of(message) is None


def test_forgetting() -> None:
    """When a model changed, nothing that was found out holds."""
    templates = learned(ONE)
    templates.forget()

    assert templates.find(ONE) is None


def test_the_store_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kinds in all, kinds of one length, and lengths that came once."""
    monkeypatch.setattr(module, "MAX_PLANS", 3)
    monkeypatch.setattr(module, "MAX_PLANS_A_LENGTH", 2)
    same_length = [request_of(ROW, model=name).SerializeToString() for name in "abc"]
    templates = learned(*same_length)
    of_one_length = [templates.find(message) is not None for message in same_length]
    longer = [request_of(ROW, model="m" * size).SerializeToString() for size in range(2, 7)]
    templates = learned(*longer)

    assert [False, False, True] == of_one_length
    assert [False, False, False, True, True] == [templates.find(message) is not None for message in longer]


def test_a_name_that_is_no_text_is_no_plan() -> None:
    """Protobuf would not have let it pass."""
    broken = ONE.replace(b"\x0a\x01x", b"\x0a\x01\xff")
    templates: Templates[int] = Templates()
    for _ in range(2):
        templates.learn(broken, {"x": ArrayColumn(ROW)}, 1)

    assert templates.find(broken) is None


@pytest.mark.parametrize("cut", range(1, 25))
def test_a_message_that_ends_early_is_no_plan(cut: int) -> None:
    """Nor does learning from one raise anything, whoever hands it in."""
    broken = ONE[:-cut] + b"\xff" * (cut % 3)
    templates: Templates[int] = Templates()
    for _ in range(2):
        templates.learn(broken, {"x": ArrayColumn(ROW)}, 1)

    assert templates.find(broken) is None
