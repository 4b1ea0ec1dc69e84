"""ModelStreamInfer's messages: answers, errors, and what requests say beside ModelInfer's."""

from __future__ import annotations

import pytest

from batchproxy.codecs import v2_streams
from batchproxy.protos import v2_pb2 as pb

RESPONSE = pb.ModelInferResponse(model_name="m", id="7")


def request(**parameters: pb.InferParameter) -> bytes:
    """A request with an id."""
    return pb.ModelInferRequest(model_name="m", id="7", parameters=parameters).SerializeToString()


@pytest.mark.parametrize(("wanted", "said"), [(None, False), (False, False), (True, True)])
def test_an_answer_says_that_it_is_the_last_where_that_is_wanted(wanted: bool | None, said: bool) -> None:
    """Clients of models with any number of answers ask for it."""
    parameters = {} if wanted is None else {v2_streams.WANTS_FINAL: pb.InferParameter(bool_param=wanted)}
    answer = v2_streams.encode_answer(request(**parameters), RESPONSE.SerializeToString())
    found = pb.ModelStreamInferResponse.FromString(answer)

    assert ("", "m", "7") == (found.error_message, found.infer_response.model_name, found.infer_response.id)
    assert said is ("triton_final_response" in found.infer_response.parameters)
    assert said is found.infer_response.parameters["triton_final_response"].bool_param


@pytest.mark.parametrize(("message", "id_"), [(request(), "7"), (b"\xff", "")])
def test_an_error_carries_the_id(message: bytes, id_: str) -> None:
    """Where there is one."""
    found = pb.ModelStreamInferResponse.FromString(v2_streams.encode_error(message, "no é"))

    assert ("no é", id_) == (found.error_message, found.infer_response.id)


def test_sequences() -> None:
    """Their requests are told from others."""
    assert v2_streams.of_sequence(request(sequence_id=pb.InferParameter(int64_param=4)))
    assert not v2_streams.of_sequence(request())
