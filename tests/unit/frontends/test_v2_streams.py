"""ModelStreamInfer: whose stream it is, and streams that are answered here, message by message, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from batchproxy.codecs import v2_grpc
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import BatchProxyError, Code
from batchproxy.core.raw import GRPC, REST, RawCall
from batchproxy.core.request import BatchKey
from batchproxy.frontends.directory import Directory
from batchproxy.frontends.grpc_answers import GrpcAnswer
from batchproxy.frontends.grpc_routes import GrpcRoutes
from batchproxy.frontends.listener import Listener
from batchproxy.frontends.v2_streams import AHEAD, AHEAD_BYTES, InferStreams, Turns, plain
from batchproxy.protos import v2_pb2 as pb
from batchproxy.wire import grpc as wire
from batchproxy.wire.unpack import QUICK_BYTES, Packed
from tests.listening import until
from tests.remotes import FakeServer, a_remote_pool
from tests.serving import Recorder, a_directory
from tests.v2_scenes import MODEL, V2Server, a_v2_pool


def a_message(number: float, model: str = MODEL, **parameters: pb.InferParameter) -> bytes:
    """A request for one row, whose id is the number."""
    columns = {"x": ArrayColumn(np.array([number], np.float32))}
    request = pb.ModelInferRequest.FromString(
        v2_grpc.encode_infer_request(BatchKey(model, None, "serving_default"), columns)
    )
    request.id = f"{number:g}"
    for name, value in parameters.items():
        request.parameters[name].CopyFrom(value)
    return request.SerializeToString()


class Unary:
    """Calls that the test answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[RawCall, float | None]] = []
        self.responds: list[Callable[[GrpcAnswer], None]] = []
        self.cancelled = 0

    def __call__(
        self, raw: RawCall, deadline: float | None, respond: Callable[[GrpcAnswer], None], started: float, /
    ) -> Any:
        self.asked.append((raw, deadline))
        self.responds.append(respond)
        return self

    def cancel(self) -> None:
        """One of them."""
        self.cancelled += 1


class Scene:
    """A stream under way; ``sent`` is what its caller got."""

    def __init__(self, directory: Directory, *, takes: bool = True) -> None:
        self.unary = Unary()
        self.sent: list[bytes] = []
        self.says: asyncio.Queue[bytes | Packed | None] = asyncio.Queue()
        self.takes = takes
        self.turns = Turns(self._send)
        streams = InferStreams(directory, self.unary, lambda: 100.0)
        self.task = asyncio.ensure_future(streams.answer(self._messages(), (("a", "b"),), 5.0, self.turns))

    def _send(self, message: bytes) -> bool:
        self.sent.append(message)
        return self.takes

    async def _messages(self) -> AsyncIterator[bytes | Packed]:
        while (message := await self.says.get()) is not None:
            yield message

    async def say(self, *messages: bytes | Packed | None) -> None:
        """Messages, and the end."""
        for message in messages:
            self.says.put_nowait(message)
        for _ in range(5 + len(messages)):
            await asyncio.sleep(0)

    def answer(self, at: int, code: Code = Code.OK, text: str = "") -> None:
        """One call's."""
        body = pb.ModelInferResponse(id=f"{at}").SerializeToString()
        self.unary.responds[at](GrpcAnswer(code, text, body))

    def seen(self) -> list[tuple[str, str]]:
        """What the caller was told: ids and errors."""
        found = [pb.ModelStreamInferResponse.FromString(one) for one in self.sent]
        return [(one.infer_response.id, one.error_message) for one in found]


async def test_whose_stream_it_is() -> None:
    """Of a server of the protocol by its gRPC door; all others are answered here."""
    async with (
        a_v2_pool(V2Server(), Recorder(), [GRPC]) as both,
        a_v2_pool(V2Server(), Recorder(), [REST]) as rest,
        a_remote_pool(FakeServer(), Recorder()) as tf_serving,
    ):
        directory = Directory([], {"theirs": both, "by-rest": rest, "tf": tf_serving})
        streams = InferStreams(directory, Unary(), lambda: 0.0)
        found = {name: streams.home_of(a_message(1, name)) for name in ("theirs", "by-rest", "tf", "nobody")}

    home = both.engine, BatchKey("theirs", None, "")
    assert {"theirs": home, "by-rest": None, "tf": None, "nobody": None} == found


async def test_answers_leave_in_the_order_of_their_requests() -> None:
    """Whatever is ready first; an error is one message's, the stream goes on."""
    scene = Scene(Directory([]))
    await scene.say(*(a_message(number) for number in range(3)))
    scene.answer(2)
    scene.answer(1, Code.NOT_FOUND, "not here")
    before = list(scene.sent)
    scene.answer(0)
    await scene.say(None)
    await scene.task

    assert [] == before
    assert [("0", ""), ("1", "not here"), ("2", "")] == scene.seen()
    assert [(v2_grpc.MODEL_INFER, 105.0)] * 3 == [(raw.method, deadline) for raw, deadline in scene.unary.asked]
    assert (("a", "b"),) == scene.unary.asked[0][0].headers


async def test_the_stream_ends_after_its_last_answer() -> None:
    """Not when the caller has said all."""
    scene = Scene(Directory([]))
    await scene.say(a_message(0), None)
    before = scene.task.done()
    scene.answer(0)
    await scene.task

    assert not before
    assert [("0", "")] == scene.seen()


async def test_no_more_is_under_way_than_may_be() -> None:
    """The others stay where the caller's window holds them."""
    scene = Scene(Directory([]))
    await scene.say(*(a_message(number) for number in range(AHEAD + 2)))
    first = len(scene.unary.asked)
    scene.answer(0)
    await scene.say()
    second = len(scene.unary.asked)
    scene.task.cancel()
    await asyncio.wait({scene.task})

    assert (AHEAD, AHEAD + 1) == (first, second)
    assert AHEAD == scene.unary.cancelled


async def test_nor_of_so_many_bytes() -> None:
    """One long message at a time."""
    scene = Scene(Directory([]))
    await scene.say(*[a_message(0) + b"\x3a\x80\x80\x80\x04" + bytes(AHEAD_BYTES)] * 2)
    first = len(scene.unary.asked)
    scene.answer(0)
    await scene.say()
    second = len(scene.unary.asked)
    scene.task.cancel()
    await asyncio.wait({scene.task})

    assert (1, 2) == (first, second)


async def test_a_sequence_goes_step_by_step() -> None:
    """Its server keeps state between them."""
    scene = Scene(Directory([]))
    sequence = pb.InferParameter(int64_param=4)
    await scene.say(*(a_message(number, sequence_id=sequence) for number in range(2)))
    first = len(scene.unary.asked)
    scene.answer(0)
    await scene.say(None)
    second = len(scene.unary.asked)
    scene.answer(1)
    await scene.task

    assert (1, 2) == (first, second)


async def test_a_caller_that_takes_no_more() -> None:
    """Answers wait until it does."""
    scene = Scene(Directory([]), takes=False)
    await scene.say(a_message(0), a_message(1), None)
    scene.answer(0)
    scene.answer(1)
    before = len(scene.sent)
    scene.takes = True
    scene.turns.writable()
    await scene.task

    assert (1, 2) == (before, len(scene.sent))


async def test_compressed_messages() -> None:
    """Inflated, long ones in a thread; what is none is the stream's end."""
    long = np.random.default_rng(1).bytes(2 * QUICK_BYTES)
    packed = wire.compress(b"gzip", long)
    with pytest.raises(BatchProxyError) as caught:
        await plain(Packed(b"gzip", b"no gzip", 1 << 20))

    assert long == await plain(Packed(b"gzip", packed, 1 << 20))
    assert b"short" == await plain(Packed(b"gzip", wire.compress(b"gzip", b"short"), 1 << 20))
    assert Code.INTERNAL is caught.value.code


async def test_a_stream_to_an_embedded_model() -> None:
    """Through a socket: merged, in order, an error among them, and a compressed message."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        listener = Listener(None, GrpcRoutes(directory, recorder, asyncio.get_running_loop().time), "127.0.0.1", 0)
        await listener.start()
        asked = [a_message(number if number != 3 else -1) for number in range(20)]
        async with grpc.aio.insecure_channel(listener.address) as channel:
            stream = channel.stream_stream(v2_grpc.MODEL_STREAM_INFER)
            call = stream(iter([*asked, a_message(1, "nobody")]), timeout=30, compression=grpc.Compression.Gzip)
            said = [pb.ModelStreamInferResponse.FromString(answer) async for answer in call]
            code = await call.code()
            nothing = stream(iter(()), timeout=30)
            none = [answer async for answer in nothing]
        await listener.aclose()
    bad, stranger = said.pop(3), said.pop()
    values = [np.frombuffer(one.infer_response.raw_output_contents[0], np.float32).tolist() for one in said]

    assert [[number / 2 + 2] for number in range(20) if number != 3] == values
    assert [f"{number}" for number in range(20) if number != 3] == [one.infer_response.id for one in said]
    assert "-1" == bad.infer_response.id
    assert bad.error_message.endswith("negative input: [-1.0]")
    assert "unknown model: 'nobody'" in stranger.error_message
    assert grpc.StatusCode.OK is code
    assert [] == none
    assert len(recorder.calls) < len(asked)


async def test_a_caller_that_says_nothing_is_accepted_all_the_same() -> None:
    """Some wait for that before they say anything; and one that leaves is forgotten."""
    async with a_directory(Recorder()) as directory:
        listener = Listener(None, GrpcRoutes(directory, Recorder(), asyncio.get_running_loop().time), "127.0.0.1", 0)
        await listener.start()
        async with grpc.aio.insecure_channel(listener.address) as channel:
            call = channel.stream_stream(v2_grpc.MODEL_STREAM_INFER)(timeout=30)
            await call.wait_for_connection()
            await call.write(a_message(1))
            answer = await call.read()
            call.cancel()
            await until(lambda: not len(listener._streams))
        await listener.aclose()

    assert "1" == pb.ModelStreamInferResponse.FromString(answer).infer_response.id
