"""Merged classify and regress calls through the door that they belong to: a scripted server behind each."""

from __future__ import annotations

import pytest

from batchproxy.codecs import tfs_example_rows, tfs_examples
from batchproxy.codecs.tfs_examples import ExamplesClass, MessageColumn
from batchproxy.codecs.tfs_grpc import CLASSIFY, REGRESS
from batchproxy.codecs.tfs_splice import RESULTS, JsonAnswer, splice
from batchproxy.core.request import BatchKey, Reply
from tests.unit.backends.test_tfserving import backend
from tests.unit.scripted_doors import scripted

KEY = BatchKey("m", 7, "s", partition=(("x-tenant", "a"),))


@pytest.mark.parametrize("method", [CLASSIFY, REGRESS])
async def test_examples_go_by_grpc(method: str) -> None:
    """To the method that they were sent to, with the headers of a merged call."""
    column = MessageColumn([b"\x0a\x00", b""], ExamplesClass(method))
    results = MessageColumn([b"one", b"two"])
    async with scripted() as server, backend(grpc=server.grpc, rest=server.rest) as opened:
        server.grpc_answers[method] = tfs_examples.write_reply(Reply({tfs_examples.RESULTS: results}, 7), "m", "s")
        reply = await opened.infer(KEY, {tfs_examples.INPUT: column})
    ((asked, headers, body),) = server.seen
    found = reply.columns[tfs_examples.RESULTS]
    assert isinstance(found, MessageColumn)

    assert ([b"one", b"two"], 7) == (found.messages, reply.version)
    assert method == asked
    assert ("s", "a") == (headers["x-static"], headers["x-tenant"])
    assert tfs_examples.write_request(KEY, column) == body


@pytest.mark.parametrize("verb", ["classify", "regress"])
async def test_texts_of_examples_go_by_rest(verb: str) -> None:
    """The answer is taken apart as theirs."""
    request = tfs_example_rows.read_request(verb, b'{"signature_name": "s", "examples": [{"x": 1.0}, {}]}')
    assert request is not None
    async with scripted() as server, backend(grpc=server.grpc, rest=server.rest) as opened:
        server.rest_answers[f"POST /v1/models/m/versions/7:{verb}"] = 200, b'{"results": [1.5, 2]}'
        reply = await opened.infer(KEY, {"examples": request.column})
    ((_, headers, body),) = server.seen
    results = reply.columns[RESULTS]
    assert isinstance(results, JsonAnswer)

    assert b'{"results": [2]}' == splice({RESULTS: results.take(1, 2)})
    assert "application/json" == headers["content-type"]
    assert b'{"signature_name":"s","examples":[{"x": 1.0},{}]}' == body
