"""What a server says beside its message reaches the caller: metadata, texts, fields that nobody knows. Of a stranger.

TF Serving sends none of it today; what stands between it and the proxy may.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest

from batchproxy.codecs import tensor_proto, tfs_grpc
from batchproxy.core.shapes import ModelInfo, Signature, TensorSpec
from batchproxy.protos import tfs_pb2 as pb
from tests.proxy import Proxy, running_in_front_of
from tests.remote import predict_message, until_merged

OPEN = TensorSpec("float32", (None,))
INFO = ModelInfo("m", 4, {"serving_default": Signature({"x": OPEN}, {"y": OPEN})})
RESPONSE_FIELD = b"\x7a\x03new"
"""Field 15 of a PredictResponse."""
TENSOR_FIELD = b"\xf2\x7f\x01!"
"""Field 2046 of a TensorProto."""

INITIAL = (("i-plain", "1"), ("i-twice", "a"), ("i-twice", "b"), ("i-some-bin", b"\x00\xff"))
TRAILING = (("t-plain", "2"), ("t-some-bin", b"\x01\xfe"))
ODD_TEXT = "100 % über\n\tthere"


class Stranger(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio carries no types
    """Doubles ``x``, refuses numbers below zero, and says more than TF Serving does. Holds its calls on demand.

    Attributes:
        rows: of each Predict call.
        open: closed, Predict calls wait.
        entered: released for each of them.
    """

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        answer = {tfs_grpc.PREDICT: self.predict, tfs_grpc.GET_MODEL_METADATA: self.metadata}
        return grpc.unary_unary_rpc_method_handler(answer.get(details.method, self.refuse))

    def predict(self, body: bytes, context: Any) -> bytes:
        request = pb.PredictRequest.FromString(body)
        array = tensor_proto.read(request.inputs["x"], "x", 1 << 20)[0]
        self.rows.append(len(array))
        self.entered.release()
        self.open.wait()
        if (array < 0).any():
            self.refuse(body, context)
        context.send_initial_metadata(INITIAL)
        context.set_trailing_metadata(TRAILING)
        response = pb.PredictResponse()
        response.model_spec.name = "m"
        response.model_spec.version.value = INFO.version
        response.model_spec.signature_name = "serving_default"
        tensor_proto.write(array * 2, response.outputs["y"])
        response.outputs["y"].MergeFromString(TENSOR_FIELD)
        return response.SerializeToString() + RESPONSE_FIELD

    def metadata(self, body: bytes, context: Any) -> bytes:
        return tfs_grpc.encode_metadata(INFO)

    def refuse(self, body: bytes, context: Any) -> bytes:
        context.send_initial_metadata(INITIAL)
        context.set_trailing_metadata(TRAILING)
        context.abort(grpc.StatusCode.DATA_LOSS, ODD_TEXT)
        raise AssertionError("abort() returned. This is a bug.")


class Door:
    """Where it listens."""

    def __init__(self, port: int) -> None:
        self.grpc = f"127.0.0.1:{port}"
        self.rest = ""


class Answer(NamedTuple):
    """All that a caller is told."""

    code: grpc.StatusCode
    text: str
    initial: list[tuple[str, str | bytes]]
    trailing: list[tuple[str, str | bytes]]
    message: bytes


@pytest.fixture(scope="module")
def stranger() -> Stranger:
    """What the server does."""
    return Stranger()


@pytest.fixture(scope="module")
def door(stranger: Stranger) -> Iterator[Door]:
    """A server on a thread of this process."""
    server = grpc.server(ThreadPoolExecutor(16), handlers=(stranger,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield Door(port)
    server.stop(0).wait()


@pytest.fixture(scope="module", params=["wire", "aio"])
def proxy(door: Door, request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """One call at a time; it knows the model, and asks the server by either gRPC client."""
    pool = {"max_inflight": 1, "grpc_client": request.param}
    with running_in_front_of([door], doors=["grpc"], pool=pool) as one:
        until_merged(one, "m", partial(call, one.grpc, tfs_grpc.PREDICT, predict_message("m", {"x": a_row(1)})))
        yield one


def a_row(*numbers: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """An array."""
    return np.array(numbers, np.float32)


def call(place: str, method: str, message: bytes) -> Answer:
    """One call of a caller of its own."""
    with grpc.insecure_channel(place) as channel:
        try:
            body, ended = channel.unary_unary(method).with_call(message, timeout=30)
        except grpc.RpcError as error:
            body, ended = b"", error
        initial, trailing = ended.initial_metadata(), ended.trailing_metadata()
    return Answer(ended.code(), ended.details(), list(map(tuple, initial)), list(map(tuple, trailing)), body)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (tfs_grpc.PREDICT, predict_message("m", {"x": a_row(1, 2)})),
        (tfs_grpc.PREDICT, predict_message("m", {"x": a_row(-1)})),
        (tfs_grpc.PREDICT, predict_message("m", {"x": a_row(1)}, signature="unknown")),
        (tfs_grpc.CLASSIFY, b"\xff\xff"),
        (tfs_grpc.RELOAD_CONFIG, b""),
    ],
    ids=["answered", "refused", "not merged", "undecodable", "reload"],
)
def test_a_lone_call_is_told_all_that_a_direct_one_is(door: Door, proxy: Proxy, method: str, message: bytes) -> None:
    """Initial and trailing metadata, the status text with its odd characters, and the message as bytes."""
    direct, found = call(door.grpc, method, message), call(proxy.grpc, method, message)

    assert direct == found
    assert [*INITIAL] == found.initial
    assert [*TRAILING] == found.trailing


def test_what_we_do_not_know_of_a_merged_answer_reaches_every_caller(stranger: Stranger, proxy: Proxy) -> None:
    """Unknown fields of the response and of its tensors come with each slice; the callers' own rows, too."""
    stranger.rows.clear()
    stranger.open.clear()
    while stranger.entered.acquire(blocking=False):
        pass
    messages = [predict_message("m", {"x": a_row(number, number + 0.5)}) for number in range(5)]
    with ThreadPoolExecutor(8) as callers:
        plug = callers.submit(call, proxy.grpc, tfs_grpc.PREDICT, messages[0])
        stranger.entered.acquire()
        waiting = [callers.submit(call, proxy.grpc, tfs_grpc.PREDICT, message) for message in messages]
        while proxy.metric("batchproxy_queued_rows") < 10:
            pass
        stranger.open.set()
        found = [one.result() for one in waiting]
        plug.result()
    responses = [pb.PredictResponse.FromString(answer.message) for answer in found]
    values = [list(response.outputs["y"].float_val) for response in responses]

    assert [2, 10] == stranger.rows
    assert [[2 * number, 2 * number + 1] for number in range(5)] == values
    for answer, response in zip(found, responses, strict=True):
        assert (grpc.StatusCode.OK, "") == (answer.code, answer.text)
        assert RESPONSE_FIELD in answer.message
        assert TENSOR_FIELD in response.outputs["y"].SerializeToString()
        assert ("m", 4, "serving_default") == (
            response.model_spec.name,
            response.model_spec.version.value,
            response.model_spec.signature_name,
        )
