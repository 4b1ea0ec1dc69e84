"""Calls of the Open Inference Protocol on their way: which words they go in, and what may share a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from batchproxy.codecs import tfs_calls, tfs_grpc, v2_documents, v2_grpc
from batchproxy.codecs.v2_calls import InferCall
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import BatchProxyError, Code, UnknownModel
from batchproxy.core.raw import GRPC, REST, RawCall
from batchproxy.core.request import Reply
from batchproxy.core.shapes import ModelInfo, Signature
from batchproxy.frontends import v2_bridge
from batchproxy.frontends.call import Call
from batchproxy.frontends.directory import Directory
from batchproxy.frontends.remote import RemoteModel
from batchproxy.frontends.v2_bridge import Calls, InfoFormat, Told
from batchproxy.tasks import Tasks
from tests.listening import until
from tests.remotes import RAW_METADATA, FakeServer, a_remote_pool, in_front_of
from tests.serving import Recorder, a_directory
from tests.v2_scenes import ABSENT, FLOATS, INFO, MODEL, V2Server, a_v2_pool

RAW = RawCall(REST, "POST", "/v2/models/half_plus_two/infer", (("authorization", "a"),), b"{}")


class Format:
    """Keeps what it is told."""

    def __init__(self, told: Told) -> None:
        self.told = told

    def reply(self, reply: Reply) -> Any:
        self.told.answered(reply.version)
        return reply

    def error(self, error: BatchProxyError) -> Any:
        return error


def a_call(**changes: Any) -> InferCall:
    """One that fits the model."""
    inputs = {"x": ArrayColumn(np.array([1, 2], np.float32))}
    return InferCall(**({"model": MODEL, "version": None, "id": "", "inputs": inputs} | changes))


async def outcome_of(directory: Directory, call: InferCall, deadline: float | None = None) -> Any:
    """What becomes of a call."""
    tasks, outcomes = Tasks(), list[Any]()
    calls: Calls[Any] = Calls(directory, Format, lambda *_: None, tasks)
    waiting: Call[Any] = Call(Format(Told(call)), outcomes.append, lambda *_: None, 0.0)
    calls.start(waiting, call, RAW, deadline, 0.0)
    await until(lambda: outcomes)
    await tasks.aclose()
    return outcomes[0]


async def test_versions_and_labels_of_embedded_models() -> None:
    """Which there are, and which there are not."""
    async with a_directory(Recorder()) as directory:
        assert MODEL == v2_bridge.find(directory, MODEL, 1).info.name
        for version, which in ((2, " version 2"), ("stable", " version stable")):
            with pytest.raises(UnknownModel, match=f"{which} is not found"):
                v2_bridge.find(directory, MODEL, version)
        with pytest.raises(UnknownModel, match="'x' is not found"):
            v2_bridge.find(directory, "x", None)


async def test_the_parameters_priority_and_timeout() -> None:
    """The sooner of two limits, on the engine's clock: one that has passed is told at once."""
    async with a_directory(Recorder()) as directory:
        late = await outcome_of(directory, a_call(parameters={"timeout": 1}))
        fine = await outcome_of(directory, a_call(parameters={"priority": 1}))

    assert Code.DEADLINE_EXCEEDED is late.code
    assert [2.5, 3.0] == fine.columns["y"].array.tolist()


@pytest.mark.parametrize(
    ("call", "mergeable"),
    [
        (a_call(), True),
        (a_call(parameters={"a": 1}), True),
        (a_call(parameters={"sequence_id": 4}), False),
        (a_call(odd="shared memory"), False),
        (a_call(inputs={"w": ArrayColumn(np.zeros(2))}), False),
        (a_call(parameters={"signature_name": "other"}), False),
    ],
)
async def test_what_shares_a_call_of_a_server_of_the_protocol(call: InferCall, mergeable: bool) -> None:
    """What fits its metadata; the rest goes as it came, as all goes when it is alone."""
    async with a_v2_pool(V2Server(), Recorder(), [REST]) as pool:
        await pool.catalogue.find(MODEL, None)
        request = v2_bridge.as_sent(pool, call, RAW, 9.0)

    assert mergeable is (request.rows is not None)
    assert (RAW, 9.0) == (request.raw, request.deadline)
    assert (("authorization", "a"),) == request.key.partition or not mergeable
    assert bool(request.key.extras) is ("a" in call.parameters and mergeable)


@pytest.mark.parametrize("known", [True, False])
async def test_what_is_bridged_waits_for_the_signature_at_most(known: bool) -> None:
    """The first call of a model does; TF Serving gets no parameters, servers of the protocol do."""
    server, theirs = FakeServer(), V2Server()
    call = a_call(parameters={"a": 1}, version=None if known else 7)
    async with a_remote_pool(server, Recorder()) as pool, a_v2_pool(theirs, Recorder(), [GRPC]) as v2_pool:
        answers = [await outcome_of(in_front_of(one), call) for one in (pool, v2_pool)]

    assert [[2.5, 3.0]] * 2 == [answer.columns["y"].array.tolist() for answer in answers]
    assert (b"", b'[{"a":1},{}]') == (server.merged[0][0].extras, theirs.merged[0][0].extras)
    assert (("authorization", "a"),) == server.merged[0][0].partition


async def test_a_model_that_the_configuration_keeps_apart() -> None:
    """It is bridged all the same, by itself."""
    server = FakeServer()
    async with a_remote_pool(server, Recorder(), model=RemoteModel(batchable=False)) as pool:
        answer = await outcome_of(in_front_of(pool), a_call())

    assert [2.5, 3.0] == answer.columns["y"].array.tolist()


@pytest.mark.parametrize("name", [MODEL, "nobody"])
async def test_what_cannot_be_bridged_is_refused(name: str) -> None:
    """Odd calls, unknown models, inputs that do not fit."""
    async with a_remote_pool(FakeServer(), Recorder()) as pool:
        directory = in_front_of(pool)
        odd = await outcome_of(directory, a_call(model=name, odd="shared memory"))
        wrong = await outcome_of(directory, a_call(model=name, inputs={}))

    assert Code.UNIMPLEMENTED is odd.code
    assert (Code.INVALID_ARGUMENT if name == MODEL else Code.NOT_FOUND) is wrong.code


async def test_a_sequence_among_several_servers() -> None:
    """It goes to one of them; elsewhere a sequence is a call that is alone."""
    async with a_v2_pool(V2Server(), Recorder(), [REST]) as pool:
        pool.engine.backends["t"] = pool.engine.backends["s"]  # type: ignore[index]
        answer = await outcome_of(in_front_of(pool), a_call(parameters={"sequence_id": 4}))

    assert b"relayed" == answer.raw.body


@pytest.mark.parametrize(
    ("v2", "doors", "protocol", "asks", "read"),
    [
        (True, [GRPC, REST], GRPC, v2_grpc.MODEL_METADATA, v2_grpc.decode_metadata),
        (True, [REST], REST, "GET", v2_documents.decode_metadata),
        (False, [GRPC, REST], GRPC, tfs_grpc.GET_MODEL_METADATA, tfs_calls.decode_metadata_reply),
        (False, [REST], REST, "GET", tfs_calls.decode_metadata_document),
    ],
)
async def test_a_model_is_asked_for_in_the_servers_words(
    v2: bool, doors: list[str], protocol: str, asks: str, read: object
) -> None:
    """Through the door there is, gRPC rather than REST."""
    make = a_v2_pool if v2 else a_remote_pool
    async with make(V2Server(), Recorder(), doors) as pool:
        question, reader = v2_bridge.question(pool, MODEL, 3)

    assert (protocol, asks) == (question.protocol, question.method)
    assert reader is read
    assert protocol == GRPC or question.path in {
        f"/v2/models/{MODEL}/versions/3",
        f"/v1/models/{MODEL}/versions/3/metadata",
    }


def test_what_is_shown_of_a_model() -> None:
    """The signature that is meant by default, else the first; a model without one is none."""
    other = Signature({"a": FLOATS})

    assert INFO.signatures["serving_default"] is v2_bridge.shown(INFO)
    assert other is v2_bridge.shown(ModelInfo("m", 1, {"other": other}))
    with pytest.raises(UnknownModel):
        v2_bridge.shown(ModelInfo("m", 1, {}))


def test_what_a_server_said_of_a_model_is_written_in_other_words() -> None:
    """Or refused."""
    form: InfoFormat[Any, Any] = InfoFormat(
        tfs_calls.decode_metadata_reply, lambda info: info.version, lambda error: error
    )

    assert 7 == form.reply(Reply({}, 0, raw=RAW_METADATA))
    assert ABSENT is form.error(ABSENT)
    with pytest.raises(AssertionError, match="This is a bug"):
        form.reply(Reply({}, 0))
