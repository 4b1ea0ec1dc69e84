"""What Triton's configuration says of batches, and what is merged by it: against a real one."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.proxy import ask
from tests.servers import callers
from tests.servers.callers import same, some_inputs
from tests.servers.fixture import RealServer
from tests.servers.test_matrix import front

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
