"""Nobody's row reaches another caller: 20,000 numbered requests over real sockets, REST and gRPC mixed."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter

import aiohttp
import grpc
import numpy as np
import pytest

from batchproxy.codecs import tensor_proto, tfs_grpc
from batchproxy.protos import tfs_pb2 as pb
from tests.proxy import running

REQUESTS = 20_000
CALLERS = 256
MODEL = "numbered"


def rows_of(first: int, count: int) -> tuple[list[int], list[list[float]]]:
    """The numbers of a request's rows, and weights whose sum tells the number again (exact in float32)."""
    numbers = list(range(first, first + count))
    return numbers, [[float(number), 0.5] for number in numbers]


def expected(numbers: list[int]) -> list[tuple[int, bytes, float]]:
    """What the model answers for these rows."""
    return [(number, b"row-%d" % number, number + 0.5) for number in numbers]


async def ask_rest(session: aiohttp.ClientSession, url: str, first: int, count: int) -> list[tuple[int, bytes, float]]:
    """One request in row form, or in column form for every third one."""
    numbers, weights = rows_of(first, count)
    body: dict[str, object]
    if first % 3:
        body = {"instances": [{"number": n, "weight": w} for n, w in zip(numbers, weights, strict=True)]}
    else:
        body = {"inputs": {"number": numbers, "weight": weights}}
    async with session.post(url, data=json.dumps(body)) as answer:
        document = await answer.json()
        assert 200 == answer.status, document
    if first % 3:
        return [(row["number"], row["name"].encode(), row["sum"]) for row in document["predictions"]]
    columns = document["outputs"]
    return [(n, s.encode(), w) for n, s, w in zip(columns["number"], columns["name"], columns["sum"], strict=True)]


async def ask_grpc(predict: grpc.aio.UnaryUnaryMultiCallable, first: int, count: int) -> list[tuple[int, bytes, float]]:
    """One Predict call, typed values or tensor content by turns."""
    numbers, weights = rows_of(first, count)
    request = pb.PredictRequest()
    request.model_spec.name = MODEL
    if first % 2:
        tensor_proto.write(np.array(numbers, np.int64), request.inputs["number"])
        tensor_proto.write(np.array(weights, np.float32), request.inputs["weight"])
    else:
        for name, array in (("number", np.array(numbers, np.int64)), ("weight", np.array(weights, np.float32))):
            tensor = request.inputs[name]
            tensor.dtype = 9 if name == "number" else 1
            for size in array.shape:
                tensor.tensor_shape.dim.add().size = size
            tensor.tensor_content = array.tobytes()
    response = pb.PredictResponse.FromString(await predict(request.SerializeToString(), timeout=60))
    outputs = response.outputs
    return list(zip(outputs["number"].int64_val, outputs["name"].string_val, outputs["sum"].float_val, strict=True))


@pytest.mark.slow
async def test_twenty_thousand_requests_get_their_own_rows_in_a_tenth_of_the_calls() -> None:
    """0 wrong, 0 lost, 0 hanging; 256 callers, 1-7 rows; the model takes 5 ms a call."""
    dice = random.Random(20_261_121)  # row counts, not secrets
    jobs = []
    first = 0
    for _ in range(REQUESTS):
        count = dice.randint(1, 7)
        jobs.append((first, count))
        first += count
    queue = iter(jobs)
    wrong: Counter[str] = Counter()
    answered = 0

    with running({MODEL: f"python:tests.models:{MODEL}"}) as proxy:
        url = f"{proxy.rest}/v1/models/{MODEL}:predict"
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session, grpc.aio.insecure_channel(proxy.grpc) as door:
            predict = door.unary_unary(tfs_grpc.PREDICT)

            async def caller(number: int) -> None:
                nonlocal answered
                for start, count in queue:
                    protocol = "grpc" if number % 2 else "rest"
                    if number % 2:
                        found = await ask_grpc(predict, start, count)
                    else:
                        found = await ask_rest(session, url, start, count)
                    wrong[protocol] += found != expected(list(range(start, start + count)))
                    answered += 1

            await asyncio.gather(*(caller(number) for number in range(CALLERS)))
        calls = proxy.metric("batchproxy_backend_calls_total", model=MODEL)
        recorded = proxy.metric("batchproxy_requests_total", model=MODEL, code="OK")
        rows = proxy.metric("batchproxy_batch_rows_sum", model=MODEL)
        status = proxy.stop()

    assert {"grpc": 0, "rest": 0} == dict(wrong)
    assert REQUESTS == answered == recorded
    assert first == rows
    assert calls <= REQUESTS / 10
    assert 0 == status
