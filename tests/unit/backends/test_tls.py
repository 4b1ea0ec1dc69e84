"""TLS on the way to servers: grpcio's and Python's own, which ask for our certificate or not; whom we do not trust."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import pytest

from batchproxy.backends import tls
from batchproxy.backends.grpc import GrpcDoor
from batchproxy.backends.grpc_wire import GrpcWireDoor
from batchproxy.backends.http import RestDoor
from batchproxy.backends.tfserving import AIO, TfServingBackend
from batchproxy.backends.tls import ClientTls
from batchproxy.core.errors import BackendUnavailable, ConfigError
from tests.listening import TLS
from tests.strangers import Stranger

CERT, KEY = str(TLS / "cert.pem"), str(TLS / "key.pem")
TRUSTING = ClientTls(ca_file=CERT)
NAMED = ClientTls(ca_file=CERT, cert_file=CERT, key_file=KEY)
OTHERWISE = ClientTls(ca_file=CERT, server_name="localhost")
ANOTHER = ClientTls(ca_file=CERT, server_name="example.com")
DOORS = pytest.mark.parametrize("door", [GrpcDoor, GrpcWireDoor], ids=["aio", "wire"])


@contextmanager
def a_grpc_server(host: str = "127.0.0.1", *, asks: bool = False) -> Iterator[str]:
    """grpcio's, whose certificate is for localhost and 127.0.0.1; its address."""
    pair = (Path(KEY).read_bytes(), Path(CERT).read_bytes())
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=(Stranger(),))
    trust = grpc.ssl_server_credentials([pair], pair[1] if asks else None, require_client_auth=asks)
    port = server.add_secure_port(f"{host}:0", trust)
    server.start()
    try:
        yield f"{host}:{port}"
    finally:
        server.stop(0).wait()


@asynccontextmanager
async def a_rest_server(host: str = "127.0.0.1", *, asks: bool = False) -> AsyncIterator[str]:
    """Python's, which answers anything with the name of the caller's certificate; its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERT, KEY)
    context.set_alpn_protocols(["http/1.1"])
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(CERT)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        found = writer.get_extra_info("peercert") or {}
        name = b"%s %s" % (head.split(b"\r\n")[1].partition(b":")[0].lower(), str(found.get("subject", "")).encode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(name), name))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, host, 0, ssl=context)
    try:
        yield f"https://{host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


async def messages() -> AsyncIterator[bytes]:
    """What a caller streams."""
    yield b"1"


@DOORS
@pytest.mark.parametrize("asks", [False, True])
async def test_grpc(door: type[GrpcDoor | GrpcWireDoor], asks: bool) -> None:
    """Unary calls, long ones among them, and streamed ones; with our certificate where the server asks for it."""
    with a_grpc_server(asks=asks) as target:
        opened = door(target, NAMED if asks else TRUSTING)
        reply = await opened.call("/s/echo", (), bytes(300_000), 5.0)
        async with opened.stream("/s/chat", (), messages()) as stream:
            streamed = [message async for message in stream.messages()]
        await opened.aclose()

    assert f"grpcs://{target}" == opened.name
    assert bytes(300_000) == reply.body
    assert [b"1!"] == streamed


@DOORS
async def test_grpc_servers_that_are_not_believed(door: type[GrpcDoor | GrpcWireDoor]) -> None:
    """Of another CA than the system's, with another name; or the server does not believe us. Nothing has run."""
    with a_grpc_server() as target, a_grpc_server(asks=True) as asking:
        for at, how in (
            (target, ClientTls()),
            (target, ANOTHER),
            (asking, TRUSTING),
        ):
            opened = door(at, how)
            with pytest.raises(BackendUnavailable):
                await opened.call("/s/echo", (), b"x", 5.0)
            await opened.aclose()


@DOORS
async def test_grpc_servers_under_another_name(door: type[GrpcDoor | GrpcWireDoor]) -> None:
    """The name in the certificate need not be the host's: it is checked in its place, and is the authority."""
    with a_grpc_server("127.0.0.2") as target:
        opened = door(target, OTHERWISE)
        reply = await opened.call("/s/echo", (), b"x", 5.0)
        await opened.aclose()
        doubtful = door(target, TRUSTING)
        with pytest.raises(BackendUnavailable):
            await doubtful.call("/s/echo", (), b"x", 5.0)
        await doubtful.aclose()

    assert b"x" == reply.body


async def test_rest() -> None:
    """With our certificate, under another name, and not where we do not believe the server."""
    async with a_rest_server(asks=True) as url, a_rest_server("127.0.0.2") as other:
        answers = []
        for at, how in ((url, NAMED), (other, OTHERWISE)):
            door = RestDoor(at, how)
            answers.append((await door.call("GET", "/", (), b"", 5.0)).body)
            await door.aclose()
        for at, how in (
            (other, TRUSTING),
            (other, ClientTls()),
            (url, ClientTls(ca_file=CERT, server_name="example.com")),
        ):
            door = RestDoor(at, how)
            with pytest.raises(BackendUnavailable):
                await door.call("GET", "/", (), b"", 5.0)
            await door.aclose()

    assert b"localhost" in answers[0]
    assert b"host " == answers[1]


def test_the_systems_authorities() -> None:
    """grpcio is given them, since it knows only its own."""
    roots, key, cert = ClientTls().pem()

    assert (None, None) == (key, cert)
    assert len(ssl.create_default_context().get_ca_certs()) == (roots or b"").count(b"BEGIN CERTIFICATE")


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (ClientTls(ca_file="/none.pem"), "tls.ca_file '/none.pem': No such file or directory; give PEM certificates"),
        (ClientTls(ca_file=KEY), "give PEM certificates"),
        (ClientTls(cert_file=CERT, key_file="/none.pem"), "tls.key_file '/none.pem': No such file or directory; give"),
        (ClientTls(cert_file=KEY, key_file=KEY), "give a PEM certificate and its PEM key without a password"),
    ],
)
def test_wrong_files(wrong: ClientTls, expected: str) -> None:
    """Said when the server is opened, whatever makes the calls."""
    for client in (AIO, "wire"):
        with pytest.raises(ConfigError) as caught:
            TfServingBackend(grpc="h:1", grpc_client=client, grpc_tls=wrong)

        assert expected in caught.value.message
    with pytest.raises(ConfigError):
        TfServingBackend(rest="https://h:1", rest_tls=wrong)


def test_a_key_with_a_password(tmp_path: Path) -> None:
    """Nobody is asked for it at a terminal."""
    with pytest.raises(ValueError, match="encrypted"):
        tls._no_password()
