"""HTTP/1.1 messages, good and broken, and what a connection makes of them: shared by the tests of the wire."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator, Sequence

from batchproxy.wire.base import Limits
from batchproxy.wire.http1 import Http1Connection
from batchproxy.wire.http1_answers import Answers
from batchproxy.wire.http1_head import Heads

JSON = {"Content-Type": "application/json"}
SMALL = Limits(line_bytes=100, head_bytes=400, head_fields=6, body_bytes=64, inflated_bytes=100)


def connect(limits: Limits = SMALL, now: float = 0.0) -> Http1Connection:
    """A connection that nothing was sent on; its answers carry no date."""
    return Http1Connection(limits, Heads(limits), Answers(), now)


def request(body: bytes = b"", *fields: str, method: str = "POST", version: str = "1.1") -> bytes:
    """A request for /v1/x with a Host, and a length where there is a body."""
    lines = [f"{method} /v1/x HTTP/{version}", "Host: h", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def told(connection: Http1Connection) -> tuple[int, bytes]:
    """Status and body of the one answer that is in the output."""
    head, _, body = connection.output().partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body


Event = tuple[object, ...] | bytes | bool


def events(pieces: Sequence[bytes], limits: Limits = SMALL) -> list[Event]:
    """What a connection makes of these pieces: requests, each answered at once, and how it ends."""
    connection, found, answers = connect(limits), [], b""
    for piece in pieces:
        for exchange in connection.feed(piece, 0.0):
            found.append((exchange.method, exchange.path, dict(exchange.headers), exchange.body))
            exchange.answer(200, b"ok", JSON)
        answers += connection.output()
    return [*found, answers.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""), connection.closing]


BROKEN = {
    "both lengths": (400, request(b"abc", "Transfer-Encoding: chunked")),
    "two lengths": (400, request(b"abc", "Content-Length: 4")),
    "two equal lengths": (400, request(b"abc", "Content-Length: 3")),
    "a list of lengths": (400, request(b"", "Content-Length: 3, 3")),
    "a signed length": (400, request(b"", "Content-Length: +3")),
    "a negative length": (400, request(b"", "Content-Length: -1")),
    "a hexadecimal length": (400, request(b"", "Content-Length: 0x3")),
    "an empty length": (400, request(b"", "Content-Length:")),
    "an endless length": (400, request(b"", "Content-Length: " + "9" * 40)),
    "a length over the limit": (413, request(b"", "Content-Length: 65")),
    "chunked twice": (400, request(b"", "Transfer-Encoding: chunked, chunked")),
    "chunked and another": (400, request(b"", "Transfer-Encoding: chunked, identity")),
    "another and chunked": (501, request(b"", "Transfer-Encoding: gzip, chunked")),
    "two codings": (501, request(b"", "Transfer-Encoding: gzip", "Transfer-Encoding: chunked")),
    "a hidden coding": (400, request(b"", "Transfer-Encoding: xchunked")),
    "an obscured coding": (400, request(b"", "Transfer-Encoding: \x0bchunked")),
    "chunks in HTTP/1.0": (400, request(b"", "Transfer-Encoding: chunked", version="1.0")),
    "a bare line feed after the line": (400, b"GET / HTTP/1.1\nHost: h\r\n\r\n"),
    "a bare line feed after a field": (400, b"GET / HTTP/1.1\r\nHost: h\n\r\n"),
    "only bare line feeds": (400, b"GET / HTTP/1.1\nHost: h\n\n"),
    "a bare carriage return": (400, b"GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n"),
    "a folded field": (400, b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n"),
    "a folded first field": (400, b"GET / HTTP/1.1\r\n X: a\r\nHost: h\r\n\r\n"),
    "white space before the colon": (400, request(b"", "Content-Length : 3")),
    "a field without a name": (400, request(b"", ": x")),
    "a field without a colon": (400, request(b"", "novalue")),
    "a name that is no token": (400, request(b"", "a(b): x")),
    "a NUL in a name": (400, request(b"", "a\0b: x")),
    "a NUL in a value": (400, request(b"", "X: a\0b")),
    "a NUL in the path": (400, b"GET /a\0b HTTP/1.1\r\nHost: h\r\n\r\n"),
    "a space in the path": (400, b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n"),
    "no version": (505, b"GET /\r\nHost: h\r\n\r\n"),
    "HTTP/0.9": (505, b"GET / HTTP/0.9\r\nHost: h\r\n\r\n"),
    "HTTP/1.2": (505, b"GET / HTTP/1.2\r\nHost: h\r\n\r\n"),
    "HTTP/2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/2.0": (505, b"GET / HTTP/2.0\r\nHost: h\r\n\r\n"),
    "HTTP/3.7": (505, b"GET / HTTP/3.7\r\nHost: h\r\n\r\n"),
    "HTTP/11": (400, b"GET / HTTP/11\r\nHost: h\r\n\r\n"),
    "another protocol": (400, b"GET / ICE/1.0\r\nHost: h\r\n\r\n"),
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, request(b"", "Host: i")),
    "an unknown method": (501, b"BREW / HTTP/1.1\r\nHost: h\r\n\r\n"),
    "a method in lower case": (501, b"get / HTTP/1.1\r\nHost: h\r\n\r\n"),
    "CONNECT": (501, b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "an empty line with more in it": (400, b"\r\rGET / HTTP/1.1\r\n\r\n"),
    "another expectation": (417, request(b"abc", "Expect: 200-ok")),
    "a long line": (414, b"GET /" + b"a" * 100 + b" HTTP/1.1\r\nHost: h\r\n\r\n"),
    "a line without an end": (414, b"a" * 102),
    "a long head": (431, request(b"", "X: " + "a" * 400)),
    "many fields": (431, request(b"", *["X: y"] * 6)),
    "a chunk size that is none": (400, request(b"", "Transfer-Encoding: chunked") + b"0x5\r\nhello\r\n"),
    "a signed chunk size": (400, request(b"", "Transfer-Encoding: chunked") + b"+5\r\nhello\r\n"),
    "a chunk size with a space": (400, request(b"", "Transfer-Encoding: chunked") + b"5 \r\nhello\r\n"),
    "an empty chunk size": (400, request(b"", "Transfer-Encoding: chunked") + b"\r\nhello\r\n"),
    "a chunk line with a bare line feed": (400, request(b"", "Transfer-Encoding: chunked") + b"5\nhello"),
    "a chunk longer than it says": (400, request(b"", "Transfer-Encoding: chunked") + b"4\r\nhello\r\n"),
    "a chunk shorter than it says": (400, request(b"", "Transfer-Encoding: chunked") + b"6\r\nhello\r\n0\r\n\r\n"),
    "chunks over the limit": (413, request(b"", "Transfer-Encoding: chunked") + b"41\r\n"),
    "a huge chunk": (413, request(b"", "Transfer-Encoding: chunked") + b"f" * 16 + b"\r\n"),
    "a trailer that is none": (400, request(b"", "Transfer-Encoding: chunked") + b"0\r\nx\r\n\r\n"),
    "long trailers": (431, request(b"", "Transfer-Encoding: chunked") + b"0\r\nx: " + b"y" * 400),
}


TEXTS = [
    b"GET", b"POST", b" ", b"/v1/x", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b":",
    b"Host: h\r\n", b"Content-Length: 4\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding : chunked\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"X: y\r\n",
    b"Content-Encoding: gzip\r\n", b"4\r\n", b"abcd", b"0\r\n\r\n", b"4;x=y\r\nabcd\r\n", b"Upgrade: h2c\r\n",
    b" folded\r\n", b"a" * 90, gzip.compress(b"g"), request(b"1"),
    request(b"", "Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]  # fmt: skip


def mutations(seed: int, count: int) -> Iterator[bytes]:
    """Streams of good requests, most of them with a few bytes changed, doubled, left out or put in."""
    dice = random.Random(seed)
    good = [data for _, data in BROKEN.values()]
    good += [
        request(b"{}"), request(b"", "Transfer-Encoding: chunked") + b"3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n",
        request(method="HEAD"), request(b"x" * 64, "Expect: 100-continue"), request(b"", version="1.0"),
        request(gzip.compress(b"z"), "Content-Encoding: gzip", "Connection: keep-alive", version="1.0"),
    ]  # fmt: skip
    for _ in range(count):
        data = bytearray(b"".join(dice.choices([*good, *good[-6:] * 8], k=dice.randint(1, 3))))
        for _ in range(dice.choice([0, 0, 1, 1, 2, 4])):
            at = dice.randrange(len(data) + 1)
            kind = dice.randrange(3)
            if kind == 0:
                del data[at : at + dice.randint(1, 3)]
            else:
                data[at : at + (kind == 1)] = dice.choice([*TEXTS[:12], bytes([dice.randrange(256)])])
        yield bytes(data)
