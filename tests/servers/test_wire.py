"""What reaches the caller of a real server, to the byte; and what a proxy learns of one by its refusals."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from batchproxy.codecs import tfs_calls, tfs_grpc, v2_grpc
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import DEFAULT_SIGNATURE, Signature, TensorSpec
from tests.proxy import ask, running
from tests.servers import callers
from tests.servers.callers import Place, same, some_inputs
from tests.servers.fixture import KINDS, RealServer, python_of
from tests.servers.test_matrix import Front, front
from tests.servers.zoo import BF16

CROWD = 8


@pytest.fixture(scope="module", params=tuple(KINDS))
def both(request: pytest.FixtureRequest, servers: dict[str, RealServer]) -> Iterator[Front]:
    """A proxy that knows both doors of a server, before each of them."""
    with front(servers[request.param], "both") as found:
        yield found


def infer(**more: object) -> bytes:
    """A JSON request for two rows, with an id of its own."""
    inputs = [
        {"name": "x", "datatype": "INT64", "shape": [2, 2], "data": [1, 2, 3, 4]},
        {"name": "row", "datatype": "INT64", "shape": [2, 1], "data": [7, 8]},
    ]
    return json.dumps({"id": "an-id", "inputs": inputs, **more}).encode()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/models/echo_int64/infer", infer()),
        ("/v2/models/echo_int64/infer", infer(outputs=[{"name": "row"}])),
        ("/v2/models/nobody/infer", infer()),
        ("/v2/models/echo_int64/versions/9/infer", infer()),
        ("/v2/models/echo_fp32/infer", b"{"),
        ("/v2/models/echo_int64", b""),
        ("/v2/models/nobody", b""),
        ("/v2/models/echo_int64/ready", b""),
        ("/v2/models/echo_int64/config", b""),
        ("/v2/models/echo_int64/stats", b""),
    ],
)
def test_rest_callers_get_the_servers_own_bytes(both: Front, path: str, body: bytes) -> None:
    """Alone, an answer is the server's, whatever it says (R1: identity)."""
    headers = {"content-type": "application/json"} if body else None
    assert both.server is not None
    direct = ask(f"http://{both.server.rest}{path}", body or None, headers)
    through = ask(f"{both.proxy.rest}{path}", body or None, headers)

    assert direct[0] == through[0]
    if not path.endswith("/stats"):  # it counts both calls
        assert direct[1] == through[1]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (v2_grpc.MODEL_INFER, (DEFAULT_SIGNATURE, "echo_int64", None)),
        (v2_grpc.MODEL_INFER, (DEFAULT_SIGNATURE, "nobody", None)),
        (v2_grpc.MODEL_INFER, (DEFAULT_SIGNATURE, "echo_fp32", None)),
        (v2_grpc.MODEL_METADATA, v2_grpc.encode_model("echo_int64", None)),
        (v2_grpc.MODEL_METADATA, v2_grpc.encode_model("nobody", None)),
        (v2_grpc.MODEL_READY, v2_grpc.encode_model("echo_int64", None)),
        (v2_grpc.MODEL_CONFIG, v2_grpc.encode_model("echo_int64", None)),
    ],
)
def test_grpc_callers_get_the_servers_own_bytes(
    both: Front, method: str, message: bytes | tuple[str, str, None]
) -> None:
    """The same: message, code and text."""
    if not isinstance(message, bytes):
        signature, model, version = message
        columns = {name: ArrayColumn(array) for name, array in some_inputs("INT64", 2, 5).items()}
        message = v2_grpc.encode_infer_request(BatchKey(model, version, signature), columns) + b"\x1a\x05an-id"

    def said(channel: grpc.Channel) -> tuple[object, ...]:
        try:
            return (callers.call(channel, method, message),)
        except callers.Refused as error:
            return error.status, error.text

    assert said(both.direct.channel) == said(both.through.channel)


NO_BF16 = {
    "triton": ("receiving BF16 data via JSON is not supported", "data-type is 'BF16', but"),
    "mlserver": ("Input should be 'BOOL', 'UINT8'", "'BF16' is not a valid Datatype"),
    "kserve": ("invalid datatype None in the input", "invalid content type"),
}
"""What a server says to bfloat16, as JSON and by gRPC; Triton, where the model is of another type."""


def test_a_type_that_a_server_does_not_have(both: Front) -> None:
    """Its own refusal of a direct call is the one that comes through."""
    assert both.server is not None
    tensors = some_inputs(BF16, 1, 7)
    x = {"name": "x", "datatype": BF16, "shape": [1, 2], "data": [1.5, -2.0]}
    row = {"name": "row", "datatype": "INT64", "shape": [1, 1], "data": [7]}
    body = json.dumps({"inputs": [x, row]}).encode()
    found = []
    for place in (both.direct, both.through):
        with pytest.raises(callers.Refused) as by_rest:
            callers.post(place.rest, "/v2/models/echo_fp16/infer", body, {"content-type": "application/json"})
        with pytest.raises(callers.Refused) as by_grpc:
            callers.v2_grpc_call(place, "echo_fp16", tensors)
        found.append([(error.value.status, error.value.text) for error in (by_rest, by_grpc)])
    direct, through = found

    assert direct == through
    assert [True, True] == [text in said for text, (_, said) in zip(NO_BF16[both.server.kind], direct, strict=True)]


def test_triton_says_how_many_rows_it_takes(servers: dict[str, RealServer]) -> None:
    """Above a model's ``max_batch_size`` batches are halved; a call that is larger by itself gets Triton's words."""

    def ask_for(number: int) -> bool:
        inputs = some_inputs("INT64", 1, number)
        wanted = {"y": inputs["x"][:, ::-1], "row": inputs["row"]}
        return same(wanted, callers.tfs_grpc_call(before.through, "capped", inputs))

    with front(servers["triton"], "grpc") as before:
        with ThreadPoolExecutor(CROWD) as crowd:
            right = list(crowd.map(ask_for, range(8 * CROWD)))
        with pytest.raises(callers.Refused) as caught:
            callers.tfs_grpc_call(before.through, "capped", some_inputs("INT64", 5, 1))

    assert all(right)
    assert 3 == caught.value.status
    assert "inference request batch-size must be <= 4 for 'capped'" in caught.value.text


def test_tf_servings_clients_see_a_servers_models(both: Front) -> None:
    """Signature, version and status, made of the server's metadata."""
    assert both.server is not None
    version = 1 if both.server.kind == "triton" else 0  # the others name none
    question = tfs_calls.encode_metadata_request("mlp", None)
    info = tfs_calls.decode_metadata_reply(callers.call(both.through.channel, tfs_grpc.GET_MODEL_METADATA, question))
    status = tfs_calls.decode_status_document(ask(f"{both.proxy.rest}/v1/models/mlp")[1])
    document = tfs_calls.decode_metadata_document(ask(f"{both.proxy.rest}/v1/models/mlp/metadata")[1])
    row = TensorSpec("int64", (None, 1), "row")
    expected = Signature(
        {"x": TensorSpec("float32", (None, 8), "x"), "row": row},
        {"y": TensorSpec("float32", (None, 3), "y"), "row": row},
    )

    assert ("mlp", version, {DEFAULT_SIGNATURE: expected}) == (info.name, info.version, info.signatures)
    assert info == document
    assert (tfs_grpc.VersionStatus(version),) == status


def test_no_model_no_answer(both: Front) -> None:
    """TF Serving's callers are told so by code."""
    with pytest.raises(callers.Refused) as by_grpc:
        callers.tfs_grpc_call(both.through, "nobody", some_inputs("INT64", 1, 1))
    by_rest = ask(f"{both.proxy.rest}/v1/models/nobody:predict", b'{"instances": [1]}')[0]

    assert (5, 404) == (by_grpc.value.status, by_rest)


@pytest.mark.parametrize("batchable", [None, True])
def test_kserves_v1_protocol(servers: dict[str, RealServer], batchable: bool | None) -> None:
    """It is TF Serving's REST without metadata: passed on; merged where the configuration says that it may be."""
    model: dict[str, object] = {} if batchable is None else {"batchable": batchable}
    server = servers["kserve"]
    direct = Place(server.rest, server.grpc)
    asked = [some_inputs("INT64", 1, number) for number in range(4 * CROWD)]
    expected = [json.loads(callers.tfs_rows(direct, "echo_int64", inputs)) for inputs in asked]
    direct.close()
    entry = {"endpoint": f"http://{server.rest}", "canary_every": 0, **model}
    with running({"echo_int64": entry}) as proxy, ThreadPoolExecutor(CROWD) as crowd:
        place = Place(proxy.rest.removeprefix("http://"), proxy.grpc)
        found = list(crowd.map(lambda inputs: json.loads(callers.tfs_rows(place, "echo_int64", inputs)), asked))
        place.close()

    assert expected == found


STRANGERS = Path(__file__).with_name("strangers")


@pytest.mark.parametrize(("kind", "script"), [("triton", "tritonclient_calls.py"), ("kserve", "kserve_calls.py")])
def test_strangers(both: Front, kind: str, script: str) -> None:
    """Other people's clients, in their own environments; only the address is another."""
    place = both.proxy.rest.removeprefix("http://")
    done = subprocess.run(
        [str(python_of(kind)), str(STRANGERS / script), place, both.proxy.grpc],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "as expected\n") == (done.returncode, done.stdout), done.stderr


def test_numbers_keep_every_bit(both: Front) -> None:
    """Not-a-numbers, infinities, signed zeros and numbers below the smallest normal one, as bytes."""
    x = np.array([[np.nan, -0.0], [np.inf, 1e-45], [-np.inf, 3.4028235e38]], np.float32)
    answer = callers.v2_grpc_call(both.through, "echo_fp32", {"x": x, "row": np.arange(3).reshape(3, 1)})

    assert x[:, ::-1].tobytes() == np.ascontiguousarray(answer["y"]).tobytes()
