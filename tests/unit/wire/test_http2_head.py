"""What a request's fields say. What makes them malformed is in the table of ``test_http2_frames.py``."""

from __future__ import annotations

import pytest

from batchproxy.wire.headers import Field
from batchproxy.wire.http2_head import Head, read_head
from tests.http2_peer import CALL, GET, PATH, POST


def head(*more: tuple[str, str], fields: tuple[tuple[str, str], ...] = tuple(CALL)) -> Head:
    """The head of a call, or of other fields, with some more."""
    raw: list[Field] = [(name.encode(), value.encode()) for name, value in (*fields, *more)]
    return read_head(raw)


def test_a_call() -> None:
    """A plain call: no limit of time, no length, no encoding; any length may take the short way."""
    found = head()

    assert ("POST", PATH, True, -1, -1) == (found.method, found.path, found.grpc, found.length, found.short)
    assert (None, b"", b"", False) == (found.timeout_s, found.encoding, found.accepts, found.awaits)
    assert found.refusal is None
    assert f"<Head POST {PATH}>" == repr(found)


def test_what_a_call_may_say() -> None:
    """Time limit, encodings, length."""
    found = head(
        ("grpc-timeout", "250m"),
        ("grpc-encoding", "gzip"),
        ("grpc-accept-encoding", "deflate"),
        ("content-length", "7"),
    )

    assert (0.25, b"gzip", b"deflate", 7, 7) == (
        found.timeout_s, found.encoding, found.accepts, found.length, found.short,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [("identity", b""), ("identity, deflate, gzip", b"gzip"), ("snappy,deflate", b"deflate"), ("gzip", b"gzip")],
)
def test_the_encoding_of_answers(accepted: str, expected: bytes) -> None:
    """gzip where the caller takes it, else deflate, else none."""
    assert expected == head(("grpc-accept-encoding", accepted)).accepts


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"])
def test_content_types_of_calls(kind: str) -> None:
    """With and without the format and parameters."""
    found = head(("content-type", kind), fields=tuple(CALL[:-1]))

    assert (True, None) == (found.grpc, found.refusal)


@pytest.mark.parametrize("kind", ["application/grpc-web", "application/json", "application/grpcx", "text/plain"])
def test_content_types_of_others(kind: str) -> None:
    """What only looks like gRPC is a plain request, and never takes the short way."""
    found = head(("content-type", kind), fields=tuple(CALL[:-1]))

    assert (False, -2) == (found.grpc, found.short)


def test_te_may_be_missing() -> None:
    """gRPC wants it, to find proxies that lose trailers; such a proxy's caller is served all the same."""
    assert head(fields=(*CALL[:4], CALL[5])).grpc


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        (("grpc-timeout", "soon"), 13, "malformed grpc-timeout: soon"),
        (("grpc-encoding", "snappy"), 12, "messages in the encoding snappy cannot be read"),
    ],
)
def test_calls_not_served(more: tuple[str, str], code: int, text: str) -> None:
    """They are answered in gRPC's way."""
    found = head(more)

    assert found.refusal is not None
    assert (True, code, text) == (found.grpc, found.refusal.code, found.refusal.text)


def test_other_formats_of_messages() -> None:
    """JSON messages are UNIMPLEMENTED."""
    found = head(("content-type", "application/grpc+json"), fields=tuple(CALL[:-1]))

    assert found.refusal is not None
    assert (12, "messages are read as protobuf only, not as json") == (found.refusal.code, found.refusal.text)


def test_two_time_limits_are_none() -> None:
    """Which one would hold?"""
    assert head(("grpc-timeout", "1S"), ("grpc-timeout", "2S")).refusal is not None


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ((*GET, CALL[5]), 405),
        (((":method", "CONNECT"), (":authority", "a:1")), 501),
        ((*POST, ("expect", "wonders")), 417),
    ],
)
def test_requests_not_served(fields: tuple[tuple[str, str], ...], status: int) -> None:
    """They are answered in HTTP's way."""
    found = head(fields=fields)

    assert found.refusal is not None
    assert (False, status) == (found.grpc, found.refusal.code)


def test_headers() -> None:
    """By name; joined where repeated, cookies by semicolons; the authority as host."""
    found = head(("a", "1"), ("cookie", "x"), ("a", "2"), ("cookie", "y"), fields=tuple(GET))

    assert {"a": "1,2", "cookie": "x; y", "host": "localhost:8501"} == dict(found.headers)
    assert found.headers is found.headers


@pytest.mark.parametrize("host", ["localhost:8501", "LOCALHOST:8501"])
def test_host_beside_the_authority(host: str) -> None:
    """The same is said twice; case does not matter."""
    assert host == head(("host", host), fields=tuple(GET)).headers["host"]


def test_host_without_authority() -> None:
    """A proxy of HTTP/1.1 sends only that (8.3.1)."""
    assert "h" == head(("host", "h"), fields=tuple(GET[:3])).headers["host"]
    assert {} == dict(head(fields=tuple(GET[:3])).headers)


def test_metadata() -> None:
    """A call's own fields: without those of the wire, and in two forms."""
    found = head(("user", "me"), ("grpc-timeout", "1S"), ("x-bin", "AP8="), ("user", "you"), ("grpc-trace-bin", "AQ"))

    assert {"user": "me,you", "x-bin": "AP8=", "grpc-trace-bin": "AQ"} == dict(found.metadata)
    assert [("user", "me"), ("x-bin", b"\0\xff"), ("user", "you"), ("grpc-trace-bin", b"\1")] == found.pairs()
    assert found.metadata is found.metadata


def test_the_same_length_twice() -> None:
    """Is tolerated (RFC 9110, 8.6)."""
    assert 5 == head(("content-length", "5"), ("content-length", "5"), fields=tuple(POST)).length


@pytest.mark.parametrize(("path", "method"), [("*", "OPTIONS"), ("/", "PATCH"), ("/a?b=c#d", "GET")])
def test_paths(path: str, method: str) -> None:
    """As they are sent."""
    found = head(fields=((":method", method), GET[1], (":path", path)))

    assert (method, path) == (found.method, found.path)
