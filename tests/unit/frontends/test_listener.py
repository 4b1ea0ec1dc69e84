"""One address, both protocols, over real sockets; strangers' clients on the other end."""

from __future__ import annotations

import asyncio
import gc
import gzip
import http.client
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.wire.base import Limits
from batchproxy.wire.unpack import QUICK_TEXT_BYTES
from tests.listening import PREDICT, Held, answer_of, listening, open_to, port, post, predicting, the_door, until

# ---------------------------------------------------------------- strangers


async def test_the_standard_librarys_client() -> None:
    """Several requests on one connection, one after the other."""

    def ask(to: int) -> list[tuple[int, str, Any]]:
        client = http.client.HTTPConnection("127.0.0.1", to, timeout=10)
        found = []
        for number in (1.0, -1.0, 5.0):
            client.request("POST", PREDICT, json.dumps({"instances": [number]}))
            answer = client.getresponse()
            found.append((answer.status, answer.reason, json.loads(answer.read())))
        client.close()
        return found

    async with predicting() as (listener, recorder):
        found = await asyncio.to_thread(ask, port(listener))

    error = "model 'half_plus_two': the function raised ValueError: negative input: [-1.0]"
    words = [(status, reason) for status, reason, _ in found]
    assert [(200, "OK"), (400, "Bad Request"), (200, "OK")] == words
    assert [{"predictions": [2.5]}, {"error": error}, {"predictions": [4.5]}] == [body for _, _, body in found]
    assert 3 == len(recorder.requests)


async def test_aiohttps_client_many_at_once() -> None:
    """Each of a hundred callers gets its own answer; some came in chunks, some compressed."""

    async def ask(session: aiohttp.ClientSession, url: str, number: int) -> Any:
        body = json.dumps({"instances": [number]}).encode()
        headers = {}
        data: Any = body
        if number % 3 == 1:
            data = _pieces(body)
        elif number % 3 == 2:
            data, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        async with session.post(url, data=data, headers=headers) as answer:
            return await answer.json()

    async with predicting() as (listener, _), aiohttp.ClientSession() as session:
        url = f"http://{listener.address}{PREDICT}"
        found = await asyncio.gather(*(ask(session, url, number) for number in range(100)))

    assert [{"predictions": [number / 2 + 2]} for number in range(100)] == found


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for byte in body:
        yield bytes([byte])


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-H", "Expect: 100-continue"],
        ["-H", "Transfer-Encoding: chunked"],
        ["-H", "Connection: close"],
        ["--http1.0"],
        ["--http2"],
    ],
    ids=lambda options: " ".join(options) or "plain",
)
async def test_curl(options: list[str]) -> None:
    """In its ways to send 2 MB; ``--http2`` offers an upgrade that we pass over."""
    body = json.dumps({"instances": list(range(300_000))})
    async with predicting() as (listener, _):
        curl = await asyncio.create_subprocess_exec(
            "curl", "-s", "-S", "--max-time", "20", "--expect100-timeout", "20", "-w", " %{http_code}",
            "--data-binary", "@-",
            *(options or ["--http1.1"]), f"http://{listener.address}{PREDICT}",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, problems = await curl.communicate(body.encode())
    answer, _, status = out.rpartition(b" ")

    assert (b"", b"200") == (problems, status)
    assert [2.0, 2.5] == json.loads(answer)["predictions"][:2]
    assert 300_000 == len(json.loads(answer)["predictions"])


# ---------------------------------------------------------------- raw sockets


async def test_large_compressed_bodies_keep_their_place() -> None:
    """They are inflated in a thread; the requests after them are answered after them. A broken one is empty."""
    text = b"x" * (QUICK_TEXT_BYTES + 1)
    files = [gzip.compress(text), gzip.compress(text)[:-9] + b"\0" * 4 + gzip.compress(text)[-5:], b"plain"]
    codings = ["Content-Encoding: gzip", "Content-Encoding: gzip", "Content-Encoding: none"]
    async with listening(Held()) as listener:
        reader, writer = await open_to(listener, limit=4 << 20)
        writer.write(b"".join(post("/echo", file, coding) for file, coding in zip(files, codings, strict=True)))
        found = [await answer_of(reader) for _ in files]
        writer.close()

    assert [(200, text), (200, b""), (200, b"plain")] == found


async def test_a_caller_that_leaves_while_its_body_is_inflated_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its body is dropped; one that cannot be inflated for want of memory is empty."""
    routes = Held()
    outcomes: list[asyncio.Future[None]] = []

    def started(executor: None, work: object, *arguments: object) -> asyncio.Future[None]:
        outcomes.append(asyncio.get_running_loop().create_future())
        return outcomes[-1]

    async with listening(routes) as listener:
        monkeypatch.setattr(listener, "loop", _Loop(started))
        file = gzip.compress(b"x" * (QUICK_TEXT_BYTES + 1))
        leaving, staying = await open_to(listener), await open_to(listener)
        leaving[1].write(post("/echo", file, "Content-Encoding: gzip"))
        await until(lambda: len(outcomes) == 1)
        staying[1].write(post("/echo", file, "Content-Encoding: gzip"))
        await until(lambda: len(outcomes) == 2)
        leaving[1].close()
        await until(lambda: listener.connections == 1)
        outcomes[0].set_result(None)
        outcomes[1].set_exception(MemoryError())
        found = await answer_of(staying[0])
        staying[1].close()

    assert [b""] == routes.bodies
    assert (200, b"") == found


class _Loop:
    """The running loop, with an executor of the test's."""

    def __init__(self, started: Callable[..., asyncio.Future[None]]) -> None:
        self.run_in_executor = started

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio.get_running_loop(), name)


async def test_pipelined_requests_are_answered_in_order() -> None:
    """More of them than are taken in at once, in one write."""
    async with predicting(limits=Limits(pipelined=4)) as (listener, _):
        reader, writer = await open_to(listener)
        writer.write(b"".join(post(PREDICT, b'{"instances":[%d]}' % number) for number in range(50)))
        found = [await answer_of(reader) for _ in range(50)]
        writer.close()

    numbers = [json.loads(body)["predictions"][0] for _, body in found]
    assert [number / 2 + 2 for number in range(50)] == numbers


async def test_a_caller_that_leaves_is_cancelled() -> None:
    """At once, not when its answer cannot be sent."""
    routes = Held()
    async with listening(routes) as listener:
        _, writer = await open_to(listener)
        writer.write(post("/held", b""))
        await routes.come.wait()
        writer.close()
        await routes.cancelled.wait()
        routes.waiting[0](RestAnswer(200, b"late"))

    assert 0 == listener.connections


async def test_a_caller_that_does_not_read_is_not_read_from() -> None:
    """What it sends stays with it, until it reads: then all is there."""
    routes, size, count = Held(), 1 << 20, 40
    async with listening(routes) as listener:
        plug = socket.socket()
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        plug.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plug, ("127.0.0.1", port(listener)))
        reader, writer = await asyncio.open_connection(sock=plug, limit=size)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(post("/echo", b"x" * size) * count)
        await until(lambda: listener.connections and not the_door(listener)._reading)
        taken = len(routes.bodies)
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        found = [await answer_of(reader) for _ in range(count)]
        writer.close()

    assert taken < count // 2
    assert [(200, size)] * count == [(status, len(body)) for status, body in found]


async def test_a_refusal_is_read_though_the_body_is_still_being_sent() -> None:
    """No reset destroys it on its way."""
    async with listening(Held(), limits=Limits(body_bytes=1000)) as listener:
        reader, writer = await open_to(listener)
        writer.write(post("/echo", b"x" * 5_000_000))
        status, _page = await answer_of(reader)
        rest = await reader.read()
        writer.close()

    assert (413, b"") == (status, rest)


async def test_a_route_that_breaks_is_a_500_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    """The caller learns the kind, the log the place; the connection goes on."""
    async with listening(Held()) as listener:
        reader, writer = await open_to(listener)
        writer.write(post("/broken", b"") + post("/split", b"") + post("/echo", b"still here"))
        found = [await answer_of(reader) for _ in range(3)]
        writer.close()

    assert (500, {"error": "internal error: KeyError. This is a bug."}) == (found[0][0], json.loads(found[0][1]))
    assert (500, {"error": "internal error: ValueError. This is a bug."}) == (found[1][0], json.loads(found[1][1]))
    assert (200, b"still here") == found[2]
    assert ["a request failed in an unforeseen way. This is a bug."] * 2 == [one.message for one in caplog.records]


async def test_without_rest_routes_http_is_told_so() -> None:
    """On the gRPC port of a server that has no other."""
    async with listening(None) as listener:
        reader, writer = await open_to(listener)
        writer.write(post("/v1/models/m:predict", b"{}"))
        status, page = await answer_of(reader)
        writer.close()

    assert 404 == status
    assert b"this port serves gRPC only" in page


async def test_requests_leave_no_garbage() -> None:
    """All that was made for one goes with its answer, by reference counts alone: nothing for the collector to find."""
    async with predicting() as (listener, _):
        reader, writer = await open_to(listener)
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                writer.write(post(PREDICT, b'{"instances":[1.0]}'))
                _ = await answer_of(reader)
            found = gc.collect()
        finally:
            gc.enable()
        writer.close()

    assert found < 20


async def test_answers_carry_the_date() -> None:
    """In HTTP's form."""
    async with listening(Held()) as listener:
        reader, writer = await open_to(listener)
        writer.write(post("/echo", b""))
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()

    assert b" GMT\r\n" in head.partition(b"\r\nDate: ")[2][:32]
