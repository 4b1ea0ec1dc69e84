"""Servers of one pool that change versions, each at its own time.

Questions reach one that has the model, and no answer is made of two versions, or of what was true over a second ago.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_management_pb2

from batchproxy.catalogue import MAX_AGE_S
from batchproxy.codecs import tfs_calls, tfs_grpc
from batchproxy.protos import tfs_pb2 as pb
from tests.proxy import Proxy, running_in_front_of
from tests.remote import PLUG, predict_message, until_merged
from tests.tfserving.fixture import Server, running_server

MODEL = "m"
PATH = f"/v1/models/{MODEL}"
HALF, INTEGERS = "half_plus_two", "int64_model"


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Server]]:
    """Two of them; each test configures both."""
    with running_server(models=[PLUG]) as one, running_server(models=[PLUG]) as other:
        yield [one, other]


def configure(server: Server, folder: str | None, version: int = 1) -> None:
    """Let a server have the model in this version, or not at all."""
    request = model_management_pb2.ReloadConfigRequest()
    models = request.config.model_config_list.config
    models.add(name=PLUG, base_path=PLUG, model_platform="tensorflow")
    if folder is not None:
        model = models.add(name=MODEL, base_path=folder, model_platform="tensorflow")
        model.model_version_policy.specific.versions.append(version)
    with grpc.insecure_channel(server.grpc) as channel:
        channel.unary_unary(tfs_grpc.RELOAD_CONFIG)(request.SerializeToString(), timeout=30)


@pytest.mark.parametrize("doors", [["grpc", "rest"], ["grpc"]], ids="+".join)
@pytest.mark.parametrize("has", [0, 1])
def test_a_question_is_answered_by_a_server_that_has_the_model(
    servers: list[Server], doors: list[str], has: int
) -> None:
    """However often it is asked, and by whatever door; a model that none has is not found."""
    for number, server in enumerate(servers):
        configure(server, HALF if number == has else None)
    status, metadata = tfs_calls.encode_status_request(MODEL, None), tfs_calls.encode_metadata_request(MODEL, None)
    with running_in_front_of(servers, doors=doors) as proxy, grpc.insecure_channel(proxy.grpc) as channel:
        rest = [json.loads(proxy.get(proxy.rest + path)[1]) for path in [PATH, f"{PATH}/metadata"] * 4]
        states = [channel.unary_unary(tfs_grpc.GET_MODEL_STATUS)(status, timeout=30) for _ in range(4)]
        infos = [channel.unary_unary(tfs_grpc.GET_MODEL_METADATA)(metadata, timeout=30) for _ in range(4)]
        configure(servers[has], None)
        gone = proxy.get(f"{proxy.rest}/v1/models/nobodys")

    assert ["1", "1"] * 4 == [version_in(document) for document in rest]
    assert {1} == {
        get_model_status_pb2.GetModelStatusResponse.FromString(m).model_version_status[0].version for m in states
    }
    assert {1} == {
        get_model_metadata_pb2.GetModelMetadataResponse.FromString(message).model_spec.version.value
        for message in infos
    }
    assert (404, {"error": "Could not find any versions of model nobodys"}) == (gone[0], json.loads(gone[1]))


def version_in(document: Any) -> str:
    """What a status or metadata document says."""
    spec = document["model_spec"] if "model_spec" in document else document["model_version_status"][0]
    return str(spec["version"])


def asked_at_once(proxy: Proxy, numbers: Sequence[int]) -> list[tuple[int, Any]]:
    """A row each over REST: status and document."""
    with ThreadPoolExecutor(16) as callers:
        posts = callers.map(lambda number: proxy.post(f"{PATH}:predict", {"instances": [number]}), numbers)
        return [(status, json.loads(body)) for status, body in posts]


@pytest.mark.parametrize("doors", [["grpc", "rest"], ["grpc"]], ids="+".join)
def test_while_servers_are_replaced_every_answer_is_of_one_version(servers: list[Server], doors: list[str]) -> None:
    """Half plus two, and half plus three: an answer over gRPC names the version that made it; no call fails."""
    for server in servers:
        configure(server, "multi_version", 1)
    numbers = [*range(48)]
    messages = [predict_message(MODEL, {"x": np.array([number], np.float32)}) for number in numbers]
    found: list[list[tuple[int, Any]]] = []
    answers: list[list[bytes]] = []
    with running_in_front_of(servers, doors=doors) as proxy, grpc.insecure_channel(proxy.grpc) as channel:
        until_merged(proxy, MODEL, partial(asked_at_once, proxy, [1]))
        predict = partial(channel.unary_unary(tfs_grpc.PREDICT), timeout=30)
        for changed in (None, *servers):
            if changed is not None:
                configure(changed, "multi_version", 2)
            found.append(asked_at_once(proxy, numbers))
            with ThreadPoolExecutor(16) as callers:
                answers.append(list(callers.map(predict, messages)))

    for right, rest in zip(({2}, {2, 3}, {3}), found, strict=True):
        assert {200} == {status for status, _ in rest}
        assert {row["predictions"][0] - number / 2 for number, (_, row) in zip(numbers, rest, strict=True)} <= right
    for versions, several in zip(({1}, {1, 2}, {2}), answers, strict=True):
        parsed = [pb.PredictResponse.FromString(answer) for answer in several]
        # Which server is asked while they differ is the balancer's choice: one may do.
        assert {answer.model_spec.version.value for answer in parsed} <= versions
        assert [
            number / 2 + 1 + answer.model_spec.version.value for number, answer in zip(numbers, parsed, strict=True)
        ] == [answer.outputs["y"].float_val[0] for answer in parsed]


@pytest.mark.parametrize("idle", [False, True], ids=["in use", "idle"])
def test_what_is_decided_upon_is_not_older_than_a_second(servers: list[Server], idle: bool) -> None:
    """A model's types change: JSON is read by the new ones a second later, without a call that shows the old ones."""
    for server in servers:
        configure(server, INTEGERS)
    with running_in_front_of(servers, doors=["grpc"]) as proxy:
        before = asked_at_once(proxy, [1, 2, 3])
        for server in servers:
            configure(server, HALF)
        switched = time.monotonic()
        while time.monotonic() < switched + MAX_AGE_S:
            if idle:
                proxy.get(f"{proxy.admin}/healthz")
            else:
                asked_at_once(proxy, [1])
        after = asked_at_once(proxy, [1, 2, 3])

    assert [(200, {"predictions": [2 * number + 1]}) for number in (1, 2, 3)] == before
    assert [(200, {"predictions": [number / 2 + 2]}) for number in (1, 2, 3)] == after


@pytest.mark.parametrize("door", ["grpc", "rest"])
def test_statistics_of_a_version_are_its_own(servers: list[Server], door: str) -> None:
    """Calls name no version: those of the former one are not counted for its successor."""
    server = servers[0]
    configure(server, "multi_version", 1)
    with running_in_front_of([server], doors=[door]) as proxy:

        def counted() -> dict[str, int]:
            found = json.loads(proxy.get(f"{proxy.rest}/v2/models/{MODEL}/stats")[1])["model_stats"]
            return {one["version"]: one["inference_count"] for one in found}

        until_merged(proxy, MODEL, partial(asked_at_once, proxy, [1]))
        known = counted()
        asked_at_once(proxy, [*range(40)])
        before = counted()
        configure(server, "multi_version", 2)
        since = 0
        while "1" in (after := counted()):
            asked_at_once(proxy, [1])
            since += 1

    assert ["1"] == [*known]
    assert {"1": known["1"] + 40} == before
    assert ["2"] == [*after]
    assert after["2"] <= since
