"""What Triton's configuration says of batches, and what is merged by it: against a real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from batchproxy.backends.v2_server import is_frail
from batchproxy.codecs import tfs_calls, tfs_grpc, v2_grpc
from tests.proxy import ask
from tests.servers import callers
from tests.servers.callers import same, some_inputs
from tests.servers.fixture import RealServer, running_servers
from tests.servers.test_matrix import front
from tests.servers.zoo import ALONE

CROWD = 16


def counted(server: RealServer, model: str) -> dict[str, int]:
    """How many calls of a model Triton ran, the rows they had (where it batches), and how many it refused."""
    (stats,) = json.loads(ask(f"http://{server.rest}/v2/models/{model}/stats")[1])["model_stats"]
    found: dict[str, Any] = stats
    return {
        "calls": found["execution_count"],
        "rows": found["inference_count"],
        "refused": found["inference_stats"]["fail"]["count"],
    }


@pytest.mark.parametrize("door", ["grpc", "rest"])
def test_no_batch_is_larger_than_triton_takes(servers: dict[str, RealServer], door: str) -> None:
    """``capped`` takes four rows: it is not learned from refusals, for there are none."""
    server = servers["triton"]

    def right(number: int) -> bool:
        inputs = some_inputs("INT64", 1, number)
        expected = {"y": inputs["x"][:, ::-1], "row": inputs["row"]}
        return same(expected, callers.tfs_grpc_call(before.through, "capped", inputs))

    with front(server, door) as before, ThreadPoolExecutor(CROWD) as crowd:
        assert right(0)  # the model is known now
        begun, number = counted(server, "capped"), 1
        while (now := counted(server, "capped"))["calls"] > now["rows"] - begun["rows"] + begun["calls"] - 8:
            assert all(crowd.map(right, range(number, number + 4 * CROWD)))
            number += 4 * CROWD

    assert begun["refused"] == now["refused"]
    assert now["calls"] - begun["calls"] >= (now["rows"] - begun["rows"]) / 4


def test_a_model_that_triton_does_not_batch(servers: dict[str, RealServer]) -> None:
    """``max_batch_size: 0`` and an open first axis: its callers share calls, though not by Triton's doing."""
    server = servers["triton"]

    def right(number: int) -> bool:
        inputs = some_inputs("INT32", 1, number)
        expected = {"y": inputs["x"][:, ::-1], "row": inputs["row"]}
        return same(expected, callers.v2_grpc_call(before.through, "echo_int32", inputs))

    with front(server, "grpc") as before, ThreadPoolExecutor(CROWD) as crowd:
        assert right(0)
        begun, asked = counted(server, "echo_int32")["calls"], 0
        while counted(server, "echo_int32")["calls"] - begun > asked - 8:
            assert all(crowd.map(right, range(asked, asked + 4 * CROWD)))
            asked += 4 * CROWD

    assert asked


@pytest.fixture(scope="module")
def strict() -> Iterator[RealServer]:
    """A Triton whose models take so many rows, and no others."""
    with running_servers(["triton"], tuple(ALONE)) as found:
        yield found["triton"]


@pytest.mark.parametrize("door", ["grpc", "rest"])
@pytest.mark.parametrize(("model", "rows", "says"), [("pairs", 2, "unexpected shape"), ("ones", 1, "must be <= 1")])
def test_models_of_which_nothing_can_be_merged(strict: RealServer, door: str, model: str, rows: int, says: str) -> None:
    """A fixed first axis without batching, and ``max_batch_size: 1``: as many calls as callers, and no refusal."""

    def right(number: int) -> bool:
        inputs = some_inputs("INT64", rows, number)
        expected = {"y": inputs["x"][:, ::-1], "row": inputs["row"]}
        kind = tuple(callers.CALLERS)[number % len(callers.CALLERS)]
        return same(callers.wanted(kind, expected), callers.CALLERS[kind](before.through, model, inputs))

    with front(strict, door) as before, ThreadPoolExecutor(CROWD) as crowd:
        assert right(0)  # the model is known now
        begun, refused = before.proxy.metric("batchproxy_backend_calls_total"), counted(strict, model)["refused"]
        assert all(crowd.map(right, range(4 * CROWD)))
        calls = before.proxy.metric("batchproxy_backend_calls_total") - begun
        assert refused == counted(strict, model)["refused"]
        with pytest.raises(callers.Refused, match=says):
            callers.v2_grpc_call(before.through, model, some_inputs("INT64", rows + 1, 0))
        question = tfs_calls.encode_metadata_request(model, None)
        answer = callers.call(before.through.channel, tfs_grpc.GET_MODEL_METADATA, question)
        signature = tfs_calls.decode_metadata_reply(answer).signatures["serving_default"]

    assert 4 * CROWD == calls
    assert not signature.batchable or model == "ones"  # of which the shape that the server shows is open


def test_the_version_that_does_not_survive_impatience_is_known(servers: dict[str, RealServer]) -> None:
    """What the real one says of itself is read; this one is older than 2.57."""
    with grpc.insecure_channel(servers["triton"].grpc) as channel:
        said = channel.unary_unary(v2_grpc.SERVER_METADATA)(b"", timeout=60)

    assert is_frail(*v2_grpc.decode_server_metadata(said))
