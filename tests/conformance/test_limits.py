"""Where our safety limits are stricter than TF Serving's: each is met, and its error says so. The docs show them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from batchproxy.codecs import tensor_proto, tfs_rest
from batchproxy.core.errors import BatchProxyError, Code
from batchproxy.core.shapes import Signature, TensorSpec
from batchproxy.protos.tfs_pb2 import TensorProto
from batchproxy.wire import grpc
from batchproxy.wire.base import Limits
from batchproxy.wire.http2_limits import Http2Limits
from tests.http1_messages import connect, request
from tests.http2_peer import CALL, POST, Peer, data

ONE = Signature({"x": TensorSpec("float32")}, {})
CLAIM = (
    "input 'x' claims 1073741824 elements and sends 1: "
    "batchproxy fills in at most 67108864 elements a call; send them all"
)
LIMITS, HTTP2 = Limits(), Http2Limits()


class Limit(NamedTuple):
    """One limit.

    Attributes:
        what: is bounded.
        ours: the bound, as the page says it.
        theirs: TF Serving's.
        error: status and text.
        meet: runs into it, and returns status and text.
    """

    what: str
    ours: str
    theirs: str
    error: tuple[str, str]
    meet: Callable[[], tuple[str, str]]


def refused(work: Callable[[], object]) -> tuple[str, str]:
    """The code and the text of the error that ``work`` ends with."""
    with pytest.raises(BatchProxyError) as caught:
        work()
    return Code(caught.value.code).name, caught.value.message


def nested() -> tuple[str, str]:
    """Lists in lists."""
    depth = tensor_proto.MAX_RANK + 1
    envelope = tfs_rest.parse_body(b'{"inputs": %b1%b}' % (b"[" * depth, b"]" * depth))
    return refused(lambda: tfs_rest.decode_predict(envelope, "", ONE))


def tensor(*shape: int) -> tuple[str, str]:
    """A tensor of one value that claims a shape."""
    proto = TensorProto(dtype=1, float_val=[1])
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return refused(lambda: tensor_proto.to_array(proto, "x"))


def http1(message: bytes) -> tuple[str, str]:
    """The status and the reason in the page that answers a message over HTTP/1.1."""
    connection = connect(LIMITS)
    for _ in connection.feed(message, 0.0):
        raise AssertionError("it was taken")
    head, _, page = connection.output().partition(b"\r\n\r\n")
    return head.split(b" ")[1].decode(), page.partition(b"<P>")[2].partition(b"</P>")[0].decode()


def http2_body() -> tuple[str, str]:
    """A body that is announced, by HTTP/2 that is no gRPC."""
    peer, length = Peer(), HTTP2.message_bytes + 1
    stream = peer.take()
    peer.send(peer.headers((*POST, ("content-length", str(length))), stream), data(stream, b"x"))
    head, page, _ = peer.answer()
    return head[":status"], page.partition(b"<P>")[2].partition(b"</P>")[0].decode() or page.decode()


def grpc_message() -> tuple[str, str]:
    """A message that is announced."""
    peer = Peer()
    stream = peer.take()
    peer.send(peer.headers(CALL, stream), data(stream, grpc.PREFIX.pack(0, HTTP2.message_bytes + 1)))
    head, _, _ = peer.answer()
    return Code(int(head["grpc-status"])).name, head["grpc-message"]


TABLE = [
    Limit(
        "Lists within lists of a REST input, axes of an array",
        "64 (with numpy before 2: 32)",
        "254",
        ("INVALID_ARGUMENT", "input 'x' is nested 65 lists deep; at most 64 can be taken"),
        nested,
    ),
    Limit(
        "Axes of a tensor over gRPC",
        "64 (with numpy before 2: 32)",
        "254",
        ("INVALID_ARGUMENT", "input 'x' has 65 dimensions; batchproxy takes at most 64"),
        lambda: tensor(*[1] * 65),
    ),
    Limit(
        "Elements of one gRPC call that are claimed and not sent",
        "67,108,864",
        "what memory holds",
        ("INVALID_ARGUMENT", CLAIM),
        lambda: tensor(1 << 30),
    ),
    Limit(
        "Body of a request over HTTP/1.1",
        "256 MiB",
        "none",
        ("413", "the request's body is longer than 268435456 bytes"),
        lambda: http1(request(b"", f"Content-Length: {LIMITS.body_bytes + 1}")),
    ),
    Limit(
        "Body of a plain request over HTTP/2",
        "256 MiB",
        "no HTTP/2",
        ("413", "the body has more than 268435456 bytes"),
        http2_body,
    ),
    Limit(
        "gRPC message",
        "256 MiB",
        "2 GiB",
        ("RESOURCE_EXHAUSTED", "Received message larger than max (268435457 vs. 268435456)"),
        grpc_message,
    ),
    Limit(
        "Request line",
        "8 KiB",
        "none",
        ("414", "the request line is longer than 8192 bytes"),
        lambda: http1(b"GET /" + b"a" * LIMITS.line_bytes + b" HTTP/1.1\r\nHost: h\r\n\r\n"),
    ),
    Limit(
        "Head of a request",
        "32 KiB",
        "none",
        ("431", "the request's head is longer than 32768 bytes"),
        lambda: http1(request(b"", *[f"X: {'a' * 4000}"] * 9)),
    ),
    Limit(
        "Header fields of a request",
        "100",
        "none",
        ("431", "the request has more than 100 header fields"),
        lambda: http1(request(b"", *["X: y"] * 101)),
    ),
]
"""The page has it, too."""


@pytest.mark.parametrize("limit", TABLE, ids=lambda limit: limit.what)
def test_the_error_names_the_limit(limit: Limit) -> None:
    """So that whoever meets it knows that it is ours, and how far they may go; the numbers are numpy 2's."""
    status, text = limit.meet()
    shown = text.replace(str(tensor_proto.MAX_RANK), "64").replace(str(tensor_proto.MAX_RANK + 1), "65")

    assert limit.error == (status, shown)
