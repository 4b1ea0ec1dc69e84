"""Nobody's row reaches another caller, and none is lost, while servers are killed: 6,000 numbered requests.

REST to REST, gRPC to gRPC and REST bridged to gRPC, mixed, over two servers of which each dies once under load.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator

import aiohttp
import grpc
import pytest

from batchproxy.codecs import tfs_grpc
from batchproxy.protos import tfs_pb2 as pb
from tests.proxy import running_in_front_of
from tests.tfserving.fixture import Server, running_server

REQUESTS = 6000
CALLERS = 128
KILLS = {REQUESTS // 4: 0, REQUESTS * 3 // 4: 1}
"""After so many answers this server is killed."""

INT64, STRING = 9, 7
MODELS = ["int64_model", "strings", "two_in_two_out"]


async def ask_rest(session: aiohttp.ClientSession, base: str, numbers: list[int]) -> bool:
    """One request, in row or column form by its first number; whether the answer is right."""
    model = MODELS[numbers[0] % 3]
    rows: list[object]
    answer: list[object]
    column_form = numbers[0] % 5 == 0
    match model:
        case "int64_model":
            rows, answer = [*numbers], [2 * number + 1 for number in numbers]
        case "strings":
            rows, answer = [f"row-{number}" for number in numbers], [f"row-{number}!" for number in numbers]
        case _:
            column_form = False
            rows = [{"a": [number, 1.5], "b": [1, 2]} for number in numbers]
            answer = [{"sum": [number + 1, 3.5], "prod": [number, 3.0]} for number in numbers]
    body = {"inputs": rows} if column_form else {"instances": rows}
    async with session.post(f"{base}/v1/models/{model}:predict", data=json.dumps(body)) as response:
        text = await response.read()
        assert 200 == response.status, text
        return bool({"outputs" if column_form else "predictions": answer} == json.loads(text))


async def ask_grpc(predict: grpc.aio.UnaryUnaryMultiCallable, numbers: list[int]) -> bool:
    """One Predict call; whether the answer is right."""
    request = pb.PredictRequest()
    if numbers[0] % 2:
        request.model_spec.name = "int64_model"
        tensor = request.inputs["x"]
        tensor.dtype = INT64
        tensor.int64_val.extend(numbers)
    else:
        request.model_spec.name = "strings"
        tensor = request.inputs["s"]
        tensor.dtype = STRING
        tensor.string_val.extend(b"row-%d" % number for number in numbers)
    tensor.tensor_shape.dim.add(size=len(numbers))
    response = pb.PredictResponse.FromString(await predict(request.SerializeToString(), timeout=30))
    if numbers[0] % 2:
        return [2 * number + 1 for number in numbers] == list(response.outputs["y"].int64_val)
    return [b"row-%d!" % number for number in numbers] == list(response.outputs["s"].string_val)


def jobs() -> Iterator[list[int]]:
    """The row numbers of each request: 1-7 rows."""
    dice = random.Random(20_261_121)
    first = 0
    for _ in range(REQUESTS):
        count = dice.randint(1, 7)
        yield list(range(first, first + count))
        first += count


@pytest.mark.slow
async def test_everybody_gets_their_own_rows_while_servers_die() -> None:
    """0 wrong, 0 lost, 0 hanging; and they were merged."""
    queue = jobs()
    right: Counter[str] = Counter()
    errors: list[str] = []
    rows, calls, answered = 0, 0, 0
    restarts: list[asyncio.Task[None]] = []

    with (
        running_server(models=MODELS) as one,
        running_server(models=MODELS) as other,
        running_in_front_of([one, other]) as both_doors,
        running_in_front_of([one, other], doors=["grpc"]) as grpc_door,
    ):
        servers = [one, other]

        def count(server: Server) -> None:
            nonlocal rows, calls
            for sizes in server.counters()["rows"].values():
                rows += sum(sizes)
                calls += len(sizes)

        async def kill_and_restart(server: Server) -> None:
            count(server)
            server.kill()
            await asyncio.to_thread(server.start)
            for proxy in (both_doors, grpc_door):
                while await asyncio.to_thread(proxy.metric, "batchproxy_endpoint_up") < 2:
                    pass

        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=30)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            grpc.aio.insecure_channel(both_doors.grpc) as near,
        ):
            predict = near.unary_unary(tfs_grpc.PREDICT)

            async def caller(number: int) -> None:
                nonlocal answered
                way = ("rest", "grpc", "bridged")[number % 3]
                base = both_doors.rest if way == "rest" else grpc_door.rest
                for numbers in queue:
                    if answered > REQUESTS // 2:
                        await restarts[0]  # the second one must not die while the first is gone
                    try:
                        asked = ask_grpc(predict, numbers) if way == "grpc" else ask_rest(session, base, numbers)
                        is_right = await asked
                        right[way] += is_right
                    except (AssertionError, aiohttp.ClientError, grpc.RpcError, TimeoutError) as error:
                        errors.append(f"{way}: {error!r}")
                    answered += 1
                    if answered in KILLS:
                        restarts.append(asyncio.create_task(kill_and_restart(servers[KILLS[answered]])))

            await asyncio.gather(*(caller(number) for number in range(CALLERS)))
            await asyncio.gather(*restarts)
        for server in servers:
            count(server)
        statuses = [both_doors.stop(), grpc_door.stop()]
    print(f"{rows / calls:.1f} rows a call in {calls} calls")

    assert [] == errors
    assert REQUESTS == sum(right.values())
    assert {"rest", "grpc", "bridged"} == set(right)
    assert 2 == len(restarts)
    assert rows / calls > 1.5
    assert [0, 0] == statuses
