"""Requests between the recorded ones, asked directly, passed on, and bridged to gRPC: the answer is the same.

As ``test_remote_golden`` does with what was recorded; here the test server is the judge.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader

import pytest

from tests import between
from tests.between import Request
from tests.generated.stage import IN_ANY_ORDER
from tests.golden_cases import Answer, Case, same_answer
from tests.integration.test_remote_golden import PER_HOP
from tests.proxy import running_in_front_of
from tests.tfserving.fixture import running_server

KINDS: tuple[Callable[[], Iterable[Request]], ...] = (
    between.values, between.strings, between.shapes, between.bodies, between.examples, between.routes,
)  # fmt: skip

CALLERS = 8


Seen = tuple[int, str, list[tuple[str, str]], bytes]
"""Status, reason, headers and body of an answer."""


class Client:
    """One connection at a time; requests are written as they are, which no library does."""

    def __init__(self, place: str) -> None:
        self._place = place.removeprefix("http://")
        self._file: BufferedReader | None = None
        self._socket: socket.socket | None = None

    def ask(self, request: Request) -> Seen:
        """What a caller sees; a kept connection is used again."""
        if self._file is None or self._socket is None:
            host, _, port = self._place.rpartition(":")
            self._socket = socket.create_connection((host, int(port)), timeout=30)
            self._file = self._socket.makefile("rb")
        fields = {"Host": "h", **request.headers, "Content-Length": str(len(request.body))}
        lines = [f"{request.method} {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode() + request.body)
        _, status, reason = self._file.readline().decode().rstrip("\r\n").split(" ", 2)
        headers = []
        while line := self._file.readline().decode().rstrip("\r\n"):
            name, _, value = line.partition(": ")
            headers.append((name.lower(), value))
        length = int(dict(headers).get("content-length", 0)) if request.method != "HEAD" else 0
        body = self._file.read(length)
        if dict(headers).get("connection") == "close":
            self.close()
        return int(status), reason, sorted(header for header in headers if header[0] not in PER_HOP), body

    def close(self) -> None:
        """Hang up."""
        if self._file is not None and self._socket is not None:
            self._file.close()
            self._socket.close()
        self._file = self._socket = None


@pytest.fixture(scope="module")
def places() -> Iterator[tuple[str, str, str]]:
    """A server, a proxy with both of its doors, and one with its gRPC door alone."""
    with (
        running_server("--rest_api_enable_cors_support=true") as server,
        running_in_front_of([server]) as relay,
        running_in_front_of([server], doors=["grpc"], rest_api_enable_cors_support=True) as bridge,
    ):
        yield server.rest, relay.rest, bridge.rest


def answers(place: str, requests: list[Request]) -> list[Seen]:
    """From several callers, each with a connection of its own."""

    def some(first: int) -> list[Seen]:
        client = Client(place)
        try:
            return [client.ask(request) for request in requests[first::CALLERS]]
        finally:
            client.close()

    found: list[Seen] = [(0, "", [], b"")] * len(requests)
    with ThreadPoolExecutor(CALLERS) as callers:
        for first, several in enumerate(callers.map(some, range(CALLERS))):
            found[first::CALLERS] = several
    return found


NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def same(direct: Seen, found: Seen, request: Request) -> bool:
    """Up to the order of keys, of inputs and of outputs; exponentials depend on the batch in their last digits (R1)."""
    if direct[:3] != found[:3]:
        return False
    near, far = (IN_ANY_ORDER.sub(b"", answer[3]) for answer in (direct, found))
    if same_answer(Case("", "", "", {}, b"", (Answer(direct[0], near),)), Answer(found[0], far)):
        return True
    return "classify" in request.path and [round(float(number), 5) for number in NUMBER.findall(near)] == [
        round(float(number), 5) for number in NUMBER.findall(far)
    ]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_way_gives_the_direct_answer(places: tuple[str, str, str], kind: Callable[[], Iterable[Request]]) -> None:
    """Status, reason, headers and body."""
    requests = list(kind())
    direct, relayed, bridged = (answers(place, requests) for place in places)
    differences = [
        (way, request, near, far)
        for way, several in (("relayed", relayed), ("bridged", bridged))
        for request, near, far in zip(requests, direct, several, strict=True)
        if not same(near, far, request)
    ]

    assert [] == differences[:3], f"{len(differences)} of {len(requests)} requests"
    assert {status for status, *_ in direct} >= {200, 400} - ({200} if kind is between.bodies else set())
