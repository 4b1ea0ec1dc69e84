"""R1's three laws over a running proxy and a server of real TensorFlow models: Splice, Identity, Equality.

Requests that share a call are made to: they wait together for the proxy's only slot (``tests/remote.py``).
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from batchproxy.codecs import tfs_grpc
from batchproxy.protos import tfs_pb2 as pb
from tests.golden_cases import Answer, Case, same_answer
from tests.proxy import Proxy, ask, running_in_front_of
from tests.remote import PLUG, in_one_call, plug, predict_message, until_merged
from tests.tfserving.fixture import Server, running_server

FLOATS = st.floats(-1e6, 1e6, width=32)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
PAIR = st.lists(FLOATS, min_size=2, max_size=2)


class Model(NamedTuple):
    """A signature whose rows do not depend on the batch size, for the values that are drawn here.

    ``special`` takes logarithms, which TensorFlow computes several at a time but for what is left over at the end: so
    the last digit of log(1e38) depends on its place. Those of 0, 1 and of negative numbers do not.

    Attributes:
        name: of the model.
        signature: its name; empty for the default.
        inputs: alias to what each row is made of.
        dtype: of all inputs.
    """

    name: str
    signature: str
    inputs: dict[str, st.SearchStrategy[Any]]
    dtype: str = "float32"


MODELS = [
    Model("half_plus_two", "", {"x": FLOATS}),
    Model("int64_model", "", {"x": st.integers(-(2**40), 2**40)}, "int64"),
    Model("strings", "", {"s": WORDS}, "object"),
    Model("strings", "mat", {"s": st.lists(WORDS, min_size=2, max_size=2)}, "object"),
    Model("two_in_two_out", "", {"a": PAIR, "b": PAIR}),
    Model("many_out", "", {"x": FLOATS}),
    Model("var_len", "", {"x": st.lists(FLOATS, min_size=4, max_size=4)}),
    # none below 1.2e-38: whether TensorFlow takes the log of those for that of 0 depends on the place in a batch (R1)
    Model("special", "", {"x": st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.1754944e-38])}),
    Model("reject_negative", "", {"x": st.sampled_from([0.0, 1.0, 2.0, 9.0, 16.0, -1.0])}),
    Model("dtypes", "int8", {"x": st.integers(-128, 127)}, "int8"),
    Model("dtypes", "bool", {"x": st.booleans()}, "bool"),
    Model("any_rank", "", {"x": st.lists(PAIR, min_size=1, max_size=1)}),
]
Rows = list[dict[str, Any]]


@st.composite
def mates(draw: st.DrawFn) -> tuple[Model, list[Rows], bool]:
    """Some requests of 1-7 rows for one model, in row form or, all of them, in column form."""
    model = draw(st.sampled_from(MODELS))
    row = st.fixed_dictionaries(model.inputs)
    return model, draw(st.lists(st.lists(row, min_size=1, max_size=7), min_size=2, max_size=5)), draw(st.booleans())


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The models above, and those of matrix products."""
    names = {model.name for model in MODELS} | {PLUG, "mlp", "convnet"}
    with running_server(models=sorted(names)) as one:
        yield one


@pytest.fixture(scope="module")
def proxy(server: Server) -> Iterator[Proxy]:
    """One call at a time, so that requests wait for each other; it knows every model."""
    with running_in_front_of([server], pool={"max_inflight": 1}) as one:
        until_merged(one, PLUG, partial(plug, one))
        for model in {model.name for model in MODELS}:
            until_merged(one, model, partial(one.post, f"/v1/models/{model}:predict", {"instances": [{}]}))
        until_merged(one, "mlp", partial(one.post, "/v1/models/mlp:predict", {"instances": [[0.0] * 784]}))
        image = np.zeros((1, 32, 32, 3)).tolist()
        until_merged(one, "convnet", partial(one.post, "/v1/models/convnet:predict", {"instances": image}))
        yield one


def rest_body(model: Model, rows: Rows, column_form: bool) -> bytes:
    """A predict request."""
    document: dict[str, Any] = {"signature_name": model.signature} if model.signature else {}
    if column_form:
        document["inputs"] = {name: [row[name] for row in rows] for name in model.inputs}
    else:
        document["instances"] = rows if len(model.inputs) > 1 else [next(iter(row.values())) for row in rows]
    return json.dumps(document).encode()


@settings(max_examples=40)
@given(mates())
def test_rest_mates_get_what_a_direct_call_gives(
    server: Server, proxy: Proxy, drawn: tuple[Model, list[Rows], bool]
) -> None:
    """Splice and Equality: byte for byte, up to the order of keys; also where one of them makes the call fail."""
    model, requests, column_form = drawn
    path = f"/v1/models/{model.name}:predict"
    bodies = [rest_body(model, rows, column_form) for rows in requests]
    total = sum(map(len, requests))
    server.reset()
    found = in_one_call(server, proxy, [partial(proxy.post, path, body) for body in bodies], total)
    calls = server.counters()["rows"]
    direct = [ask(f"http://{server.rest}{path}", body) for body in bodies]
    wrong = [
        (body, expected, answer)
        for body, expected, answer in zip(bodies, direct, found, strict=True)
        if not same_answer(Case("", "POST", path, {}, body, (Answer(*expected),)), Answer(*answer))
    ]

    assert [] == wrong
    assert total + (model.name == PLUG) in {sum(calls[model.name][:1]), sum(calls[model.name][:2])}


@settings(max_examples=40)
@given(mates())
def test_grpc_mates_get_what_a_direct_call_gives(
    server: Server, proxy: Proxy, drawn: tuple[Model, list[Rows], bool]
) -> None:
    """As over REST, value for value: messages as text, in which maps are sorted and NaN is itself."""
    model, requests, _ = drawn
    messages = [grpc_message(model, rows) for rows in requests]
    server.reset()
    with grpc.insecure_channel(proxy.grpc) as far, grpc.insecure_channel(server.grpc) as near:
        asks = [partial(outcome, far, message) for message in messages]
        found = in_one_call(server, proxy, asks, sum(map(len, requests)))
        direct = [outcome(near, message) for message in messages]

    assert direct == found


def grpc_message(model: Model, rows: Rows) -> bytes:
    """A PredictRequest of these rows."""
    arrays = {}
    for name in model.inputs:
        values = [row[name] for row in rows]
        if model.dtype == "object":
            arrays[name] = np.array([_encoded(value) for value in values], object)
        else:
            arrays[name] = np.array(values, model.dtype)
    return predict_message(model.name, arrays, model.signature)


def _encoded(value: Any) -> Any:
    return [_encoded(item) for item in value] if isinstance(value, list) else value.encode()


def outcome(channel: grpc.Channel, message: bytes) -> tuple[str, str]:
    """What a Predict call ends with: the message, or code and text of its status."""
    try:
        answer = channel.unary_unary(tfs_grpc.PREDICT)(message, timeout=30)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", text_format.MessageToString(pb.PredictResponse.FromString(answer))


# ---------------------------------------------------------------- matrix products


def test_rest_slices_are_those_of_the_merged_answer(server: Server, proxy: Proxy) -> None:
    """MLP: digit for digit what the server said to the merged call, and near what it says to a direct one."""
    images = np.random.default_rng(3).random((12, 784)).round(4)
    path, sizes = "/v1/models/mlp:predict", [1, 4, 7]
    parts = np.split(images, np.cumsum(sizes)[:-1])
    bodies = [json.dumps({"instances": part.tolist()}).encode() for part in parts]
    server.reset()
    found = in_one_call(server, proxy, [partial(proxy.post, path, body) for body in bodies], 12)
    merged = next(call for call in server.captured() if "mlp" in call.method)
    sent = json.loads(merged.request.partition(b"\r\n\r\n")[2])["instances"]
    said = texts(merged.response.partition(b"\r\n\r\n")[2])
    direct = [ask(f"http://{server.rest}{path}", body)[1] for body in bodies]

    assert 12 == len(sent)
    for part, (status, answer), expected in zip(parts, found, direct, strict=True):
        start = sent.index(part[0].tolist())
        assert 200 == status
        assert said[start : start + len(part)] == texts(answer)
        assert digits_away(expected) == digits_away(answer)
        for output in ("probs", "logits"):
            near, far = (np.array([row[output] for row in json.loads(a)["predictions"]]) for a in (expected, answer))
            np.testing.assert_allclose(far, near, rtol=2e-6, atol=1e-6)


def texts(body: bytes) -> list[dict[str, list[str]]]:
    """The rows of an answer, numbers as they are written."""
    rows: list[dict[str, list[str]]] = json.loads(body, parse_float=str, parse_int=str)["predictions"]
    return rows


def digits_away(body: bytes) -> list[bytes]:
    """An answer's lines without its numbers, in any order: two outputs come in either."""
    return sorted(re.sub(rb"[-\d.e]+", b"0", line).rstrip(b",") for line in body.split(b"\n"))


def test_grpc_slices_are_those_of_the_merged_answer(server: Server, proxy: Proxy) -> None:
    """Convnet: bit for bit the merged answer, and near a direct one."""
    images = np.random.default_rng(4).random((9, 32, 32, 3), np.float32)
    parts = np.split(images, [2, 3])
    messages = [predict_message("convnet", {"image": part}) for part in parts]
    server.reset()
    with grpc.insecure_channel(proxy.grpc) as far, grpc.insecure_channel(server.grpc) as near:
        found = in_one_call(server, proxy, [partial(probs, far, message) for message in messages], 9)
        merged = next(call for call in server.captured() if call.method == tfs_grpc.PREDICT)
        direct = [probs(near, message) for message in messages]
    sent = np.frombuffer(pb.PredictRequest.FromString(merged.request).inputs["image"].tensor_content, np.float32)
    said = np.array(pb.PredictResponse.FromString(merged.response).outputs["probs"].float_val, np.float32)
    first_pixels = sent.reshape(9, -1)[:, 0].tolist()

    for part, answer, expected in zip(parts, found, direct, strict=True):
        start = first_pixels.index(part[0, 0, 0, 0])
        assert said.reshape(9, 10)[start : start + len(part)].tobytes() == answer.tobytes()
        np.testing.assert_allclose(answer, expected, rtol=2e-6, atol=1e-6)


def probs(channel: grpc.Channel, message: bytes) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """The output of a Predict call."""
    response = pb.PredictResponse.FromString(channel.unary_unary(tfs_grpc.PREDICT)(message, timeout=30))
    return np.array(response.outputs["probs"].float_val, np.float32).reshape(-1, 10)


# ---------------------------------------------------------------- rows that are not the model's


def test_inputs_that_the_graph_broadcasts_keep_to_themselves(server: Server, proxy: Proxy) -> None:
    """``b`` of rank 1 meets every row of ``a``: next to mates it would be their rows."""
    rest = [{"inputs": {"a": [[number, number]], "b": [number]}} for number in range(6)]
    path = "/v1/models/two_in_two_out:predict"
    with grpc.insecure_channel(proxy.grpc) as far, grpc.insecure_channel(server.grpc) as near:
        messages = [
            predict_message("two_in_two_out", {"a": np.full((1, 2), n, np.float32), "b": np.full(1, n, np.float32)})
            for n in range(6)
        ]
        asks: list[Callable[[], object]] = [
            *(partial(proxy.post, path, body) for body in rest),
            *(partial(outcome, far, message) for message in messages),
        ]
        with ThreadPoolExecutor(len(asks)) as callers:
            with server.held():
                waiting = [callers.submit(one) for one in asks]
                server.wait_for_running(len(asks))
            found = [one.result() for one in waiting]
        direct = [
            *(ask(f"http://{server.rest}{path}", json.dumps(body).encode()) for body in rest),
            *(outcome(near, message) for message in messages),
        ]

    assert [_unordered(answer) for answer in direct] == [_unordered(answer) for answer in found]


def _unordered(answer: Any) -> Any:
    return (answer[0], json.loads(answer[1])) if isinstance(answer[1], bytes) else answer


# ---------------------------------------------------------------- Identity

MANY_HEADERS = (
    b"X-Mark: One\r\nx-mark: two\r\nAccept: */*\r\nUser-Agent: lone/1\r\nContent-Type: text/plain; charset=x\r\n"
    b"Accept-Encoding: br\r\nX-Empty: \r\n"
)
LONE = [
    (
        b"POST /v1/models/half_plus_two:predict?a=%20b&&c HTTP/1.1\r\nHost: %HOST%\r\n" + MANY_HEADERS,
        b'{ "instances" : [ 1.50 , 2e0 ] , "other" : "\\u0041" }\n',
    ),
    (b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: %HOST%\r\n", b'{"instances": [1.0'),
    (b"POST /v1/models/reject_negative:predict HTTP/1.1\r\nHost: %HOST%\r\n", b'{"instances": [-1.0]}'),
    (b"GET /v1/models/half_plus_two/metadata HTTP/1.1\r\nHost: %HOST%\r\nCookie: a=b; c=d\r\n", b""),
    (b"GET /v1/models/no%2Fsuch%20one HTTP/1.1\r\nHost: %HOST%\r\n", b""),
    (b"PUT /else/where?x HTTP/1.1\r\nHost: %HOST%\r\n", b"\x00\xff"),
    (b"OPTIONS /v1/models/m HTTP/1.1\r\nHost: %HOST%\r\nOrigin: http://x\r\n", b""),
]


def exchange(place: str, head: bytes, body: bytes) -> bytes:
    """All bytes of an answer to a request that is written by hand."""
    host, port = place.removeprefix("http://").split(":")
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.replace(b"%HOST%", place.encode()) + length + b"\r\n" + body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(1 << 16)
        got, _, rest = answer.partition(b"\r\n\r\n")
        found = re.search(rb"(?i)content-length: (\d+)", got)
        size = int(found[1]) if found else 0
        while len(rest) < size:
            rest += connection.recv(1 << 16)
    return got + b"\r\n\r\n" + rest


def taken_apart(message: bytes) -> tuple[bytes, dict[str, str], bytes]:
    """First line, headers that are not of one hop, body. A header that comes twice is one list (RFC 9110, 5.3)."""
    head, _, body = message.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.decode("latin-1").partition(":")
        name = name.lower()
        fields[name] = f"{fields[name]}, {value.strip()}" if name in fields else value.strip()
    for name in ("host", "connection", "keep-alive", "date"):
        fields.pop(name, None)
    return first, fields, body


@pytest.mark.parametrize(("head", "body"), LONE, ids=lambda value: value[:40].decode("latin-1"))
def test_a_lone_rest_call_is_a_relay(server: Server, proxy: Proxy, head: bytes, body: bytes) -> None:
    """The server gets the caller's own bytes, and the caller the server's: first line, set of headers, body."""
    server.reset()
    found = exchange(proxy.rest, head, body)
    [through] = [call for call in server.captured() if call.front == "rest"]
    server.reset()
    direct = exchange(server.rest, head, body)
    [straight] = [call for call in server.captured() if call.front == "rest"]

    assert taken_apart(straight.request) == taken_apart(through.request)
    assert taken_apart(direct) == taken_apart(found)
    assert taken_apart(through.response) == taken_apart(found)


UNKNOWN = b"\x6a\x04abcd" + b"\x2a\x02\x08\x01" + b"\x32\x02id" + b"\x3a\x02\x10\x01" + b"\xf8\x7f\x05"
"""Fields 13, 5, 6, 7 and 2047 of a PredictRequest."""


@pytest.mark.parametrize(
    "message",
    [
        predict_message("half_plus_two", {"x": np.array([1, 2], np.float32)}),
        predict_message("half_plus_two", {"x": np.array([1, 2], np.float32)}, extras=UNKNOWN),
        predict_message("reject_negative", {"x": np.array([-1], np.float32)}),
        predict_message("half_plus_two", {"x": np.array([1, 2], np.float32)})[:-3],
    ],
    ids=["plain", "unknown fields", "refused", "broken"],
)
def test_a_lone_grpc_call_is_a_relay(server: Server, proxy: Proxy, message: bytes) -> None:
    """Message for message and status for status; the caller's metadata arrives, but for that of the connection."""
    metadata = [("x-mark", "one"), ("x-mark-bin", b"\x00\xff"), ("authorization", "Bearer x")]
    found = []
    for place in (proxy.grpc, server.grpc):
        server.reset()
        with grpc.insecure_channel(place) as channel:
            try:
                answer = channel.unary_unary(tfs_grpc.PREDICT)(message, timeout=30, metadata=metadata)
            except grpc.RpcError as error:
                answer = (error.code(), error.details(), error.trailing_metadata())
        captured = [call for call in server.captured() if call.method == tfs_grpc.PREDICT]
        own = {"user-agent", "grpc-accept-encoding", "te", "content-type"}
        sent = [{k: v for k, v in call.metadata.items() if k not in own} for call in captured]
        found.append((answer, [call.request for call in captured], [call.response for call in captured], sent))
    (through, requests, responses, _), _ = found

    assert found[1] == found[0]
    assert all(request == message for request in requests)
    assert all(response in {through, b""} for response in responses)


# ---------------------------------------------------------------- unknown fields


def test_unknown_fields_reach_the_server_in_a_merged_call(server: Server, proxy: Proxy) -> None:
    """They are part of the key: those who send the same share a call, which carries them once; others do not."""
    x = {"x": np.array([3], np.float32)}
    plain = [predict_message("many_out", x)] * 3
    marked = [predict_message("many_out", x, extras=UNKNOWN)] * 3
    others = [predict_message("many_out", x, extras=b"\x6a\x01z")] * 2
    server.reset()
    with grpc.insecure_channel(proxy.grpc) as far:
        asks = [partial(outcome, far, message) for message in (*plain, *marked, *others)]
        found = in_one_call(server, proxy, asks, 8)
    calls = [
        pb.PredictRequest.FromString(call.request) for call in server.captured() if call.method == tfs_grpc.PREDICT
    ]
    by_rows = {call.inputs["x"].tensor_shape.dim[0].size: [] for call in calls}  # type: ignore[var-annotated]
    for call in calls:
        size = call.inputs["x"].tensor_shape.dim[0].size
        call.ClearField("model_spec")
        call.ClearField("inputs")
        by_rows[size].append(call.SerializeToString())

    assert {"OK"} == {code for code, _ in found}
    assert {3: sorted([b"", UNKNOWN]), 2: [b"\x6a\x01z"]} == {size: sorted(said) for size, said in by_rows.items()}
