"""A model of Triton's that gives several answers to one request, or none, behind the proxy."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from batchproxy.codecs import v2_grpc
from batchproxy.protos import v2_pb2 as pb
from tests.servers import callers
from tests.servers.callers import CALLERS, Place, columns_of, key_of
from tests.servers.fixture import RealServer, python_of, running_servers
from tests.servers.test_matrix import CROWD, Front, front
from tests.servers.test_streams import SCRIPT
from tests.servers.zoo import DECOUPLED

MODEL = "countdown"
REFUSES = "doesn't support models with decoupled transaction policy"


@pytest.fixture(scope="module")
def triton() -> Iterator[RealServer]:
    """With nothing else."""
    with running_servers(["triton"], tuple(DECOUPLED)) as found:
        yield found["triton"]


@pytest.fixture(scope="module", params=["grpc", "both"])
def before(request: pytest.FixtureRequest, triton: RealServer) -> Iterator[Front]:
    """A proxy that knows Triton's gRPC door."""
    with front(triton, request.param) as found:
        yield found


def inputs(steps: int, row: int = 7) -> callers.Inputs:
    """One row, which is to get so many answers."""
    return {"x": np.array([[steps]]), "row": np.array([[row]])}


@pytest.mark.parametrize("final", [(), ("FINAL",)])
def test_tritonclient(before: Front, triton: RealServer, final: tuple[str, ...]) -> None:
    """Each answer under its request's id, in order; as by a stream of Triton's own."""

    def answers(place: str) -> Any:
        script = SCRIPT.with_name("tritonclient_decoupled.py")
        line = [str(python_of("triton")), str(script), place, *final]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr
        return json.loads(done.stdout)

    direct, through = answers(triton.grpc), answers(before.proxy.grpc)
    (refused,) = through["refused"]

    assert direct == through
    assert [[[[step]], [[0]]] for step in (2, 1, 0)] == [answer[:2] for answer in through["id-0"][:3]]
    assert "-1 is below zero" in refused
    assert [answer[-1] for answer in through["id-0"]] == [False, False, False, *([True] if final else [])]


def streamed(place: Place, *messages: bytes) -> tuple[list[bytes], grpc.StatusCode]:
    """What comes, as it comes, and how the stream ends."""
    call = place.channel.stream_stream(v2_grpc.MODEL_STREAM_INFER)(iter(messages), timeout=60)
    return list(call), call.code()


def a_message(steps: int, call_id: bytes) -> bytes:
    """A request of one row."""
    message = v2_grpc.encode_infer_request(key_of(MODEL), columns_of(inputs(steps)))
    return message + b"\x1a" + bytes([len(call_id)]) + call_id


def test_each_answer_is_the_servers_own(before: Front) -> None:
    """To the byte, whatever is in it."""
    messages = [a_message(4, b"first"), a_message(2, b"second"), a_message(-1, b"third")]
    found = [[streamed(place, message) for message in messages] for place in (before.direct, before.through)]
    ids = [[pb.ModelStreamInferResponse.FromString(one).infer_response.id for one in said] for said, _ in found[1]]

    assert found[0] == found[1]
    assert [["first"] * 4, ["second"] * 2, ["third"]] == ids


def refusal(place: Place, caller: str) -> tuple[int, str]:
    """Code and text."""
    with pytest.raises(callers.Refused) as caught:
        CALLERS[caller](place, MODEL, inputs(1))
    return caught.value.status, caught.value.text


@pytest.mark.parametrize("caller", ["v2-grpc", "v2-rest-json", "v2-rest-binary"])
def test_a_plain_call_gets_the_servers_own_error(triton: RealServer, caller: str) -> None:
    """Alone and in company, each by itself: there is nothing that could be merged."""
    with front(triton, "both") as before, ThreadPoolExecutor(CROWD) as crowd:
        direct, alone = (refusal(place, caller) for place in (before.direct, before.through))
        together = list(crowd.map(lambda _: refusal(before.through, caller), range(CROWD)))

    assert REFUSES in direct[1]
    assert [direct] * (1 + CROWD) == [alone, *together]


@pytest.mark.parametrize("caller", ["tfs-grpc", "tfs-rest-rows", "v2-rest-json"])
def test_who_speaks_another_protocol_is_told_the_same(before: Front, caller: str) -> None:
    """UNIMPLEMENTED, in Triton's words."""
    status, text = refusal(before.through, caller)

    assert REFUSES in text
    assert status in {12, 400, 501}


def test_without_a_grpc_door(triton: RealServer) -> None:
    """A stream's messages are calls of REST then, which Triton refuses: each message is told."""
    with front(triton, "rest") as before:
        said, code = streamed(before.through, a_message(1, b"first"), a_message(2, b"second"))
    answers = [pb.ModelStreamInferResponse.FromString(one) for one in said]

    assert grpc.StatusCode.OK is code
    assert ["first", "second"] == [answer.infer_response.id for answer in answers]
    assert [True, True] == [REFUSES in answer.error_message for answer in answers]
