"""The head of an HTTP/2 request: its fields, checked and read. Nothing is remembered here; no bodies, no frames.

Sections are those of RFC 9113.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from batchproxy.wire import grpc
from batchproxy.wire.frames import ErrorCode, StreamFault
from batchproxy.wire.headers import Field
from batchproxy.wire.http1_head import Headers

_CONNECTION = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})
_OURS = frozenset({
    b"te", b"content-type", b"content-length", b"host", b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding",
    b"grpc-message-type",
})  # fmt: skip
"""What the wire reads itself; the rest of a call's fields is its metadata."""

_NAMES = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9a-z]+(?:\n|\Z))*")
_LINE_ENDS = b"\0\r\n"
_VISIBLE = re.compile(rb"[\x21-\x7e]*")
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LENGTH = re.compile(rb"[0-9]{1,18}")

TELLING = (_OURS | _CONNECTION | {b":method", b":scheme", b":path", b":authority", b"expect", b"user-agent"}) - {
    b"grpc-timeout"
}
"""What a call's head is made from, or what is the same in each call anyway; but for the time limit, which varies."""

_INTERNAL, _UNIMPLEMENTED = 13, 12


class Refusal(Exception):
    """A request that the wire answers itself.

    Args:
        code: gRPC's status code for a call, else HTTP's.
        text: for the caller.
        fields: further metadata or header fields of the answer.
    """

    def __init__(self, code: int, text: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text
        self.fields: Mapping[str, str] = fields or {}


class Head:
    """A request's head; equal requests of a connection share one.

    Attributes:
        method: as sent.
        path: path and query as sent, undecoded.
        fields: all of them, as sent.
        length: of the body as announced, in bytes; -1 where it was not.
        grpc: whether this is a gRPC call.
        short: how long the only DATA frame must be to be taken the short way; -1: as it likes, -2: never.
        timeout_s: the caller's ``grpc-timeout``; None: no deadline.
        encoding: of compressed messages: ``gzip`` or ``deflate``; empty where there will be none.
        accepts: the encoding a compressed answer may have; empty for none.
        awaits: whether the caller waits for ``100 Continue`` before it sends the body.
        refusal: why this request is not served; None where it is.
        streamed: whether this is a gRPC call with any number of messages.
    """

    __slots__ = (
        "_headers",
        "_metadata",
        "_own",
        "accepts",
        "awaits",
        "encoding",
        "fields",
        "grpc",
        "length",
        "method",
        "path",
        "refusal",
        "short",
        "streamed",
        "timeout_s",
    )  # fmt: skip

    def __init__(self, method: str, path: str, fields: list[Field]) -> None:
        self.method = method
        self.path = path
        self.fields = fields
        self.length = -1
        self.grpc = self.streamed = False
        self.short = -2
        self.timeout_s: float | None = None
        self.encoding = self.accepts = b""
        self.awaits = False
        self.refusal: Refusal | None = None
        self._own: Sequence[grpc.Pair] | None = None
        self._headers: Headers | None = None
        self._metadata: Headers | None = None

    @property
    def headers(self) -> Headers:
        """All but the pseudo-header fields, by name; the authority as ``host``. Repeated ones are joined."""
        if self._headers is None:
            pseudo, regular = _sorted(self.fields)
            if b":authority" in pseudo:
                regular.setdefault(b"host", pseudo[b":authority"])
            self._headers = Headers(regular)
        return self._headers

    @property
    def metadata(self) -> Headers:
        """A call's own fields by name; binary ones in base64, as sent."""
        if self._metadata is None:
            regular = _sorted(self.fields)[1]
            self._metadata = Headers({name: value for name, value in regular.items() if name not in _OURS})
        return self._metadata

    def own(self) -> Sequence[grpc.Pair]:
        """``pairs``, made once: equal calls share a head."""
        if self._own is None:
            self._own = tuple(self.pairs())
        return self._own

    def pairs(self) -> list[grpc.Pair]:
        """A call's own fields as gRPC libraries have them: in order, repeated ones apart, binary ones as bytes."""
        own = (field for field in self.fields if field[0][:1] != b":" and field[0] not in _OURS)
        return list(grpc.metadata_pairs(own))

    def variant(self, fields: list[Field], own: list[Field]) -> Head:
        """The head of a call that differs from this one in its metadata and time limit only.

        Args:
            fields: all of them.
            own: those that are not ``TELLING``.

        Raises:
            StreamFault: the request is malformed.
        """
        regular = dict(own)
        _check(own, regular)
        head = Head(self.method, self.path, fields)
        head.grpc, head.streamed = self.grpc, self.streamed
        head.length = self.length
        head.short = self.short
        head.encoding = self.encoding
        head.accepts = self.accepts
        if b"grpc-timeout" in regular:
            _read_timeout(head, own)
        return head

    def __repr__(self) -> str:
        return f"<Head {self.method} {self.path}>"


def read_head(fields: list[Field]) -> Head:
    """What the fields of a request say.

    Raises:
        StreamFault: the request is malformed (8.1.1, 8.2, 8.3).
    """
    pseudo, regular = _sorted(fields)
    _check(fields, regular)
    method, scheme = pseudo.pop(b":method", None), pseudo.pop(b":scheme", None)
    path, authority = pseudo.pop(b":path", None), pseudo.pop(b":authority", None)
    if pseudo:
        raise _malformed("an unknown pseudo-header field")
    if method is None or _METHOD.fullmatch(method) is None:
        raise _malformed("there is no method")
    if method == b"CONNECT":
        if scheme is not None or path is not None:
            raise _malformed("CONNECT with a path or scheme")
        path = b"*"
    elif scheme is None or path is None:
        raise _malformed("a pseudo-header field is missing")
    elif path[:1] != b"/" and (path != b"*" or method != b"OPTIONS"):
        raise _malformed("the path does not begin with a slash")
    if _VISIBLE.fullmatch(path) is None:
        raise _malformed("the path has characters that it may not have")
    if authority is not None:
        if _VISIBLE.fullmatch(authority) is None:
            raise _malformed("the authority has characters that it may not have")
        host = regular.setdefault(b"host", authority)
        if host != authority and host.lower() != authority.lower():
            raise _malformed("host is not the authority")
    head = Head(method.decode("ascii"), path.decode("ascii"), fields)
    _read_regular(head, regular)
    return head


def _sorted(fields: list[Field]) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """The pseudo-header fields, and the others by name.

    Raises:
        StreamFault: the former do not come first, or repeat.
    """
    pseudo: dict[bytes, bytes] = {}
    regular: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] == b":":
            if regular or name in pseudo:
                raise _malformed("a pseudo-header field is late or comes twice")
            pseudo[name] = value
        elif name in regular:
            regular[name] += (b"; " if name == b"cookie" else b",") + value
        else:
            regular[name] = value
    return pseudo, regular


def check_trailers(fields: list[Field], *, stripped: bool = True) -> None:
    """See that the fields after a body are well-formed.

    Args:
        fields: all of them.
        stripped: whether white space around a value is a fault, as it should be; gRPC's own servers send it.

    Raises:
        StreamFault: they are not (8.1).
    """
    if any(name[:1] == b":" for name, _ in fields):
        raise _malformed("a pseudo-header field after the body")
    _check(fields, dict(fields), stripped=stripped)


def _check(fields: list[Field], regular: Mapping[bytes, bytes], *, stripped: bool = True) -> None:
    """Names and values (8.2.1), and fields that belong to a connection (8.2.2). All at once: it is the common case."""
    names = b"\n".join(regular)
    if _NAMES.fullmatch(names) is None or names.count(b"\n") != max(len(regular) - 1, 0) or b"" in regular:
        raise _malformed("a field name is empty, or has upper-case letters or other characters that it may not have")
    values = b"".join([value for _, value in fields])
    padded = [value for _, value in fields if value != value.strip()]
    if (padded and stripped) or len(values.translate(None, _LINE_ENDS)) != len(values):
        raise _malformed("a field value has a line end or NUL in it, or white space around it")
    if not _CONNECTION.isdisjoint(regular):
        raise _malformed("a field that belongs to a connection")
    if regular.get(b"te", b"trailers").lower() != b"trailers":
        raise _malformed("te is not trailers")


def _read_regular(head: Head, regular: Mapping[bytes, bytes]) -> None:
    """Content length, expectation, and what makes a gRPC call; sets ``refusal`` where we do not serve it."""
    length = regular.get(b"content-length")
    if length is not None:
        # The same number twice is tolerated, as RFC 9110, 8.6 allows.
        numbers = {number.strip() for number in length.split(b",")}
        if len(numbers) > 1 or _LENGTH.fullmatch(length := numbers.pop()) is None:
            raise _malformed("content-length is no number, or two")
        head.length = int(length)
    kind = regular.get(b"content-type", b"")
    if kind[:16] == b"application/grpc" and kind[16:17] in {b"", b"+", b";"}:
        if head.method == "POST":
            head.grpc = True
            head.short = head.length
            _read_call(head, kind, regular)
        else:
            head.refusal = Refusal(405, "gRPC calls are POSTed", {"allow": "POST"})
        return
    if head.method == "CONNECT":
        head.refusal = Refusal(501, "this is no proxy for CONNECT")
    expectation = regular.get(b"expect")
    if expectation is not None:
        head.awaits = expectation.lower() == b"100-continue"
        if not head.awaits:
            head.refusal = Refusal(417, "the only expectation known here is 100-continue")


def _read_call(head: Head, kind: bytes, regular: Mapping[bytes, bytes]) -> None:
    subtype = kind[17:].split(b";")[0] if kind[16:17] == b"+" else b""
    if subtype not in {b"", b"proto"}:
        head.refusal = Refusal(
            _UNIMPLEMENTED, f"messages are read as protobuf only, not as {subtype.decode('latin-1')}"
        )
    if b"grpc-timeout" in regular:
        _read_timeout(head, head.fields)
    encoding = regular.get(b"grpc-encoding", b"identity")
    if encoding != b"identity":
        head.encoding = encoding
        if encoding not in {b"gzip", b"deflate"}:
            text = f"messages in the encoding {encoding.decode('latin-1')} cannot be read"
            head.refusal = Refusal(_UNIMPLEMENTED, text, {"grpc-accept-encoding": grpc.ACCEPTED.decode()})
    accepted = regular.get(b"grpc-accept-encoding")
    if accepted is not None:
        encodings = {name.strip() for name in accepted.split(b",")}
        head.accepts = next((name for name in (b"gzip", b"deflate") if name in encodings), b"")


def _read_timeout(head: Head, fields: list[Field]) -> None:
    """The caller's time limit; of several that is none."""
    value = b",".join(value for name, value in fields if name == b"grpc-timeout")
    head.timeout_s = grpc.timeout_s(value)
    if head.timeout_s is None:
        head.refusal = Refusal(_INTERNAL, f"malformed grpc-timeout: {value.decode('latin-1')}")


def _malformed(reason: str) -> StreamFault:
    return StreamFault(ErrorCode.PROTOCOL_ERROR, reason)
