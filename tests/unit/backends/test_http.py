"""The REST door: what the server sees of a call, and the caller of its answer, byte for byte."""

from __future__ import annotations

import pytest

from batchproxy.backends.http import RestDoor
from batchproxy.core.errors import (
    BackendError,
    BackendLost,
    BackendRejected,
    BackendUnavailable,
    Code,
)
from batchproxy.core.raw import Header
from tests.strangers import recorder


async def refused(door: RestDoor, kind: type[BackendError]) -> BackendError:
    """What a simple call raises."""
    with pytest.raises(kind) as caught:
        await door.call("POST", "/v1/models/m:predict", (), b"{}", 5.0)
    assert type(caught.value) is kind
    return caught.value


# ---------------------------------------------------------------- out


async def test_the_server_sees_the_callers_bytes_and_nothing_else() -> None:
    """Line, headers with duplicates, body; only Host and Content-Length are written anew."""
    headers: tuple[Header, ...] = (
        ("host", "proxy:1"),
        ("content-length", "7"),
        ("content-encoding", "gzip"),
        ("x-a", "1"),
        ("x-a", "2"),
        ("x-long", "v" * 20_000),
        ("accept", "text/x"),
    )
    async with recorder() as (stranger, door):
        await door.call("POST", "/v1/models/m:predict", headers, b"\x1f\x8b\0\xff\r\n!", None)
    lines = [
        b"POST /v1/models/m:predict HTTP/1.1",
        b"Host: 127.0.0.1:%d" % stranger.port,
        b"content-encoding: gzip",
        b"x-a: 1",
        b"x-a: 2",
        b"x-long: " + b"v" * 20_000,
        b"accept: text/x",
        b"Content-Length: 7",
        b"",
        b"\x1f\x8b\0\xff\r\n!",
    ]

    assert b"\r\n".join(lines) == stranger.requests[0]


async def test_nothing_is_added() -> None:
    """No Accept, no User-Agent, no Content-Type; a body of no length only where the method expects one."""
    async with recorder() as (stranger, door):
        await door.call("GET", "/", (), b"", None)
        await door.call("POST", "/", (), b"", None)
    host = b"Host: 127.0.0.1:%d\r\n" % stranger.port

    assert [
        b"GET / HTTP/1.1\r\n" + host + b"\r\n",
        b"POST / HTTP/1.1\r\n" + host + b"Content-Length: 0\r\n\r\n",
    ] == stranger.requests


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/m?x=1",
        "/v1/models/m?",
        "/V1/Models//m/../x/./%2f%2F%zz",
        '/v1/models/a b|"<>^`{}',
        "/v1/models/m#fragment?x",
        "/v1/models/caf\u00c3\u00a9:predict",  # the bytes of an é in UTF-8, one character each
    ],
)
async def test_the_path_is_sent_as_it_is(path: str) -> None:
    """Neither quoted, unquoted nor tidied up: TF Serving matches the raw text."""
    async with recorder() as (stranger, door):
        await door.call("GET", path, (), b"", None)

    assert path.encode("latin-1") == stranger.requests[0].split(b"\r\n")[0][4:-9]


async def test_header_text_keeps_its_bytes() -> None:
    """A character is a byte, UTF-8 or not."""
    async with recorder() as (stranger, door):
        await door.call("GET", "/", (("x", "\u00c3\u00a9"), ("y", "\u00e9"), ("z", b"\xc3\xa9")), b"", None)

    assert [b"x: \xc3\xa9", b"y: \xe9", b"z: \xc3\xa9"] == stranger.requests[0].split(b"\r\n")[2:5]


async def test_headers_of_one_hop_stay_behind() -> None:
    """Those that HTTP names, and those that Connection names."""
    headers = (
        ("connection", "keep-alive, X-Hop"),
        ("connection", "x-other"),
        ("x-hop", "1"),
        ("x-other", "1"),
        ("keep-alive", "1"),
        ("te", "trailers"),
        ("trailer", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("proxy-authorization", "x"),
        ("expect", "100-continue"),
        ("authorization", "mine"),
    )
    async with recorder() as (stranger, door):
        await door.call("GET", "/", headers, b"", None)

    assert [b"authorization: mine"] == stranger.requests[0].split(b"\r\n")[2:-2]


async def test_large_bodies_pass() -> None:
    """They are not joined with their head."""
    body = bytes(3 << 20)
    async with recorder() as (stranger, door):
        await door.call("POST", "/", (), body, None)

    assert stranger.requests[0].endswith(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))


@pytest.mark.parametrize(("name", "value"), [("x", "a\r\nb"), ("x", "a\0b")])
async def test_headers_that_http_cannot_carry(name: str, value: str) -> None:
    """They could end the head early."""
    async with recorder() as (stranger, door):
        with pytest.raises(BackendRejected, match="cannot be sent"):
            await door.call("GET", "/", ((name, value),), b"", None)

    assert [] == stranger.requests


# ---------------------------------------------------------------- back


async def test_the_answer_is_the_servers() -> None:
    """Status, reason, headers in order with duplicates and bytes, body still packed."""
    body = b"\x1f\x8bnot really gzip"
    answer = (
        b"HTTP/1.1 207 Sm\xc3\xb6rg\xe5s\r\nX-A: 1\r\nx-a: 2\r\nContent-Encoding: gzip\r\nSet-Cookie: a=b\r\n"
        b"Y: \xe9\xc3\xa9\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nContent-Length: 17\r\n\r\n" + body
    )
    async with recorder(answer) as (stranger, door):
        reply = await door.call("GET", "/", (), b"", None)
        await door.call("GET", "/", (), b"", None)
    expected = [("x-a", "1"), ("x-a", "2"), ("content-encoding", "gzip"), ("set-cookie", "a=b"), ("y", "\xe9\xc3\xa9")]

    assert (207, "Sm\xc3\xb6rg\xe5s", expected, body) == (reply.status, reply.message, list(reply.headers), reply.body)
    assert () == reply.trailers
    assert b"Cookie" not in stranger.requests[1]


async def test_chunked_answers_are_put_together() -> None:
    """Framing is of one hop."""
    async with recorder(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n") as (
        _,
        door,
    ):
        reply = await door.call("GET", "/", (), b"", None)

    assert (b"abc", []) == (reply.body, list(reply.headers))


async def test_redirects_are_the_callers_business() -> None:
    """They are answers like others."""
    async with recorder(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n") as (stranger, door):
        reply = await door.call("GET", "/", (), b"", None)

    assert (302, [("location", "/x")]) == (reply.status, list(reply.headers))
    assert 1 == len(stranger.requests)


async def test_an_answer_to_head_has_no_body() -> None:
    """Whatever length it names."""
    async with recorder(b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n") as (_, door):
        reply = await door.call("HEAD", "/", (), b"", 5.0)

    assert b"" == reply.body


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, BackendRejected, Code.INVALID_ARGUMENT),
        (401, BackendRejected, Code.UNAUTHENTICATED),
        (403, BackendRejected, Code.PERMISSION_DENIED),
        (404, BackendRejected, Code.NOT_FOUND),
        (409, BackendRejected, Code.ABORTED),
        (413, BackendRejected, Code.RESOURCE_EXHAUSTED),
        (418, BackendRejected, Code.INVALID_ARGUMENT),
        (422, BackendRejected, Code.INVALID_ARGUMENT),
        (429, BackendRejected, Code.RESOURCE_EXHAUSTED),
        (499, BackendRejected, Code.CANCELLED),
        (500, BackendRejected, Code.INTERNAL),
        (501, BackendRejected, Code.UNIMPLEMENTED),
        (502, BackendLost, Code.UNAVAILABLE),
        (503, BackendUnavailable, Code.UNAVAILABLE),
        (504, BackendRejected, Code.DEADLINE_EXCEEDED),
        (599, BackendRejected, Code.INTERNAL),
    ],
)
async def test_refusals(status: int, kind: type[BackendError], code: Code) -> None:
    """R3's table; the answer itself is kept as it came."""
    body = b'{\n    "error": "no \xc3\xa9"\n}'
    async with recorder(b"HTTP/1.1 %d Why\r\nA: b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)) as (
        _,
        door,
    ):
        error = await refused(door, kind)

    assert (code, error.raw is not None) == (error.code, True)
    assert error.message.endswith("no é")
    assert error.raw is not None
    assert (status, "Why", [("a", "b")], body) == (
        error.raw.status,
        error.raw.message,
        list(error.raw.headers),
        error.raw.body,
    )


async def test_equal_heads_differ_in_their_length() -> None:
    """What is remembered of a request is all but that; other headers and paths are other heads."""
    one, two = (("x-one", "1"),), (("x-one", "2"),)
    async with recorder() as (stranger, door):
        for path, headers, body in (("/a", one, b"a"), ("/a", one, b"bcd"), ("/a", two, b"e"), ("/b", one, b"f")):
            await door.call("POST", path, headers, body, None)

    host = b" HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % stranger.port
    assert [
        b"POST /a" + host + b"x-one: 1\r\nContent-Length: 1\r\n\r\na",
        b"POST /a" + host + b"x-one: 1\r\nContent-Length: 3\r\n\r\nbcd",
        b"POST /a" + host + b"x-one: 2\r\nContent-Length: 1\r\n\r\ne",
        b"POST /b" + host + b"x-one: 1\r\nContent-Length: 1\r\n\r\nf",
    ] == stranger.requests


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In number, and in length."""
    monkeypatch.setattr("batchproxy.backends.http.MAX_KNOWN", 3)
    async with recorder() as (stranger, door):
        for number in range(8):
            await door.call("POST", f"/{number}", (), b"", None)
        await door.call("POST", "/long", (("x-long", "v" * 2000),), b"", None)
        known = list(door._heads)

    assert 9 == len(stranger.requests)
    assert len(known) <= 3
    assert "/long" not in [path for path, _ in known]
