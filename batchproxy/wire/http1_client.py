"""The client's end of one HTTP/1.1 call: the request's head as bytes; the answer's bytes in, its parts out. No socket.

Nothing is added, decoded or followed. Framing is llhttp's (``httptools``), strict: an answer whose end is in doubt must
never be taken for another call's. Header text is Latin-1, a character for each byte.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from batchproxy.wire.budget import LARGE_BYTES, Budget, Claim
from batchproxy.wire.http1_body import NO_ROOM

MAX_HEAD_BYTES = 1 << 20
"""Of an answer's head, those of interim answers included. As gRPC's ``max_metadata_size`` in ``backends.grpc``: smaller
usual limits (8 KiB) would refuse what a direct caller may accept."""

MAX_ANSWER_BYTES = (1 << 31) - 1
"""Of an answer as sent. TF Serving sets no limit; what it answers was one protobuf message, and those end here."""

_WITHOUT_LENGTH = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods for which no body need not be said (RFC 9110, 8.6)."""

_BODYLESS = frozenset({204, 304})

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_HEAD = re.compile(rf"{_NAME} /[^\0\r\n]* HTTP/1\.1\r\n(?:{_NAME}: [^\0\r\n]*\r\n)+\r\n")

MAX_KNOWN = 512
"""Heads of answers that are remembered: they differ by length, and by the second."""

MAX_KNOWN_BYTES = 1 << 10
"""A longer head is not worth remembering."""

Fields = tuple[tuple[bytes, bytes], ...]

_END = b"\r\n\r\n"


class BadAnswer(ValueError):
    """The answer is no HTTP, or too long. The connection is of no further use."""


class NoRoom(BadAnswer):
    """The process holds as many bytes as it may, and more of the answer was to come."""


def request_head(method: str, path: str, host: str, headers: Sequence[tuple[str, str]], size: int) -> bytes:
    """What precedes a request's body.

    Args:
        method: as it is to be sent.
        path: path and query as they are to be sent, from a slash on.
        host: the ``Host`` field's value.
        headers: beside ``Host`` and ``Content-Length``; names may repeat.
        size: of the body, in bytes.

    Raises:
        ValueError: HTTP cannot carry it: it would end a line early, has no name, or is no Latin-1.
    """
    lines = [f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    if size or method not in _WITHOUT_LENGTH:
        lines.append(f"Content-Length: {size}\r\n")
    lines.append("\r\n")
    text = "".join(lines)
    if text.count("\n") != len(lines) + 1 or _HEAD.fullmatch(text) is None:
        raise ValueError("a control character, or a missing slash or name, in its first line or a header")
    return text.encode("latin-1")


class AnswerHead(NamedTuple):
    """The head of an answer that says how long its body is, and that the connection stays.

    Attributes:
        status: as ``Answer``'s, and so are the next two.
        reason: see there.
        fields: see there.
        length: of the body, in bytes.
    """

    status: int
    reason: bytes
    fields: Fields
    length: int


class AnswerHeads:
    """Heads of answers that came lately: what follows an equal one is framed equally, and need not be parsed."""

    def __init__(self) -> None:
        self.known: dict[bytes, AnswerHead] = {}

    def learn(self, raw: bytes, head: AnswerHead) -> None:
        """Remember a head, of which these are the bytes, its empty line included."""
        if len(raw) <= MAX_KNOWN_BYTES:
            if len(self.known) >= MAX_KNOWN:
                self.known.clear()
            self.known[raw] = head


class Answer:
    """One answer, as it comes in.

    Args:
        method: of the request.
        head_bytes: limit of its head.
        answer_bytes: limit of the whole.
        heads: remembers heads of this server's answers; None: nobody does.
        budget: of the process: a large body is charged to it while it comes in; None: to nobody.

    Attributes:
        started: a byte of it came.
        done: it is whole; what follows is there then.
        keep: the connection may carry another call. Not where method or status say that there is no body: servers
            differ on what they send then.
        status: 200 to 999.
        reason: the phrase as sent, maybe empty.
        fields: name and value as sent, in order; trailers are dropped.
        body: without its transfer coding.
    """

    __slots__ = (
        "_answer_bytes", "_budget", "_claim", "_fault", "_head_bytes", "_heads", "_in_body", "_left", "_length",
        "_method", "_names", "_parser", "_parts", "_phrase", "_received", "_until_close", "body", "done", "fields",
        "keep", "reason", "started", "status",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        head_bytes: int = MAX_HEAD_BYTES,
        answer_bytes: int = MAX_ANSWER_BYTES,
        heads: AnswerHeads | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.started = self.done = self.keep = False
        self.status = 0
        self.reason = b""
        self.fields: Fields = ()
        self.body = b""
        self._method = method
        self._heads = heads
        self._budget = budget
        self._head_bytes = head_bytes
        self._answer_bytes = answer_bytes

    def _begin(self) -> None:
        """This one has to be parsed."""
        self.started = True
        self._left = self._head_bytes
        self._fault = ""
        self._in_body = self._until_close = False
        self._length = -1
        self._phrase = b""
        self._names: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._received = 0  # bytes of these
        self._claim: Claim | None = None
        self._parser: HttpResponseParser | None = HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take in what was read. How it was cut makes no difference.

        Raises:
            BadAnswer: see there.
            NoRoom: likewise.
        """
        if not self.started and data:
            end = data.find(_END) + 4
            head = self._heads.known.get(data[:end]) if self._heads is not None and self._method != "HEAD" else None
            if head is not None and end + head.length == len(data):  # a short cut
                self.started = self.done = self.keep = True
                self.status, self.reason, self.fields, _ = head
                self.body = data[end:]
                return
            self._begin()
            self._parse_all(data)
            if self.keep and self._heads is not None and end + self._length == len(data) and self.body == data[end:]:
                self._heads.learn(data[:end], AnswerHead(self.status, self.reason, self.fields, self._length))
            return
        if data and self.done:
            self.keep = False
        self._parse_all(data)

    def _parse_all(self, data: bytes) -> None:
        while data and not self.done:
            piece = data if len(data) <= self._left else data[: self._left]
            was_in_body = self._in_body
            if self._parse(piece):
                self.keep = self.keep and len(piece) == len(data)
                return
            self._left -= len(piece)
            if self._in_body and not was_in_body:
                self._left += self._answer_bytes - self._head_bytes
            if self._left <= 0:
                kind = "answer" if self._in_body else "answer's head"
                self._fail(
                    f"the {kind} is longer than {self._answer_bytes if self._in_body else self._head_bytes} bytes"
                )
            data = data[len(piece) :]

    def eof(self) -> None:
        """The server sends nothing more: this may be the end of the body, or not (see ``done``)."""
        if self.started and not self.done and self._until_close:
            self._finish(keep=False)
            self._parser = None

    def _parse(self, piece: bytes) -> bool:
        """Whether that was the end."""
        parser = self._parser
        if parser is None:
            raise BadAnswer("an answer was read on after its fault. This is a bug.")
        error = ""
        try:
            parser.feed_data(piece)
        except HttpParserUpgrade:
            error = "another protocol than was asked for"
        except HttpParserError as fault:
            error = str(fault) or type(fault).__name__
        if self._fault:
            self._fail(self._fault)
        if self.done:
            self._parser = None  # it refers to us: so both go at once, and the collector has nothing to do
        elif error:
            self._fail(error)
        elif self._received > LARGE_BYTES and self._budget is not None:
            self._charge(self._budget)
        return self.done

    def _charge(self, budget: Budget) -> None:
        """Account for what came of a body that is not whole (R7)."""
        if self._claim is None:
            self._claim = Claim(budget)
        self._claim.resize(self._received)
        if budget.spent:
            self.drop()
            raise NoRoom(NO_ROOM)

    def _fail(self, why: str) -> None:
        self.done = False
        self.drop()
        raise BadAnswer(why)

    def drop(self) -> None:
        """Nothing will come of it, or nobody waits for it any longer: what it holds is free."""
        if self.started and not self.done:
            self._parser = None
            self._parts = []
            if self._claim is not None:
                self._claim.end()

    def _finish(self, *, keep: bool) -> None:
        self.done = True
        self.keep = keep
        parts = self._parts
        self.body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        if self._claim is not None:
            self._claim.end()  # it goes to whoever waits for it, in this turn

    # -- called by the parser ----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """After an interim answer, or after the end."""
        if self.done:
            self.keep = False
        self._phrase = b""
        self._names = []

    def on_status(self, text: bytes) -> None:
        """A piece of the reason phrase."""
        self._phrase += text

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole field, or a trailer."""
        self._names.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Decide whether and how a body follows."""
        parser = self._parser
        if self.done or parser is None:
            return
        status = parser.get_status_code()
        if status < 200:
            if status < 100 or status == 101:
                self._fault = self._fault or f"its status is {status}"
            return
        self.status, self.reason, self.fields = status, self._phrase, tuple(self._names)
        self._names = []  # trailers go here
        self._in_body = True
        self.keep = parser.should_keep_alive()
        if self._method == "HEAD" or status in _BODYLESS:
            self._finish(keep=False)
            return
        framed = False
        for name, value in self.fields:
            kind = name.lower()
            if kind == b"content-length":
                framed = True
                self._length = int(value)
                if self._length > self._answer_bytes:
                    self._fault = f"the answer is longer than {self._answer_bytes} bytes"
            elif kind == b"transfer-encoding":
                framed = True
                if value.lower() != b"chunked":
                    self._fault = f"its transfer coding is {value[:100]!r}, and none but chunked is known"
        self._until_close = not framed

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        self._parts.append(piece)
        self._received += len(piece)

    def on_message_complete(self) -> None:
        """The end, if it was not before."""
        if self._in_body and not self.done:
            self._finish(keep=self.keep)
