"""A wrong answer is seen, whatever it looks like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from batchproxy.codecs import tfs_grpc
from batchproxy.core.columns import Array, ArrayColumn
from batchproxy.core.request import Reply
from benchmarks.load.job import Job, Result
from benchmarks.load.payloads import payload_of


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Two rows; the model adds one."""
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    np.savez(tmp_path / "rows.npz", x=x, y=x + 1)
    return Job("rest", 1, 1, "m", str(tmp_path / "rows.npz"), 1, 1.0, 0.0)


def _response(values: Array) -> bytes:
    return tfs_grpc.encode_predict(Reply({"y": ArrayColumn(values)}, 1), "m", "serving_default")


def test_rest_requests_are_http(job: Job) -> None:
    """Each row is one request with its own length."""
    requests = payload_of(job).requests

    assert 2 == len(requests)
    assert requests[0].startswith(b"POST /v1/models/m:predict HTTP/1.1\r\n")
    assert requests[1].endswith(b'Content-Length: 29\r\n\r\n{"instances":[[4.0,5.0,6.0]]}')


@pytest.mark.parametrize("repeat", [1, 2])
@pytest.mark.parametrize(
    ("right", "answer"),
    [
        (True, b'{"predictions": [[2.0, 3.0, 4.0]]}'),
        (False, b'{"predictions": [[5.0, 6.0, 7.0]]}'),
        (False, b'{"predictions": [[2.0, 3.0]]}'),
        (False, b'{"predictions": [[2.0, 3.0, 4.0], [2.0, 3.0, 4.0]]}'),
        (False, b'{"error": "no"}'),
        (False, b"no JSON"),
    ],
)
def test_rest_answers_are_checked(job: Job, right: bool, answer: bytes, repeat: int) -> None:
    """The values of this very row, and of no other, are right: the first time and when seen before."""
    payload = payload_of(job)
    verdicts = [payload.right(0, answer) for _ in range(repeat)]

    assert [right] * repeat == verdicts


def test_grpc_answers_are_checked(job: Job) -> None:
    """As for REST."""
    payload = payload_of(replace(job, protocol="grpc"))
    own, other = (_response(np.array([row], np.float32)) for row in ([2, 3, 4], [5, 6, 7]))

    assert [True, True] == [payload.right(0, own), payload.right(1, other)]
    assert not payload.right(0, other)
    assert not payload.right(0, _response(np.zeros((2, 3), np.float32)))
    assert not payload.right(0, b"")
    assert not payload.right(0, b"\xff")


def test_requests_of_several_rows_and_outputs(job: Job, tmp_path: Path) -> None:
    """A fixed batch goes as one request, whose rows and outputs are all looked at; REST names several outputs."""
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.savez(tmp_path / "rows.npz", x=x, plus=x + 1, twice=2 * x)
    rest = payload_of(replace(job, request_rows=2))
    grpc = payload_of(replace(job, request_rows=2, protocol="grpc"))
    rows = [{"plus": [3, 4], "twice": [4, 6]}, {"plus": [1, 2], "twice": [0, 2]}]
    columns = {"plus": ArrayColumn(x[:2] + 1), "twice": ArrayColumn(2 * x[:2])}
    both, one = (
        tfs_grpc.encode_predict(Reply(outputs, 1), "m", "") for outputs in (columns, {"plus": columns["plus"]})
    )

    assert [2, 2] == [len(payload.requests) for payload in (rest, grpc)]
    assert rest.requests[1].endswith(b'{"instances":[[4.0,5.0],[6.0,7.0]]}')
    assert rest.right(0, orjson.dumps({"predictions": rows[::-1]}))
    assert not rest.right(0, orjson.dumps({"predictions": rows}))
    assert not rest.right(0, orjson.dumps({"predictions": [{"plus": [1, 2]}, {"plus": [3, 4]}]}))
    assert [True, False] == [grpc.right(0, both), grpc.right(1, both)]
    assert not grpc.right(0, one)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_an_echo_gives_back_what_was_sent(job: Job, protocol: str) -> None:
    """The body for REST, the message for gRPC."""
    payload = payload_of(replace(job, protocol=protocol, echo=True))
    sent = payload.requests[0].rpartition(b"\r\n\r\n")[2] if protocol == "rest" else payload.requests[0]

    assert payload.right(0, sent)
    assert not payload.right(1, sent)


def test_results_count_right_answers_only() -> None:
    """Rates and costs are per right answer."""
    result = Result(answered=100, seconds=2.0, server_cpu_s=0.5)

    assert 50 == result.per_second
    assert 5000 == result.cpu_us
    assert (0.0, 0.0) == (Result().per_second, Result().cpu_us)
