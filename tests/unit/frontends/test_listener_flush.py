"""Answers are flushed once per connection per batch: real routes, a real engine, and transports that count."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any, cast

import numpy as np

from batchproxy.backends.callable import signature
from batchproxy.codecs import tensor_proto
from batchproxy.core.columns import Array
from batchproxy.frontends.grpc_routes import GrpcRoutes
from batchproxy.frontends.listener import Listener
from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.protos import tfs_pb2 as pb
from tests.http2_client import Client
from tests.listening import Held, answer_of, listening, open_to, post, until
from tests.serving import Recorder, a_directory

STREAMS = 16


class Counting:
    """A transport that counts how often something is written to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        self.transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


def count(listener: Listener) -> list[Counting]:
    """Count from now on, on each connection there is."""
    counts = []
    for door in cast("list[Any]", listener._doors()):
        door._transport = Counting(door._transport)
        door.write = door._transport.write
        counts.append(door._transport)
    return counts


async def test_a_batch_is_one_write_on_each_of_its_connections() -> None:
    """Two gRPC connections with 16 calls each, and one of REST with four pipelined: 36 answers, three writes."""
    gate, sizes = threading.Event(), []

    @signature(inputs={"x": ("float32", (None,))}, outputs={"y": ("float32", (None,))})
    def gated(inputs: dict[str, Array]) -> dict[str, Array]:
        sizes.append(len(inputs["x"]))
        if (inputs["x"] < 0).any():
            gate.wait(20)
        return {"y": inputs["x"] * 2}

    recorder = Recorder()
    async with a_directory(recorder, {"m": gated}) as directory:
        clock = asyncio.get_running_loop().time
        rest = RestRoutes(directory, recorder, clock, timeout_s=30, deadline_header=None)
        listener = Listener(rest, GrpcRoutes(directory, recorder, clock), "127.0.0.1", 0)
        await listener.start()
        first = [await Client.connected(listener) for _ in range(2)]
        for client in first:  # one call for each slot of the model
            client.call(message(-1.0))
            await until(lambda: len(sizes) == len([one for one in first if one.peer.next > 1]))
        clients = [await Client.connected(listener) for _ in range(2)]
        for client in clients:
            for number in range(STREAMS):
                client.call(message(float(client.peer.next + number)))
        reader, writer = await open_to(listener)
        writer.write(post("/v1/models/m:predict", b'{"instances": [1.5]}') * 4)
        engine = directory.find("m", None, None).engine
        await until(lambda: engine.scheduler.queued_rows() == {"m": 2 * STREAMS + 4})
        counts = count(listener)
        gate.set()
        found = [[(await client.answer())[2] for _ in range(STREAMS)] for client in clients]
        by_rest = [json.loads((await answer_of(reader))[1]) for _ in range(4)]
        for client in first:
            await client.answer()
        writes = [one.writes for one in counts]
        for client in (*first, *clients):
            client.close()
        writer.close()
        await listener.aclose()

    assert [1, 1, 2 * STREAMS + 4] == sizes
    assert [1, 1, 1, 1, 1] == writes
    assert [{"predictions": [3.0]}] * 4 == by_rest
    for answers in found:
        assert STREAMS == len({bytes(answer) for answer in answers})


async def test_the_first_answer_of_a_turn_is_written_at_once() -> None:
    """Others at its end, so that their callers are woken together; and so it is in every turn."""
    held, written = Held(), []
    async with listening(held) as listener:
        connections = [await open_to(listener) for _ in range(3)]
        for _ in range(2):
            for number, (_, writer) in enumerate(connections):
                writer.write(post("/x", b"{}"))
                await until(lambda asked=number + 1: len(held.waiting) == asked)  # type: ignore[misc]
            counts = count(listener)
            for respond in held.waiting:
                respond(RestAnswer(200, b"{}"))
                written.append(sum(one.writes for one in counts))
            held.waiting.clear()
            await asyncio.sleep(0)
            written.append(sum(one.writes for one in counts))
            for reader, _ in connections:
                assert (200, b"{}") == await answer_of(reader)
        for _, writer in connections:
            writer.close()

    assert [1, 1, 1, 3] * 2 == written


def message(x: float) -> bytes:
    """A PredictRequest of one row."""
    request = pb.PredictRequest()
    request.model_spec.name = "m"
    tensor_proto.write(np.array([x], np.float32), request.inputs["x"])
    return request.SerializeToString()
