"""REST calls as gRPC calls: the message that is sent, and what becomes of the answer."""

from __future__ import annotations

import json

import numpy as np
import pytest

from batchproxy.codecs import tfs_examples, tfs_grpc, tfs_rest
from batchproxy.codecs.tfs_examples import MessageColumn
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import BackendRejected, Code, DecodeError
from batchproxy.core.raw import GRPC, REST, RawCall, RawReply
from batchproxy.core.request import Reply
from batchproxy.frontends import rest_bridge
from batchproxy.frontends.heavy import Heavy
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
async def test_documents_are_asked_for_by_grpc(verb: str, kind: type, answer: object, key: str) -> None:
    """The message names the model; the answer becomes TF Serving's document, an error its error document."""
    async with a_remote_pool(FakeServer(), Recorder(), doors=[GRPC]) as pool:
        request, form = rest_bridge.document_call(pool, TARGET._replace(verb=verb))
    assert request.raw is not None
    spec = kind.FromString(request.raw.body).model_spec  # type: ignore[attr-defined]
    written = form.reply(Reply({}, 0, raw=answer))  # type: ignore[arg-type]
    refused = form.error(BackendRejected("no", code=Code.NOT_FOUND))

    assert (GRPC, "half_plus_two") == (request.raw.protocol, spec.name)
    assert key in json.loads(written.body)
    assert (404, {"error": "no"}) == (refused.status, json.loads(refused.body))


async def test_a_body_becomes_a_request_and_its_answer_tells_the_version() -> None:
    """Keyed by what was asked for and by the headers callers must agree in."""
    server = FakeServer()
    async with a_remote_pool(server, Recorder(), doors=[GRPC]) as pool:
        await pool.catalogue.find("half_plus_two", "stable")
        envelope = tfs_rest.parse_body(b'{"inputs": {"x": [1, 2, 3]}}')
        request, form = rest_bridge.predict_request(pool, Heavy(pool.engine.clock), TARGET, envelope, INFO, RAW)
        answer = form.reply(Reply({"y": ArrayColumn(np.ones(3, np.float32))}, 8))
        after = pool.catalogue.look("half_plus_two", "stable")

    assert ("half_plus_two", "stable", "serving_default") == request.key.target
    assert (("authorization", "a"),) == request.key.partition
    assert 3 == request.rows
    assert {"outputs": [1.0, 1.0, 1.0]} == json.loads(answer.body)
    assert after is None  # version 8 answered, and nothing is known of it yet


def an_answer(*values: float, version: int = 7) -> bytes:
    """A RegressionResponse."""
    results = [pb.Regression(value=value).SerializeToString() for value in values]
    column = MessageColumn(results)
    return tfs_examples.write_reply(Reply({tfs_examples.RESULTS: column}, version), "half_plus_two", "regress")


async def test_examples_become_a_request_that_may_be_merged() -> None:
    """Keyed as a predict request is; the answer tells the version, too."""
    target = TARGET._replace(verb="regress", label=None)
    async with a_remote_pool(FakeServer(), Recorder(), doors=[GRPC]) as pool:
        read = rest_bridge.read_examples("regress", b'{"signature_name": "regress", "examples": [{"x": 1.0}, {}]}')
        request, form = rest_bridge.examples_request(pool, target, read, RAW)
        answer = form.reply(tfs_examples.read_reply(an_answer(2.5, 3.0, version=8)))
        refused = form.error(BackendRejected("no", code=Code.NOT_FOUND))
        after = pool.catalogue.look("half_plus_two", None)

    assert ("half_plus_two", None, "regress") == request.key.target
    assert (("authorization", "a"),) == request.key.partition
    assert (2, None) == (request.rows, request.raw)
    assert b'{\n    "results": [2.5, 3.0]\n}' == answer.body
    assert (404, {"error": "no"}) == (refused.status, json.loads(refused.body))
    assert after is None


@pytest.mark.parametrize(
    ("model", "signature", "label"),
    [("half_plus_two", "serving_default", "half_plus_two"), ("half_plus_two", "zz", "half_plus_two"), ("n", "zz", "")],
)
async def test_examples_for_a_signature_that_is_not_theirs_are_a_call_of_their_own(
    model: str, signature: str, label: str
) -> None:
    """The server says what it thinks of them; a name that no server confirmed is no label."""
    target = TARGET._replace(verb="regress", model=model, label=None)
    body = b'{"signature_name": "' + signature.encode() + b'", "examples": [{"x": 1.0}, {}]}'
    async with a_remote_pool(FakeServer(), Recorder(), doors=[GRPC]) as pool:
        request, form = rest_bridge.examples_request(pool, target, rest_bridge.read_examples("regress", body), RAW)
        answer = form.reply(Reply({}, 0, raw=RawReply(0, "", (), an_answer(2.5, 3.0))))
    assert request.raw is not None
    call = tfs_examples.read_request(tfs_grpc.REGRESS, request.raw.body)
    assert call is not None

    assert (None, label) == (request.rows, request.key.model)
    assert (GRPC, tfs_grpc.REGRESS) == (request.raw.protocol, request.raw.method)
    assert (("authorization", "a"),) == request.raw.headers
    assert (model, signature, 2) == (call.model, call.signature_name, call.column.rows)
    assert b'{\n    "results": [2.5, 3.0]\n}' == answer.body


def test_examples_that_are_none_are_refused() -> None:
    """In TF Serving's words, without a call."""
    with pytest.raises(DecodeError) as caught:
        rest_bridge.read_examples("classify", b'{"examples": [1]}')

    assert "Example must be JSON object but got JSON Number" == caught.value.message


@pytest.mark.parametrize(
    ("target", "carried"),
    [
        (tfs_rest.Target("predict", "m"), True),
        (tfs_rest.Target("predict", "\udcff"), False),
        (tfs_rest.Target("metadata", "m", None, "\udcff"), False),
        (tfs_rest.Target("status", "m", None, "\udcff"), True),
        (tfs_rest.Target("status", "\udcff"), False),
    ],
)
def test_names_that_grpc_cannot_carry(target: tfs_rest.Target, carried: bool) -> None:
    """Bytes that are no UTF-8; a status is that of all versions, whatever the label."""
    assert carried == rest_bridge.can_carry(target)


def test_a_signature_that_grpc_cannot_carry_is_not_found() -> None:
    """In the words of a server."""
    with pytest.raises(DecodeError, match="No signature was found with the name: \udcff"):
        rest_bridge.read_examples("regress", b'{"signature_name": "\xff", "examples": [{}]}')
