"""Calls of the Open Inference Protocol as a server sees them, and what its answers mean: scripted doors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import numpy as np
import orjson
import pytest

from batchproxy.backends.base import Remote
from batchproxy.backends.v2_server import V2Backend
from batchproxy.codecs import v2_documents, v2_grpc, v2_rest
from batchproxy.codecs.tfs_grpc import VersionStatus
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import (
    BackendError,
    BackendProtocolError,
    BackendRejected,
    BackendTooBig,
    BackendUnavailable,
    Code,
)
from batchproxy.core.outcome import Outcome, outcome_of
from batchproxy.core.request import BatchKey, Reply
from batchproxy.core.shapes import DEFAULT_SIGNATURE, UNDECLARED, ModelInfo, Signature, TensorSpec
from batchproxy.protos import v2_pb2 as pb
from tests.unit.scripted_doors import nobody, scripted

KEY = BatchKey("m", 7, DEFAULT_SIGNATURE, (), None, partition=(("x-tenant", "a"),))
SIGNATURE = Signature({"x": TensorSpec("int64", (None, 2))}, {"y": TensorSpec("int64", (None, 2))})
INFO = ModelInfo("m", 7, {DEFAULT_SIGNATURE: SIGNATURE})
X = {"x": ArrayColumn(np.array([[1, 2], [3, 4]]))}
Y = {"y": ArrayColumn(np.array([[2, 1], [4, 3]]))}
PATH = "POST /v2/models/m/versions/7/infer"


@asynccontextmanager
async def backend(
    *, grpc: str | None = None, rest: str | None = None, models: Sequence[str] = ()
) -> AsyncIterator[V2Backend]:
    """A backend that is closed at the end."""
    opened = V2Backend(models, grpc=grpc, rest=rest, static_headers=(("x-static", "s"),))
    try:
        yield opened
    finally:
        await opened.aclose()


def values(reply: Reply) -> object:
    """Of output ``y``."""
    column = reply.columns["y"]
    assert isinstance(column, ArrayColumn)
    return column.array.tolist()


def test_it_is_a_remote_backend() -> None:
    """For mypy to check."""
    remote: type[Remote] = V2Backend

    assert V2Backend is remote


async def test_arrays_go_by_grpc_where_they_can() -> None:
    """As raw buffers, with the headers that the callers share and those of the configuration."""
    async with scripted() as server, backend(grpc=server.grpc, rest=server.rest) as remote:
        server.grpc_answers[v2_grpc.MODEL_INFER] = v2_grpc.encode_reply(Reply(Y, 7), "m")
        reply = await remote.infer(KEY, X)
    ((method, headers, body),) = server.seen

    assert (v2_grpc.MODEL_INFER, v2_grpc.encode_infer_request(KEY, X)) == (method, body)
    assert ("a", "s") == (headers["x-tenant"], headers["x-static"])
    assert ([[2, 1], [4, 3]], 7) == (values(reply), reply.version)


async def test_a_version_that_has_no_number_is_not_asked_for() -> None:
    """MLServer and KServe name none: 0, as we say, is no version of theirs."""
    async with scripted() as server, backend(grpc=server.grpc) as remote:
        server.grpc_answers[v2_grpc.MODEL_INFER] = v2_grpc.encode_reply(Reply(Y, 0), "m")
        await remote.infer(KEY._replace(version=0), X)
    request = pb.ModelInferRequest.FromString(server.seen[0][2])

    assert ("m", "") == (request.model_name, request.model_version)


@pytest.mark.parametrize(
    ("name", "extensions", "binary"),
    [
        pytest.param("triton", ["sequence", "binary_tensor_data"], True, id="says so"),
        pytest.param("kserve", ["model_repository_extension"], True, id="has it all the same"),
        pytest.param("OpenVINO Model Server", [], True, id="has it, too"),
        pytest.param("mlserver", [], False, id="has it not"),
    ],
)
async def test_buffers_go_by_rest_where_the_server_has_the_extension(
    name: str, extensions: Sequence[str], binary: bool
) -> None:
    """It is asked once; elsewhere tensors are JSON, both ways."""
    asked = orjson.dumps({"inputs": [], "parameters": {"binary_data_output": binary}})
    call = v2_rest.parse_infer(v2_documents.Target("infer", "m"), asked, len(asked))
    answer, length = v2_rest.encode_reply(Reply(Y, 7), call)
    said = {} if length is None else {v2_rest.LENGTH_HEADER: str(length)}
    async with scripted() as server, backend(rest=server.rest) as remote:
        server.rest_answers["GET /v2"] = 200, v2_documents.encode_server_metadata(name, "1", extensions)
        server.rest_answers[PATH] = 200, answer, said
        replies = [await remote.infer(KEY, X) for _ in range(2)]
    (_, headers, body) = server.seen[-1]

    assert ["GET /v2", PATH, PATH] == [line for line, _, _ in server.seen]
    assert (v2_rest.encode_infer_request(KEY, X, binary=binary)[0], "a") == (body, headers["x-tenant"])
    assert binary is ("inference-header-content-length" in headers)
    assert [[[2, 1], [4, 3]]] * 2 == [values(reply) for reply in replies]


@pytest.mark.parametrize(
    ("code", "text", "outcome"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape", Outcome.REJECTED),
        (grpc.StatusCode.INTERNAL, "the model failed", Outcome.REJECTED),
        (grpc.StatusCode.INVALID_ARGUMENT, "[request id: 1] inference request batch-size must be <= 4 for 'm'",
         Outcome.TOO_BIG_OR_BUSY),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "full", Outcome.TOO_BIG_OR_BUSY),
        (grpc.StatusCode.UNAVAILABLE, "Request for unknown model: 'm' has no available versions", Outcome.NOT_RUN),
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'm' is not found", Outcome.SAME_FOR_ALL),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "late", Outcome.LATE),
    ],
)  # fmt: skip
async def test_refusals_by_grpc(code: grpc.StatusCode, text: str, outcome: Outcome) -> None:
    """R3's table; Triton's own word for a batch above ``max_batch_size`` is one of them."""
    async with scripted() as server, backend(grpc=server.grpc) as remote:
        server.grpc_answers[v2_grpc.MODEL_INFER] = code, text
        with pytest.raises(BackendError) as caught:
            await remote.infer(KEY, X)

    assert (outcome, text) == (outcome_of(caught.value), caught.value.message)


@pytest.mark.parametrize(
    ("status", "text", "outcome"),
    [
        (400, "unexpected inference input 'x'", Outcome.REJECTED),
        (422, "no", Outcome.REJECTED),
        (500, "a model's own words", Outcome.REJECTED),
        (400, "inference request batch-size must be <= 8 for 'm'", Outcome.TOO_BIG_OR_BUSY),
        (429, "full", Outcome.TOO_BIG_OR_BUSY),
        (503, "not now", Outcome.NOT_RUN),
        (404, "no such model", Outcome.SAME_FOR_ALL),
        (504, "late", Outcome.LATE),
    ],
)
async def test_refusals_by_rest(status: int, text: str, outcome: Outcome) -> None:
    """R3's table again."""
    async with scripted() as server, backend(rest=server.rest) as remote:
        server.rest_answers["GET /v2"] = 200, v2_documents.encode_server_metadata("triton", "1")
        server.rest_answers[PATH] = status, orjson.dumps({"error": text})
        with pytest.raises(BackendError) as caught:
            await remote.infer(KEY, X)

    assert (outcome, text) == (outcome_of(caught.value), caught.value.message)


async def test_an_answer_that_is_none() -> None:
    """Another status than 200, a message that cannot be read."""
    async with scripted() as server, backend(rest=server.rest) as by_rest, backend(grpc=server.grpc) as by_grpc:
        server.rest_answers["GET /v2"] = 200, b'{"name": "x"}'
        server.rest_answers[PATH] = 204, b""
        server.grpc_answers[v2_grpc.MODEL_INFER] = b"\xff"
        with pytest.raises(BackendProtocolError, match="HTTP status 204"):
            await by_rest.infer(KEY, X)
        with pytest.raises(BackendProtocolError, match="ModelInferResponse"):
            await by_grpc.infer(KEY, X)


async def test_what_the_protocol_cannot_carry_is_refused_by_name() -> None:
    """Bytes that are no text, to a server that takes JSON only: a refusal like a server's, so that only they fail."""
    async with scripted() as server, backend(rest=server.rest) as remote:
        server.rest_answers["GET /v2"] = 200, b'{"name": "mlserver"}'
        with pytest.raises(BackendRejected, match="model 'm': tensor 'x' holds bytes that are no UTF-8"):
            await remote.infer(KEY, {"x": ArrayColumn(np.array([b"\xff"], object))})


@pytest.mark.parametrize("door", ["grpc", "rest"])
@pytest.mark.parametrize("version", [None, 7, 3, 0])
async def test_metadata(door: str, version: int | None) -> None:
    """The tensors are the one signature; a version that was asked for is the one meant, whatever others there are."""
    async with scripted() as server, backend(**{door: getattr(server, door)}) as remote:
        server.grpc_answers[v2_grpc.MODEL_METADATA] = v2_grpc.encode_metadata(INFO, SIGNATURE)
        for path in ("/v2/models/m", "/v2/models/m/versions/7", "/v2/models/m/versions/3"):
            server.rest_answers[f"GET {path}"] = 200, v2_documents.encode_metadata(INFO, SIGNATURE)
        info = await remote.metadata("m", version)

    assert ModelInfo("m", version or 7, {DEFAULT_SIGNATURE: SIGNATURE}) == info


@pytest.mark.parametrize("door", ["grpc", "rest"])
@pytest.mark.parametrize(("size", "rows", "first"), [(0, None, None), (8, 8, None), (1, 1, 1)])
async def test_tritons_max_batch_size(door: str, size: int, rows: int | None, first: int | None) -> None:
    """It is asked for with the metadata; where it is 1 no axis is open."""
    config = pb.ModelConfigResponse(config=pb.ModelConfig(max_batch_size=size)).SerializeToString()
    async with scripted() as server, backend(**{door: getattr(server, door)}) as remote:
        server.grpc_answers[v2_grpc.MODEL_METADATA] = v2_grpc.encode_metadata(INFO, SIGNATURE)
        server.grpc_answers[v2_grpc.MODEL_CONFIG] = config
        server.rest_answers["GET /v2/models/m"] = 200, v2_documents.encode_metadata(INFO, SIGNATURE)
        server.rest_answers["GET /v2/models/m/config"] = 200, b'{"max_batch_size": %d}' % size
        info = await remote.metadata("m", None)
    signature = info.signatures[DEFAULT_SIGNATURE]

    assert rows == info.max_rows
    assert {(first, 2)} == {spec.shape for spec in (*signature.inputs.values(), *signature.outputs.values())}
    assert (first is None) is signature.batchable


async def test_status() -> None:
    """The version that answers, since the protocol tells of no others."""
    async with scripted() as server, backend(grpc=server.grpc) as remote:
        server.grpc_answers[v2_grpc.MODEL_METADATA] = v2_grpc.encode_metadata(INFO, SIGNATURE)
        statuses = [await remote.status("m", version) for version in (None, 3)]

    assert [(VersionStatus(7),), (VersionStatus(3),)] == statuses


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_a_server_without_configurations_is_asked_once(door: str) -> None:
    """MLServer and KServe, until they were away: it may be another server then."""
    config = {"grpc": v2_grpc.MODEL_CONFIG, "rest": "GET /v2/models/m/config"}[door]
    async with scripted() as server, backend(models=["m"], **{door: getattr(server, door)}) as remote:
        server.grpc_answers[v2_grpc.MODEL_METADATA] = v2_grpc.encode_metadata(INFO, SIGNATURE)
        server.grpc_answers[v2_grpc.MODEL_READY] = v2_grpc.encode_flag(True)
        server.grpc_answers[v2_grpc.MODEL_CONFIG] = grpc.StatusCode.UNIMPLEMENTED, "no such method"
        server.rest_answers["GET /v2/models/m"] = 200, v2_documents.encode_metadata(INFO, SIGNATURE)
        server.rest_answers["GET /v2/models/m/ready"] = 200, b"{}"
        server.rest_answers["GET /v2"] = 200, v2_documents.encode_server_metadata("mlserver", "1", ())
        server.rest_answers["GET /v2/models/m/config"] = 404, b'{"detail": "Not Found"}'
        infos = [await remote.metadata("m", None) for _ in range(3)]
        await remote.probe()
        await remote.metadata("m", None)

    assert [None] * 3 == [info.max_rows for info in infos]
    assert 2 == [method for method, _, _ in server.seen].count(config)


async def test_a_configuration_that_comes_too_late() -> None:
    """It is no reason to think that there is none."""
    async with scripted() as server, backend(grpc=server.grpc) as remote:
        server.grpc_answers[v2_grpc.MODEL_METADATA] = v2_grpc.encode_metadata(INFO, SIGNATURE)
        server.grpc_answers[v2_grpc.MODEL_CONFIG] = grpc.StatusCode.DEADLINE_EXCEEDED, "not now"
        with pytest.raises(BackendRejected, match="not now"):
            await remote.metadata("m", None)

    assert remote.configured


async def test_a_model_that_says_nothing_of_itself() -> None:
    """MLServer's and KServe's, left to themselves: whatever arrives is passed on, and nothing is merged unasked."""
    async with scripted() as server, backend(rest=server.rest) as remote:
        server.rest_answers["GET /v2/models/m"] = 200, b'{"name":"m","versions":null,"inputs":[],"outputs":[]}'
        info = await remote.metadata("m", None)

    assert ModelInfo("m", 0, {DEFAULT_SIGNATURE: UNDECLARED}) == info


async def test_a_model_that_is_not_there() -> None:
    """The server's code and text."""
    async with scripted() as server, backend(grpc=server.grpc) as remote:
        server.grpc_answers[v2_grpc.MODEL_METADATA] = grpc.StatusCode.NOT_FOUND, "Model m not found"
        with pytest.raises(BackendRejected) as caught:
            await remote.metadata("m", None)

    assert (Code.NOT_FOUND, "Model m not found") == (caught.value.code, caught.value.message)


@pytest.mark.parametrize("ready", [True, False])
async def test_readiness_of_the_server(ready: bool) -> None:
    """Each door is asked in its own way."""
    async with scripted() as server, backend(grpc=server.grpc, rest=server.rest) as remote:
        server.grpc_answers[v2_grpc.SERVER_READY] = v2_grpc.encode_flag(True)
        server.rest_answers["GET /v2/health/ready"] = 200 if ready else 400, b""
        server.rest_answers["GET /v2"] = 200, v2_documents.encode_server_metadata("mlserver", "1", ())
        if ready:
            await remote.probe()
        else:
            with pytest.raises(BackendUnavailable, match="says that it is not ready"):
                await remote.probe()

    assert [v2_grpc.SERVER_READY, "GET /v2/health/ready"] == [line for line, _, _ in server.seen][:2]
    assert (False if ready else None) is remote.buffers


async def test_a_server_that_says_no_by_grpc() -> None:
    """A flag that is not set."""
    async with scripted() as server, backend(grpc=server.grpc) as remote:
        server.grpc_answers[v2_grpc.SERVER_READY] = v2_grpc.encode_flag(False)
        with pytest.raises(BackendUnavailable, match="not ready"):
            await remote.probe()


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_a_model_of_the_configuration_is_enough(door: str) -> None:
    """A server that loads others, or has a broken one, is not ready as a whole: Triton says so for good."""
    async with scripted() as server, backend(models=("broken", "m"), **{door: getattr(server, door)}) as remote:
        server.grpc_answers[v2_grpc.MODEL_READY] = v2_grpc.encode_flag(True)
        server.rest_answers["GET /v2/models/broken/ready"] = 400, b""
        server.rest_answers["GET /v2/models/m/ready"] = 200, b""
        server.rest_answers["GET /v2"] = 500, b""  # which does not matter now
        await remote.probe()
    asked = [line for line, _, _ in server.seen]

    assert {
        "grpc": [v2_grpc.MODEL_READY, v2_grpc.SERVER_METADATA],
        "rest": ["GET /v2/models/broken/ready", "GET /v2/models/m/ready", "GET /v2"],
    }[door] == asked


async def test_nobody_there() -> None:
    """It does not run."""
    async with backend(grpc=nobody(), models=("m",)) as remote:
        with pytest.raises(BackendUnavailable):
            await remote.probe()


async def test_the_error_that_says_too_big_is_the_callers_own() -> None:
    """The text and the raw answer stay."""
    text = "inference request batch-size must be <= 4 for 'm'"
    async with scripted() as server, backend(grpc=server.grpc) as remote:
        server.grpc_answers[v2_grpc.MODEL_INFER] = grpc.StatusCode.INVALID_ARGUMENT, text
        with pytest.raises(BackendTooBig) as caught:
            await remote.infer(KEY, X)

    assert caught.value.raw is not None
    assert (Code.INVALID_ARGUMENT, text) == (caught.value.code, caught.value.raw.message)
