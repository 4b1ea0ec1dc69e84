"""ModelStreamInfer through the proxy: to a real server that has it, and to models called message by message."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import grpc
import pytest

from batchproxy.codecs import v2_grpc
from batchproxy.protos import v2_pb2 as pb
from tests.servers.callers import columns_of, key_of, some_inputs
from tests.servers.fixture import ROOT, RealServer, python_of
from tests.servers.test_matrix import Front, front

SCRIPT = ROOT / "tests" / "servers" / "strangers" / "tritonclient_stream.py"


@pytest.fixture(scope="module", params=["triton-grpc", "triton-rest", "mlserver-rest", "kserve-rest", "embedded-here"])
def before(request: pytest.FixtureRequest, servers: dict[str, RealServer]) -> Iterator[Front]:
    """A proxy before a server that has streams, before doors that have none, and one with the models in itself."""
    kind, door = request.param.split("-")
    with front(servers.get(kind), door) as found:
        yield found


def test_tritonclient(before: Front) -> None:
    """Answers in order, each under its id, errors among them."""
    if before.server is not None and before.server.kind != "triton":
        return  # other servers word their errors otherwise; the next test has them
    place = before.proxy.rest.removeprefix("http://")
    line = [str(python_of("triton")), str(SCRIPT), place, before.proxy.grpc]
    done = subprocess.run(line, capture_output=True, text=True, check=False)

    assert (0, "as expected\n") == (done.returncode, done.stdout), done.stderr


def test_each_message_is_a_call(before: Front) -> None:
    """Numbered rows come back in order, whoever runs them."""
    asked = []
    for number in range(20):
        message = v2_grpc.encode_infer_request(key_of("echo_int64"), columns_of(some_inputs("INT64", 2, number)))
        asked.append(message + b"\x1a\x02" + b"%02d" % number)
    call = before.through.channel.stream_stream(v2_grpc.MODEL_STREAM_INFER)(iter(asked), timeout=60)
    said = [pb.ModelStreamInferResponse.FromString(answer) for answer in call]
    rows = [v2_grpc.decode_reply(one.infer_response.SerializeToString()).columns["row"] for one in said]

    assert [f"{number:02}" for number in range(20)] == [one.infer_response.id for one in said]
    assert [[[number], [number + 1]] for number in range(20)] == [row.array.tolist() for row in rows]  # type: ignore[attr-defined]
    assert grpc.StatusCode.OK is call.code()
