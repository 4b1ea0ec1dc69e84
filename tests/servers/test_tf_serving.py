"""Every kind of caller through the proxy to TF Serving's test server, over either of its doors, by element type."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from batchproxy.codecs import _dtypes, tfs_calls, tfs_grpc, v2_grpc
from batchproxy.protos import v2_pb2
from tests.proxy import Proxy, ask, running_in_front_of
from tests.servers import callers
from tests.servers.callers import CALLERS, Place, same, some_inputs, wanted
from tests.servers.fixture import ROOT
from tests.servers.test_matrix import LACKING
from tests.servers.zoo import BF16, DTYPES
from tests.tfserving.fixture import Server, running_server

DOORS = ("grpc", "rest")
CROWD = 6
NO_WORDS = {"UINT16", "FP16", BF16}
"""Element types that TF Serving's REST API has no words for, whoever calls it."""

MATRIX = [
    (door, caller, datatype)
    for door in DOORS
    for caller in CALLERS
    for datatype in (*DTYPES, BF16)
    if datatype not in LACKING.get(caller, set()) | (NO_WORDS if door == "rest" else set())
]
_SIGNATURES = {"FP32": "serving_default", "FP64": "double", "FP16": "half"}


class Front:
    """A proxy before one door of the server.

    Attributes:
        place: where callers call.
    """

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.place = Place(proxy.rest.removeprefix("http://"), proxy.grpc)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """With a model that gives back what it gets, in each type."""
    with running_server(models=["dtypes", "strings", "many_out", "scalar_out", "reject_negative", "special"]) as one:
        yield one


@pytest.fixture(scope="module")
def fronts(server: Server) -> Iterator[dict[str, Front]]:
    """A proxy for each door."""
    with (
        running_in_front_of([server], doors=["grpc"]) as by_grpc,
        running_in_front_of([server], doors=["rest"]) as by_rest,
    ):
        found = {"grpc": Front(by_grpc), "rest": Front(by_rest)}
        yield found
        for front in found.values():
            front.place.close()


def signature_of(datatype: str) -> str:
    """What the model calls it."""
    row = _dtypes.by_v2(datatype)
    assert row is not None
    return _SIGNATURES.get(datatype, row.name)


@pytest.mark.parametrize(("door", "caller", "datatype"), MATRIX)
def test_each_gets_its_own(fronts: dict[str, Front], door: str, caller: str, datatype: str) -> None:
    """Alone and in company, each value comes back as it went: no two callers send the same."""
    place, signature = fronts[door].place, signature_of(datatype)
    asked = [{"x": some_inputs(datatype, 1 + number % 3, 10 * number)["x"][:, 0]} for number in range(1 + CROWD)]
    alone = CALLERS[caller](place, "dtypes", asked[0], signature)
    with ThreadPoolExecutor(CROWD) as crowd:
        together = list(crowd.map(lambda inputs: CALLERS[caller](place, "dtypes", inputs, signature), asked[1:]))
    expected = [wanted(caller, {"y": inputs["x"]}) for inputs in asked]

    assert same(expected[0], alone)
    assert [True] * CROWD == [same(*pair) for pair in zip(expected[1:], together, strict=True)]


@pytest.mark.parametrize("caller", ["tfs-grpc", "v2-rest-json", "v2-rest-binary", "v2-grpc"])
def test_tensors_share_calls_of_a_server_without_a_grpc_door(fronts: dict[str, Front], caller: str) -> None:
    """They are merged, and each gets its own rows."""
    front = fronts["rest"]

    def ask(number: int) -> bool:
        x = np.arange(number, number + 2, dtype=np.float32)
        return same({"y": x}, CALLERS[caller](front.place, "dtypes", {"x": x}))

    def rows_beside_calls() -> float:
        rows, count = (front.proxy.metric(f"batchproxy_batch_rows_{which}") for which in ("sum", "count"))
        return rows - 2 * count

    before, right, number = rows_beside_calls(), True, 0
    with ThreadPoolExecutor(CROWD) as crowd:
        while rows_beside_calls() < before + 8:
            right = right and all(crowd.map(ask, range(number, number + 4 * CROWD)))
            number += 4 * CROWD

    assert right


@pytest.mark.parametrize("caller", ["tfs-grpc", "v2-rest-json", "v2-grpc"])
@pytest.mark.parametrize("door", DOORS)
def test_one_bad_row_fails_alone(fronts: dict[str, Front], door: str, caller: str) -> None:
    """A model that refuses a call for one of its rows: the others get theirs all the same (R3)."""

    def ask(number: int) -> bool | int:
        x = np.array([-1 if number % 4 == 0 else number * number], np.float32)
        try:
            return same({"y": np.sqrt(abs(x))}, CALLERS[caller](fronts[door].place, "reject_negative", {"x": x}))
        except callers.Refused as error:
            return error.status

    with ThreadPoolExecutor(CROWD) as crowd:
        found = list(crowd.map(ask, range(4 * CROWD)))
    refused = 3 if caller.endswith("grpc") else 400

    assert [refused if number % 4 == 0 else True for number in range(4 * CROWD)] == found


@pytest.mark.parametrize("caller", ["tfs-grpc", "v2-rest-binary", "v2-grpc"])
@pytest.mark.parametrize("door", DOORS)
def test_what_json_has_no_words_for(fronts: dict[str, Front], door: str, caller: str) -> None:
    """Infinities and not-a-numbers, strings that are no text, and tensors without axes: the same by either door."""
    place, ask = fronts[door].place, CALLERS[caller]
    x = np.array([0.0, -0.0, np.inf, np.nan, 2.0], np.float32)
    with np.errstate(divide="ignore"):
        expected = {"y": np.float32(1) / x, "log": np.log(x)}
    odd = ask(place, "special", {"x": x})
    text = np.array([b"\xff\x00", b"", "é".encode()], object)
    total = ask(place, "scalar_out", {"x": np.array([1.5, 2.0], np.float32)})

    np.testing.assert_array_equal(expected["y"], odd["y"])
    np.testing.assert_allclose(odd["log"], expected["log"], rtol=1e-6)
    assert [item + b"!" for item in text] == ask(place, "strings", {"s": text})["s"].tolist()
    assert same({"out_bytes": text}, ask(place, "strings", {"s": text}, "bytes_out"))
    assert same({"total": np.array(3.5, np.float32)}, total)


def test_types_without_words_are_refused_by_name(fronts: dict[str, Front]) -> None:
    """UNIMPLEMENTED, with what to do."""
    said = []
    for caller in ("tfs-grpc", "v2-grpc", "v2-rest-binary"):
        with pytest.raises(callers.Refused) as caught:
            CALLERS[caller](fronts["rest"].place, "dtypes", {"x": np.ones(1, np.float16)}, "half")
        said.append((caught.value.status, "'x' is of type float16" in caught.value.text))
        assert "name a gRPC door" in caught.value.text

    assert [(12, True), (12, True), (501, True)] == said


@pytest.mark.parametrize("door", DOORS)
def test_types_without_a_counterpart(fronts: dict[str, Front], door: str) -> None:
    """TensorFlow has complex numbers, the Open Inference Protocol has none: that is said of the model's input."""
    with pytest.raises(callers.Refused) as caught:
        CALLERS["v2-grpc"](fronts[door].place, "dtypes", {"x": np.ones(1, np.float32)}, "complex64")

    assert 12 == caught.value.status
    assert "of type DT_COMPLEX64, which has no counterpart" in caught.value.text
    assert "'x'" in caught.value.text


def test_a_part_of_the_outputs(fronts: dict[str, Front], server: Server) -> None:
    """The server sends all, the caller gets those it asked for."""
    message = tfs_calls.encode_predict_request(
        callers.key_of("many_out")._replace(outputs=("o3",)), callers.columns_of({"x": np.ones(2, np.float32)})
    )
    reply = tfs_calls.decode_predict_reply(callers.call(fronts["rest"].place.channel, tfs_grpc.PREDICT, message))
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 1]}
    body = {"inputs": [tensor], "outputs": [{"name": "o4"}, {"name": "o2"}]}
    outputs = json.loads(fronts["rest"].proxy.post("/v2/models/many_out/infer", body)[1])["outputs"]

    assert ["o3"] == list(reply.columns)
    assert [("o4", [5.0, 5.0]), ("o2", [3.0, 3.0])] == [(one["name"], one["data"]) for one in outputs]


def test_what_a_server_without_a_grpc_door_says_of_its_models(fronts: dict[str, Front]) -> None:
    """Metadata and status for callers of gRPC are made of its documents; other methods need the door."""
    channel, proxy = fronts["rest"].place.channel, fronts["rest"].proxy
    asked = tfs_calls.encode_metadata_request("dtypes", None)
    info = tfs_calls.decode_metadata_reply(callers.call(channel, tfs_grpc.GET_MODEL_METADATA, asked))
    document = tfs_calls.decode_metadata_document(proxy.get(f"{proxy.rest}/v1/models/dtypes/metadata")[1])
    asked = tfs_calls.encode_status_request("dtypes", None)
    status = tfs_calls.decode_status_reply(callers.call(channel, tfs_grpc.GET_MODEL_STATUS, asked))
    ready = v2_grpc.decode_flag(callers.call(channel, v2_grpc.MODEL_READY, v2_grpc.encode_model("dtypes", None)))
    said = []
    for method in (tfs_grpc.GET_MODEL_STATUS, tfs_grpc.GET_MODEL_METADATA, tfs_grpc.PREDICT):
        with pytest.raises(callers.Refused) as caught:
            callers.call(channel, method, tfs_calls.encode_status_request("nobody", None))
        said.append(caught.value.status)
    with pytest.raises(callers.Refused, match="no gRPC door, through which HandleReloadConfigRequest") as reload:
        callers.call(channel, tfs_grpc.RELOAD_CONFIG, b"")

    assert (document, True) == (info, ready)
    assert [(info.version, tfs_grpc.State.AVAILABLE)] == [(one.version, one.state) for one in status]
    assert [5, 3, 5] == said
    assert 12 == reload.value.status


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("door", DOORS)
def test_statistics_are_the_proxys_own(fronts: dict[str, Front], door: str, caller: str) -> None:
    """Triton's form over both doors; each row is counted once, refused requests apart; of no other model."""
    front, model = fronts[door], "reject_negative"
    ask, good, bad = CALLERS[caller], np.array([4, 9], np.float32), np.array([-1], np.float32)

    def counted() -> tuple[int, int, int]:
        """Rows, requests that went well, and others; by REST, which gRPC confirms."""
        (one,) = json.loads(front.proxy.get(f"{front.proxy.rest}/v2/models/{model}/stats")[1])["model_stats"]
        message = v2_grpc.encode_model(model, int(one["version"]))
        answer = callers.call(front.place.channel, v2_grpc.MODEL_STATISTICS, message)
        (other,) = v2_pb2.ModelStatisticsResponse.FromString(answer).model_stats
        stats = one["inference_stats"]
        assert (one["inference_count"], model, one["version"]) == (other.inference_count, other.name, other.version)
        assert one["inference_count"] == sum(
            size["batch_size"] * size["compute_infer"]["count"] for size in one["batch_stats"]
        )
        return one["inference_count"], stats["success"]["count"], stats["fail"]["count"]

    def read_all() -> None:
        """The first calls of a model may be passed on unread, and count as a row each."""
        rows, requests, _ = counted()
        ask(front.place, model, {"x": good})
        if counted()[:2] != (rows + 2, requests + 1):
            read_all()

    read_all()
    before = counted()
    with ThreadPoolExecutor(CROWD) as crowd:
        list(crowd.map(lambda _: ask(front.place, model, {"x": good}), range(CROWD)))
    with pytest.raises(callers.Refused):
        ask(front.place, model, {"x": bad})
    after = counted()

    assert (2 * CROWD, CROWD, 1) == tuple(now - then for now, then in zip(after, before, strict=True))


@pytest.mark.parametrize("door", DOORS)
def test_statistics_of_what_is_not_there(fronts: dict[str, Front], door: str) -> None:
    """The server says that it has no such model; of all models, those that were asked for are told."""
    front = fronts[door]
    status, _ = ask(f"{front.proxy.rest}/v2/models/nobody/stats")
    ask(f"{front.proxy.rest}/v1/models/dtypes/versions/7:predict", b"{}")
    CALLERS["v2-grpc"](front.place, "dtypes", {"x": np.ones(1, np.float32)})
    every = json.loads(ask(f"{front.proxy.rest}/v2/models/stats")[1])["model_stats"]
    with pytest.raises(callers.Refused) as caught:
        callers.call(front.place.channel, v2_grpc.MODEL_STATISTICS, v2_grpc.encode_model("dtypes", 99))

    assert (404, 5) == (status, caught.value.status)
    assert "dtypes" in {one["name"] for one in every}
    assert "nobody" not in {one["name"] for one in every}


def test_the_page_says_what_is_tried() -> None:
    """docs/protocols.md has a row for each caller, and a column for each door."""
    page = (ROOT / "docs" / "protocols.md").read_text().partition("\n## Callers and TensorFlow Serving\n")[2]
    lines = [line for line in page.partition("\n## ")[0].splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]

    def cell(caller: str, door: str) -> str:
        lacking = LACKING.get(caller, set()) | (NO_WORDS if door == "rest" else set())
        return " but ".join(["all", ", ".join(sorted(lacking, reverse=True))] if lacking else ["all"])

    assert ["Caller", "gRPC door", "REST door"] == rows[0]
    assert [[f"`{caller}`", *(cell(caller, door) for door in DOORS)] for caller in CALLERS] == rows[2:]
