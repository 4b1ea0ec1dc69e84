"""The head of an HTTP/1.1 answer, and the page of a refusal, as libevent writes them. No requests here.

Recorded from TF Serving: an HTTP/1.0 caller without keep-alive gets no ``Content-Length`` (the end of the connection is
the end of the answer), nor does the answer to HEAD; ``Connection: keep-alive`` is said to HTTP/1.0 only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

REASONS: Mapping[int, str] = {
    **{status.value: status.phrase for status in HTTPStatus},
    408: "Request Time-out",
    413: "Request Entity Too Large",
    414: "Request-URI Too Large",
    416: "Requested range not satisfiable",
    417: "Expectation Failed",
    429: "Client Error",
    499: "Client Error",
    504: "Gateway Time-out",
    505: "HTTP Version not supported",
}
"""Today's usual phrases, and libevent's (``http.c``, ``response_classes``) where it has others."""

MAX_KNOWN = 1024
"""Answer heads that are remembered: they differ by length, and are forgotten when the date changes."""

MAX_KNOWN_BYTES = 1 << 10
"""A longer head is not worth remembering."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

PAGE: Mapping[str, str] = {"Content-Type": "text/html"}
"""What libevent's own pages are."""

CLOSE, OLD, NO_BODY = 1, 2, 4
"""What of a request matters for its answer's head, as bits: the connection ends, it was HTTP/1.0, it was a HEAD."""

_BODYLESS = frozenset({204, 304})
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class Answers:
    """Writes answer heads, and remembers them.

    Attributes:
        known: (identity of the fields, status, length of the body) to those fields, the reason and the head: of answers
            in mode 0. Fields are not changed once they were said, and as long as one is here no other has its identity.
    """

    def __init__(self) -> None:
        self.known: dict[tuple[int, int, int], tuple[Mapping[str, str], str | None, bytes]] = {}
        self._begun: dict[tuple[int, int, str, tuple[tuple[str, str], ...]], bytes] = {}  # heads but for their framing
        self._date = b""

    def set_date(self, date: str) -> None:
        """Say what time it is, in HTTP's form; empty: answers carry no date."""
        line = f"Date: {date}\r\n".encode("ascii") if date else b""
        if line != self._date:
            self._date = line
            self.known.clear()
            self._begun.clear()

    def plain(self, status: int, size: int, headers: Mapping[str, str], reason: str | None) -> bytes:
        """A head in mode 0 that is remembered; empty where none is: see ``head``."""
        known = self.known.get((id(headers), status, size))
        return known[2] if known is not None and known[0] is headers and known[1] == reason else b""

    def head(self, status: int, size: int, headers: Mapping[str, str], reason: str | None, mode: int) -> bytes:
        """The head of an answer.

        Args:
            status: 200 to 599.
            size: of the body, in bytes.
            headers: the answer's own, names may repeat; those of connection, length and transfer coding are left out.
            reason: None for the usual phrase.
            mode: ``CLOSE | OLD | NO_BODY``.

        Raises:
            ValueError: a field or reason that would end its line. This is a bug.
        """
        words = REASONS.get(status, "Unknown") if reason is None else reason
        key = (mode & OLD, status, words, tuple(headers.items()))
        begin = self._begun.get(key)
        if begin is None:
            begin = self._begin(*key)
            if len(begin) <= MAX_KNOWN_BYTES:
                if len(self._begun) >= MAX_KNOWN:
                    self._begun.clear()
                self._begun[key] = begin
        text = begin + _framing(status, size, mode) + b"\r\n"
        if mode == 0 and status not in _BODYLESS and len(text) <= MAX_KNOWN_BYTES:
            if len(self.known) >= MAX_KNOWN:
                self.known.clear()
            self.known[id(headers), status, size] = (headers, reason, text)
        return text

    def _begin(self, old: int, status: int, words: str, fields: tuple[tuple[str, str], ...]) -> bytes:
        """Status line and fields, with a date."""
        date = self._date
        lines = [f"HTTP/1.{0 if old else 1} {status} {words}"]
        for name, value in fields:
            if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
                raise ValueError(f"{name!r}: {value!r} is no header field. This is a bug.")
            kind = name.lower()
            if kind == "date":
                date = b""  # a server's own, passed on
            if kind not in {"connection", "content-length", "transfer-encoding"}:
                lines.append(f"{name}: {value}")
        if _VALUE.fullmatch(words) is None:
            raise ValueError(f"{words!r} is no reason phrase. This is a bug.")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n" + date


def _framing(status: int, size: int, mode: int) -> bytes:
    """How the peer knows where the answer ends, and the connection."""
    lines = b""
    persistent_old = mode & OLD and not mode & CLOSE
    if persistent_old:
        lines += b"Connection: keep-alive\r\n"
    if not mode & NO_BODY and status not in _BODYLESS and (persistent_old or not mode & OLD):
        lines += b"Content-Length: %d\r\n" % size
    if mode & CLOSE and not mode & OLD:
        lines += b"Connection: close\r\n"
    return lines


def has_body(status: int, mode: int) -> bool:
    """Whether the body is sent (RFC 9110, 6.4.1)."""
    return not mode & NO_BODY and status not in _BODYLESS


def page(status: int, why: str) -> bytes:
    """libevent's error page, and a line that says what was wrong; no line for the empty text."""
    reason = REASONS[status]
    text = why.replace("&", "&amp;").replace("<", "&lt;")
    line = f"<P>{text}</P>\n" if text else ""
    return (
        f"<HTML><HEAD>\n<TITLE>{status} {reason}</TITLE>\n</HEAD><BODY>\n<H1>{reason}</H1>\n{line}</BODY></HTML>\n"
    ).encode("latin-1", "replace")
