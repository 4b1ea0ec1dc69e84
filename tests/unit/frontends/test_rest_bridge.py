"""REST calls as gRPC calls: the message that is sent, and what becomes of the answer."""

from __future__ import annotations

import json

import numpy as np
import pytest

from batchproxy.codecs import tfs_rest
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import BackendRejected, Code, RequestError
from batchproxy.core.raw import GRPC, REST, RawCall
from batchproxy.core.request import Reply
from batchproxy.frontends import rest_bridge
from batchproxy.protos import tfs_pb2 as pb
from tests.remotes import INFO, RAW_METADATA, RAW_STATUS, FakeServer, a_remote_pool
from tests.serving import Recorder

TARGET = tfs_rest.Target("predict", "half_plus_two", None, "stable")
RAW = RawCall(REST, "POST", "", [("authorization", "a")], b"")


def test_a_label_names_the_version_before_a_number_does() -> None:
    """And nothing names none."""
    found = [rest_bridge.version_of(TARGET._replace(version=version, label=label)) for version, label in
             ((None, "stable"), (3, None), (None, None))]  # fmt: skip

    assert ["stable", 3, None] == found


@pytest.mark.parametrize(
    ("verb", "kind", "answer", "key"),
    [
        ("status", pb.GetModelStatusRequest, RAW_STATUS, "model_version_status"),
        ("metadata", pb.GetModelMetadataRequest, RAW_METADATA, "model_spec"),
    ],
)
def test_documents_are_asked_for_by_grpc(verb: str, kind: type, answer: object, key: str) -> None:
    """The message names the model; the answer becomes TF Serving's document, an error its error document."""
    request, form = rest_bridge.document_call(TARGET._replace(verb=verb))
    assert request.raw is not None
    spec = kind.FromString(request.raw.body).model_spec  # type: ignore[attr-defined]
    written = form.reply(Reply({}, 0, raw=answer))  # type: ignore[arg-type]
    refused = form.error(BackendRejected("no", code=Code.NOT_FOUND))

    assert (GRPC, "half_plus_two") == (request.raw.protocol, spec.name)
    assert key in json.loads(written.body)
    assert (404, {"error": "no"}) == (refused.status, json.loads(refused.body))


def test_what_needs_a_rest_door_says_so() -> None:
    """With what to type."""
    with pytest.raises(RequestError, match="grpc://HOST:PORT,http://HOST:PORT") as caught:
        rest_bridge.document_call(TARGET._replace(verb="regress"))

    assert Code.UNIMPLEMENTED is caught.value.code


async def test_a_body_becomes_a_request_and_its_answer_tells_the_version() -> None:
    """Keyed by what was asked for and by the headers callers must agree in."""
    server = FakeServer()
    async with a_remote_pool(server, Recorder(), doors=[GRPC]) as pool:
        await pool.catalogue.find("half_plus_two", "stable")
        envelope = tfs_rest.parse_body(b'{"inputs": {"x": [1, 2, 3]}}')
        request, form = rest_bridge.predict_request(pool, TARGET, envelope, INFO, RAW)
        answer = form.reply(Reply({"y": ArrayColumn(np.ones(3, np.float32))}, 8))
        after = pool.catalogue.look("half_plus_two", "stable")

    assert ("half_plus_two", "stable", "serving_default") == request.key.target
    assert (("authorization", "a"),) == request.key.partition
    assert 3 == request.rows
    assert {"outputs": [1.0, 1.0, 1.0]} == json.loads(answer.body)
    assert after is None  # version 8 answered, and nothing is known of it yet
