"""What a stranger may say to the proxy in front of a server: a clear error or a relay, in bounded time and memory."""

from __future__ import annotations

import http.client
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, model_pb2, regression_pb2

from batchproxy.codecs import tfs_calls, tfs_grpc
from batchproxy.protos import tfs_pb2 as pb
from tests.proxy import Proxy, running_in_front_of
from tests.remote import predict_message
from tests.tfserving.fixture import Server, running_server

MIB = 1 << 20
DEPTH = 500_000

SOON_S = 15.0
"""Most takes milliseconds; reading half a million brackets in Python takes seconds on a busy machine."""

MEMORY_MIB = 1200
"""Of the proxy at its highest: a message of 256 MiB and its inflated text, and the program itself."""

MODELS = ["half_plus_two", "dtypes"]


class Ways(NamedTuple):
    """A server, and the proxies that pass on, or bridge."""

    server: Server
    relay: Proxy
    bridge: Proxy


@pytest.fixture(scope="module")
def ways() -> Iterator[Ways]:
    """Both proxies know the models, so that they read what comes."""
    with (
        running_server(models=MODELS) as server,
        running_in_front_of([server]) as relay,
        running_in_front_of([server], doors=["grpc"]) as bridge,
    ):
        for proxy in (relay, bridge):
            for body in ({"instances": [1.0]}, {"inputs": [1.0]}):
                for model in MODELS:
                    assert 200 == proxy.post(f"/v1/models/{model}:predict", body)[0]
        yield Ways(server, relay, bridge)
        for proxy in (relay, bridge):
            assert peak_mib(proxy) < MEMORY_MIB
            assert 200 == proxy.post("/v1/models/half_plus_two:predict", {"instances": [1.0]})[0]


def peak_mib(proxy: Proxy) -> int:
    """The most memory that it ever had."""
    lines = Path(f"/proc/{proxy.process.pid}/status").read_text().splitlines()
    (peak,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(peak.split()[1]) // 1024


def called(channel: grpc.Channel, method: str, message: bytes, compression: Any = None) -> tuple[str, str]:
    """Code and text of a call's end."""
    try:
        channel.unary_unary(method)(message, timeout=60, compression=compression)
    except grpc.RpcError as error:
        return error.code().name, error.details() or ""
    return "OK", ""


# ---------------------------------------------------------------- tensors that claim

FIELDS = (
    "float_val", "double_val", "int_val", "int64_val", "uint32_val", "uint64_val", "bool_val", "half_val",
    "scomplex_val", "dcomplex_val",
)  # fmt: skip


def claims() -> Iterator[bytes]:
    """PredictRequests of 2^50 elements, in every form and for every type that a model here takes, or takes not."""
    for dtype in (*range(1, 11), 14, 17, 18, 19, 20, 21, 22, 23, 29, 77):
        for shape in ((2**50,), (2**25, 2**25), (2**62, 2**62), (1, 2**50)):
            for field in (*FIELDS, "string_val", "tensor_content", ""):
                request = pb.PredictRequest()
                request.model_spec.name = "dtypes"
                tensor = request.inputs["x"]
                tensor.dtype = dtype
                for size in shape:
                    tensor.tensor_shape.dim.add().size = size
                if field in FIELDS:
                    getattr(tensor, field).append(1)
                elif field == "string_val":
                    tensor.string_val.append(b"a")
                elif field:
                    tensor.tensor_content = b"12345678"
                yield request.SerializeToString()


def test_tensors_that_claim_what_they_do_not_send(ways: Ways) -> None:
    """Refused, by whomever, at once; a message of one method is none of another's."""
    messages = list(claims())
    methods = [tfs_grpc.CLASSIFY, tfs_grpc.REGRESS, tfs_grpc.MULTI_INFERENCE, tfs_grpc.GET_MODEL_METADATA]
    started = time.monotonic()
    with grpc.insecure_channel(ways.relay.grpc) as channel, ThreadPoolExecutor(8) as callers:
        codes = {code for code, _ in callers.map(lambda message: called(channel, tfs_grpc.PREDICT, message), messages)}
        others = {called(channel, method, message)[0] for method in methods for message in messages[:13]}
    seconds = time.monotonic() - started

    assert codes == {"INVALID_ARGUMENT"}
    assert "OK" not in others
    assert seconds < 4 * SOON_S


# ---------------------------------------------------------------- JSON that is deep, or no text


def deep(before: str, opening: str = "[", inner: str = "1", closing: str = "]", after: str = "}") -> bytes:
    """Half a million levels."""
    levels = DEPTH // len(opening)
    return f"{before}{opening * levels}{inner}{closing * levels}{after}".encode()


DEEP = {
    "rows": deep('{"instances":'),
    "columns": deep('{"inputs":'),
    "a column": deep('{"inputs":{"x":', after="}}"),
    "rows of objects": deep('{"instances":[', '{"a":', "1", "}", "]}"),
    "the signature": deep('{"signature_name":', after=',"instances":[1.0]}'),
    "something else": deep('{"more":', after=',"instances":[1.0]}'),
    "never closed": deep('{"instances":', closing="", after=""),
    "nothing else": deep("", after=""),
}


@pytest.mark.parametrize("place", DEEP)
def test_json_of_any_depth_is_bridged(ways: Ways, place: str) -> None:
    """Answered as TF Serving does, or told what is too deep."""
    started = time.monotonic()
    status, body = ways.bridge.post("/v1/models/half_plus_two:predict", DEEP[place])
    seconds = time.monotonic() - started

    assert (200 if place == "something else" else 400) == status
    assert status == 200 or b'"error": "' in body
    assert seconds < SOON_S


@pytest.mark.parametrize("place", DEEP)
def test_json_of_any_depth_is_passed_on(ways: Ways, place: str) -> None:
    """As it came: the server, Python too, may fall over some of it, which is told."""
    started = time.monotonic()
    status, _ = ways.relay.post("/v1/models/half_plus_two:predict", DEEP[place])
    seconds = time.monotonic() - started

    assert status in {200, 400, 503}
    assert seconds < 4 * SOON_S


STRANGE = (
    b'{"instances": ["\xff"]}', b'{"instances": [{"\xff": 1.0}]}', b'{"inputs": {"\xff": 1.0}}', b"\xff", b"\xfe\xff",
    b'{"signature_name": "\xff", "instances": [1.0]}', b'{"\xff": 1, "instances": [1.0]}', b"\0" * 1000,
    b'{"signature_name": "\xff", "examples": [{"x": 1.0}]}', b'{"examples": [{"\xff": 1.0}]}',
    b'{"examples": [{"x": "\xff"}]}', b'{"context": {"\xff": 1}, "examples": [{"x": 1.0}]}',
)  # fmt: skip


@pytest.mark.parametrize("verb", ["predict", "classify", "regress"])
@pytest.mark.parametrize("model", ["half_plus_two", "dtypes", "%FF", "multi/labels/%FF"])
def test_bytes_that_are_no_text(ways: Ways, model: str, verb: str) -> None:
    """Answered, and by none of our own faults."""
    for proxy in (ways.relay, ways.bridge):
        for body in STRANGE:
            status, answer = proxy.post(f"/v1/models/{model}:{verb}", body)

            assert status in {200, 400, 404, 500}, (proxy, body)
            assert b"This is a bug" not in answer


# ---------------------------------------------------------------- bombs


def gzip_of(mib: int) -> bytes:
    """A body of so many MiB, nearly all of it white space."""
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(b'{"instances": ['), *(packer.compress(b" " * MIB) for _ in range(mib))]
    return b"".join([*parts, packer.compress(b"1.0]}"), packer.flush()])


@pytest.mark.parametrize(("mib", "status"), [(99, 200), (100, 400), (300, 400)])
def test_gzip_bombs_over_rest(ways: Ways, mib: int, status: int) -> None:
    """Up to 100 MiB it is a body; beyond, as in TF Serving, an empty one."""
    body = gzip_of(mib)
    for proxy in (ways.relay, ways.bridge):
        started = time.monotonic()
        found, answer = proxy.post("/v1/models/half_plus_two:predict", body, {"Content-Encoding": "gzip"})

        assert status == found
        assert status == 200 or b"JSON Parse error: The document is empty" in answer
        assert time.monotonic() - started < SOON_S


def test_gzip_bombs_over_grpc(ways: Ways) -> None:
    """A message of up to 256 MiB is one; beyond, its caller is told."""
    with grpc.insecure_channel(ways.relay.grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
        started = time.monotonic()
        code, text = called(channel, tfs_grpc.PREDICT, bytes(300 * MIB), grpc.Compression.Gzip)
        seconds = time.monotonic() - started

    assert ("RESOURCE_EXHAUSTED", "the message has more than 268435456 bytes once decompressed") == (code, text)
    assert seconds < 2 * SOON_S


# ---------------------------------------------------------------- messages cut anywhere


def whole_messages() -> dict[str, tuple[str, bytes]]:
    """One of each method that answers about a model, by TF Serving's own classes."""
    spec = model_pb2.ModelSpec(name="half_plus_two", signature_name="regress_x_to_y")
    data = input_pb2.Input()
    data.example_list.examples.add().features.feature["x"].float_list.value.append(1.5)
    task = inference_pb2.InferenceTask(model_spec=spec, method_name="tensorflow/serving/regress")
    scored = {"model_spec": spec, "input": data}
    return {
        "Predict": (tfs_grpc.PREDICT, predict_message("half_plus_two", {"x": np.arange(3, dtype=np.float32)})),
        "Classify": (
            tfs_grpc.CLASSIFY,
            classification_pb2.ClassificationRequest(**scored).SerializeToString(),
        ),
        "Regress": (tfs_grpc.REGRESS, regression_pb2.RegressionRequest(**scored).SerializeToString()),
        "MultiInference": (
            tfs_grpc.MULTI_INFERENCE,
            inference_pb2.MultiInferenceRequest(tasks=[task], input=data).SerializeToString(),
        ),
        "GetModelStatus": (tfs_grpc.GET_MODEL_STATUS, tfs_calls.encode_status_request("half_plus_two", 1)),
        "GetModelMetadata": (tfs_grpc.GET_MODEL_METADATA, tfs_calls.encode_metadata_request("half_plus_two", 1)),
    }


@pytest.mark.parametrize("name", whole_messages())
def test_a_message_cut_at_any_byte(ways: Ways, name: str) -> None:
    """Ends as the server has it end, directly asked."""
    method, message = whole_messages()[name]

    def ask(place: str) -> list[tuple[str, str]]:
        with grpc.insecure_channel(place) as channel:
            return [called(channel, method, message[:end]) for end in range(len(message) + 1)]

    direct, proxied = ask(ways.server.grpc), ask(ways.relay.grpc)

    assert direct == proxied
    assert direct[-1][0] in {"OK", "INVALID_ARGUMENT"}


def test_a_request_cut_at_any_byte(ways: Ways) -> None:
    """The connection ends; nobody else notices."""
    body = b'{"instances": [1.0, 2.0]}'
    head = b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: h\r\nContent-Length: 25\r\n\r\n"
    for proxy in (ways.relay, ways.bridge):
        place = proxy.rest.removeprefix("http://")
        for end in range(len(head + body)):
            connection = http.client.HTTPConnection(place, timeout=30)
            connection.connect()
            connection.sock.sendall((head + body)[:end])
            connection.close()

        assert 200 == proxy.post("/v1/models/half_plus_two:predict", body)[0]
