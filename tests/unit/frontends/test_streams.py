"""Streamed calls passed on: a scripted server on one side, a scripted HTTP/2 client on the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from batchproxy.backends.base import Backend
from batchproxy.core.errors import BackendRejected, BackendUnavailable, BatchProxyError, Code
from batchproxy.core.request import BatchKey
from batchproxy.engine import Engine, build_engine
from batchproxy.frontends import streams as room
from batchproxy.frontends.grpc_routes import GrpcRoutes
from batchproxy.frontends.listener import Listener
from batchproxy.frontends.streams import Streams
from batchproxy.frontends.v2_streams import InferStreams
from batchproxy.wire import frames
from batchproxy.wire.frames import END_STREAM, HEADERS, ErrorCode
from batchproxy.wire.http2_calls import GrpcStreamCall
from batchproxy.wire.http2_messages import HIGH_BYTES
from batchproxy.wire.unpack import Message, Packed
from tests.http2_peer import Frame, Peer, data, prefixed
from tests.listening import until
from tests.streamed import CHAT, GZIPPED, HEAD, a_peer, begun, body


class Server:
    """A server whose one stream the test writes; what is put in ``says`` is said, None ends it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[tuple[str, Sequence[Any], float | None]] = []
        self.heard: list[Message] = []
        self.encoding = b""
        self.heard_all = False
        self.initial: asyncio.Future[Sequence[tuple[str, Any]]] = asyncio.get_running_loop().create_future()
        self.says: asyncio.Queue[Message | None] = asyncio.Queue()
        self.ending: tuple[int, str, Sequence[tuple[str, Any]]] = (0, "", ())
        self.left = asyncio.Event()

    @asynccontextmanager
    async def relay_stream(
        self, method: str, headers: Sequence[Any], messages: AsyncIterable[Message], timeout_s: float | None = None
    ) -> AsyncIterator[Server]:
        if self.error is not None:
            raise self.error
        self.asked.append((method, headers, timeout_s))
        listening = asyncio.ensure_future(self._listen(messages))
        try:
            yield self
        finally:
            listening.cancel()
            self.left.set()

    async def _listen(self, messages: AsyncIterable[Message]) -> None:
        async for message in messages:
            self.heard.append(message)
        self.heard_all = True

    async def headers(self) -> Sequence[tuple[str, Any]]:
        return await self.initial

    async def messages(self) -> AsyncIterator[Message]:
        while (message := await self.says.get()) is not None:
            yield message

    async def status(self) -> tuple[int, str, Sequence[tuple[str, Any]]]:
        return self.ending

    def say(self, *messages: Message, initial: Sequence[tuple[str, Any]] = (), ends: bool = True) -> None:
        """Initial metadata, messages, and the end."""
        self.initial.set_result(initial)
        for message in messages:
            self.says.put_nowait(message)
        if ends:
            self.says.put_nowait(None)

    async def aclose(self) -> None:
        """Nothing to close."""


class Connection:
    """Counts the wishes for a flush."""

    dirty = False
    marks = 0

    def mark(self) -> None:
        self.marks += 1


class Scene:
    """A call under way."""

    def __init__(
        self,
        *payloads: bytes,
        ends: bool = False,
        up: bool = True,
        error: Exception | None = None,
        timeout: str = "",
        fields: Sequence[tuple[str, str]] = HEAD,
    ) -> None:
        self.server = Server(error)
        self.engine = an_engine(self.server, up=up)
        self.peer: Peer = a_peer()
        fields = (*fields, ("x-own", "1"), *((("grpc-timeout", timeout),) if timeout else ()))
        self.call: GrpcStreamCall = begun(self.peer, *payloads, fields=fields, ends=ends)
        self.connection = Connection()
        self.streams = Streams()
        self.streams.serve(self.connection, self.call, self.engine)
        self.said: list[Frame] = []

    async def over(self) -> None:
        """Wait for the end of the call."""
        await until(lambda: not len(self.streams))
        self.read()

    def read(self) -> None:
        self.said += self.peer.read()

    def heads(self) -> list[dict[str, str]]:
        return [self.peer.fields(frame) for frame in self.said if frame.kind == HEADERS]


def an_engine(server: Server, *, up: bool = True) -> Engine:
    """An engine over it."""
    engine = build_engine("pool", {"e0": cast("Backend", server)}, {})
    for endpoint in engine.scheduler.balancer.endpoints:
        endpoint.up = up
    return engine


async def test_both_ways() -> None:
    """What either side says reaches the other; the endpoint's load is given back."""
    scene = Scene(prefixed(b"one"), timeout="20S")
    await until(lambda: scene.server.heard)
    scene.peer.send(data(1, prefixed(b"two"), END_STREAM))
    await until(lambda: scene.server.heard_all)
    during = scene.engine.scheduler.balancer.endpoints[0].relayed
    scene.server.ending = (0, "", (("t-bin", b"\1"),))
    scene.server.say(b"1", b"2", initial=(("i", "1"),))
    await scene.over()
    head, tail = scene.heads()

    assert [(CHAT, [("x-own", "1")], 20.0)] == scene.server.asked
    assert [b"one", b"two"] == scene.server.heard
    assert ("1", {"grpc-status": "0", "t-bin": "AQ"}) == (head["i"], tail)
    assert prefixed(b"1") + prefixed(b"2") == body(scene.said, 1)
    assert (1, 0) == (during, scene.engine.scheduler.balancer.endpoints[0].relayed)
    assert scene.connection.marks >= 4


async def test_compressed_messages_are_passed_on_as_they_are() -> None:
    """Both ways; either side is told what the other says of it, and nothing is inflated here."""
    asked = (*GZIPPED, ("grpc-accept-encoding", "gzip, br"))
    scene = Scene(prefixed(b"packed", 1) + prefixed(b"plain"), fields=asked)
    scene.server.encoding = b"br"
    await until(lambda: len(scene.server.heard) == 2)
    scene.server.say(Packed(b"br", b"1", 9), b"2")
    await scene.over()
    head, _ = scene.heads()

    ((_, headers, _),) = scene.server.asked
    assert {("x-own", "1"), ("grpc-encoding", "gzip"), ("grpc-accept-encoding", "gzip, br")} == set(headers)
    assert [Packed(b"gzip", b"packed", 256 << 20), b"plain"] == scene.server.heard
    assert "br" == head["grpc-encoding"]
    assert prefixed(b"1", 1) + prefixed(b"2") == body(scene.said, 1)


async def test_a_refusal_is_trailers_only() -> None:
    """As it was from the server."""
    scene = Scene()
    scene.server.ending = (7, "not you", (("t", "1"),))
    scene.server.say()
    await scene.over()
    (head,) = scene.heads()

    assert ("7", "not you", "1") == (head["grpc-status"], head["grpc-message"], head["t"])


async def test_a_server_without_metadata_has_accepted_all_the_same() -> None:
    """The caller learns of it before the first message."""
    scene = Scene()
    scene.server.say(ends=False)
    while not scene.said:
        await asyncio.sleep(0)
        scene.read()
    scene.server.says.put_nowait(None)
    await scene.over()

    assert [":status", "grpc-status"] == [next(iter(head)) for head in scene.heads()]


async def test_a_stream_goes_to_a_server_that_has_its_model() -> None:
    """Where its first message tells which that is, and a server said that it has it not."""
    servers = {"e0": Server(), "e1": Server()}
    engine = build_engine("pool", cast("dict[str, Backend]", servers), {})
    balancer, key = engine.scheduler.balancer, BatchKey("m", None, "")
    for endpoint in balancer.endpoints:
        endpoint.up = True
    balancer.placement.lacks(balancer.endpoints[0], "m", None, balancer.endpoints, lambda line: None)

    class Home:
        def home_of(self, first: bytes) -> tuple[Engine, BatchKey]:
            return engine, key

    streams = Streams()
    for _ in range(2):
        streams.serve(Connection(), begun(a_peer(), prefixed(b"one")), cast("InferStreams", Home()))
    await until(lambda: len(servers["e1"].heard) == 2)
    await streams.aclose()

    assert [] == servers["e0"].asked


async def test_a_slow_caller_holds_the_server() -> None:
    """No more is taken than the mark allows, until the caller's window opens."""
    scene = Scene(ends=True)
    message = bytes(HIGH_BYTES // 4)
    scene.server.say(*[message] * 50)
    for _ in range(1000):
        await asyncio.sleep(0)
    left = scene.server.says.qsize()
    while len(scene.streams) or scene.peer.server.requests.outlet.streams:
        scene.peer.send(frames.window_update(0, 60_000), frames.window_update(1, 60_000))
        await asyncio.sleep(0)
        scene.read()

    assert left > 40
    assert prefixed(message) * 50 == body(scene.said, 1)


async def test_the_caller_goes() -> None:
    """The server's call is left at once."""
    scene = Scene()
    scene.server.say(b"1", ends=False)
    await until(lambda: scene.server.asked)
    scene.peer.send(frames.rst_stream(1, ErrorCode.CANCEL))
    await scene.over()

    assert scene.server.left.is_set()
    assert 0 == scene.engine.unanswered()


async def test_a_call_that_the_wire_refuses_ends_at_the_server() -> None:
    """A message that cannot be read: the caller was told by the wire."""
    scene = Scene()
    await until(lambda: scene.server.asked)
    scene.peer.send(data(1, prefixed(b"x", compressed=1)))
    await scene.over()

    assert ["13"] == [head["grpc-status"] for head in scene.heads()]
    assert scene.server.left.is_set()


async def test_no_endpoint() -> None:
    """UNAVAILABLE at once, with the reason, and when to try again."""
    scene = Scene(up=False)
    await scene.over()
    (head,) = scene.heads()

    assert ("14", "1000") == (head["grpc-status"], head["grpc-retry-pushback-ms"])


@pytest.mark.parametrize(
    ("error", "code", "up"),
    [
        (BackendUnavailable("it is not there"), "14", False),
        (BackendRejected("a header cannot be sent", code=Code.INVALID_ARGUMENT), "3", True),
    ],
)
async def test_a_call_that_cannot_be_opened(error: BatchProxyError, code: str, up: bool) -> None:
    """The error is the status; a server that cannot be reached is taken out."""
    scene = Scene(error=error)
    await scene.over()
    (head,) = scene.heads()

    assert (code, error.message) == (head["grpc-status"], head["grpc-message"])
    assert up is scene.engine.scheduler.balancer.endpoints[0].up


@pytest.mark.parametrize("when", ["before", "at the end"])
async def test_what_nobody_foresaw(when: str, caplog: pytest.LogCaptureFixture) -> None:
    """INTERNAL, and a traceback in the log."""
    scene = Scene(error=KeyError("x") if when == "before" else None)
    scene.server.ending = (0, "", (("NO", "metadata"),))
    scene.server.say()
    await scene.over()

    assert "13" == scene.heads()[-1]["grpc-status"]
    assert "This is a bug" in caplog.text


async def test_a_deadline_that_neither_side_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call ends, though the server does not say so."""
    monkeypatch.setattr(room, "GRACE_S", 0.0)
    scene = Scene(timeout="10m")
    await scene.over()
    (head,) = scene.heads()

    assert ("4", "Deadline Exceeded") == (head["grpc-status"], head["grpc-message"])
    assert scene.server.left.is_set()


async def test_a_drain_waits_for_streams() -> None:
    """And returns when the last has ended; new ones are refused."""
    scene = Scene()
    await until(lambda: scene.server.asked)
    draining = asyncio.ensure_future(scene.engine.drain())
    for _ in range(10):
        await asyncio.sleep(0)
    before, unanswered = draining.done(), scene.engine.unanswered()
    with pytest.raises(BatchProxyError, match="shutting down"), scene.engine.borrow():
        pass
    scene.server.say()
    await draining
    await scene.over()

    assert (False, 1, 0) == (before, unanswered, scene.engine.unanswered())


async def test_stranded_streams_are_told() -> None:
    """UNAVAILABLE, with the reason; each counts."""
    scene = Scene()
    await until(lambda: scene.server.asked)
    scene.server.say(b"1", ends=False)
    await until(lambda: scene.connection.marks)
    stranded = scene.engine.strand()
    await scene.over()

    assert 1 == stranded
    assert ("14", "the proxy shut down before the answer was there") == (
        scene.heads()[-1]["grpc-status"],
        scene.heads()[-1]["grpc-message"],
    )
    assert 0 == scene.engine.strand()


async def test_closing_ends_what_is_under_way() -> None:
    """Without a word: the connections close anyhow."""
    scene = Scene()
    await until(lambda: scene.server.asked)
    await scene.streams.aclose()

    assert (True, 0) == (scene.server.left.is_set(), len(scene.streams))


class Routes:
    """Every method is streamed to one engine."""

    methods: frozenset[str] = frozenset()

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def streams(self, method: str) -> Engine:
        return self.engine


async def test_the_listener_passes_streams_on() -> None:
    """A method that nobody knows, through a socket."""
    server = Server()
    listener = Listener(None, cast("GrpcRoutes", Routes(an_engine(server))), "127.0.0.1", 0)
    await listener.start()
    async with grpc.aio.insecure_channel(listener.address) as channel:
        call = channel.stream_stream(CHAT)(iter((b"one", b"two")), timeout=10)
        await until(lambda: server.heard_all)
        server.say(b"1", b"2", initial=(("i", "1"),))
        answers = [answer async for answer in call]
        code = await call.code()
    await listener.aclose()

    assert ([b"one", b"two"], [b"1", b"2"]) == (server.heard, answers)
    assert code is grpc.StatusCode.OK
