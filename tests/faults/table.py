"""Every fault by every protocol: what a caller sees, and what the proxy does. docs/reliability.md is made from this.

Nothing here runs anything: ``test_faults.py`` does, and holds each line against a proxy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults.script import HTTP1_ONLY, HTTP2_ONLY, Fault

REST, GRPC, BRIDGED, V2_REST, V2_GRPC = "REST", "gRPC", "bridged", "v2 REST", "v2 gRPC"
PROTOCOLS = (REST, GRPC, BRIDGED, V2_REST, V2_GRPC)
"""Callers by REST of servers with a REST door, by gRPC, and by REST of servers that only have a gRPC door; and callers
of the Open Inference Protocol, by either door of servers of it."""

OVER_HTTP1, BY_GRPC = (REST, V2_REST), (GRPC, V2_GRPC)
"""Whose servers speak HTTP/1.1, and whose callers are told gRPC's codes."""


@dataclass(frozen=True)
class Sees:
    """What a caller sees.

    Attributes:
        code: HTTP's status, or gRPC's number.
        text: is in the error's text; of an answer, words for it.
        right: whether it is the right answer.
    """

    code: int
    text: str = ""
    right: bool = False

    def __str__(self) -> str:
        if self.right:
            return "the right answer"
        return f"{self.code} {NAMES.get(self.code, '')}".rstrip() + (f": {self.text}" if self.text else "")


NAMES = {0: "OK", 2: "UNKNOWN", 3: "INVALID_ARGUMENT", 4: "DEADLINE_EXCEEDED", 8: "RESOURCE_EXHAUSTED",
         13: "INTERNAL", 14: "UNAVAILABLE"}  # fmt: skip

_LOST = "the connection was lost after the call was sent"
_SHORT = "ends before the announced length"
_ONE = "a unary answer has one message"


def _same(code: int, status: int, text: str) -> dict[str, tuple[int, str]]:
    return {name: (code if name in BY_GRPC else status, text) for name in PROTOCOLS}


def _each(rest: tuple[int, str], by_grpc: tuple[int, str], bridged: tuple[int, str]) -> dict[str, tuple[int, str]]:
    """By what the server speaks: REST, gRPC, and gRPC to callers of REST."""
    return {REST: rest, GRPC: by_grpc, BRIDGED: bridged, V2_REST: rest, V2_GRPC: by_grpc}


def _http2(code: int, status: int, text: str) -> dict[str, tuple[int, str]]:
    return {name: told for name, told in _same(code, status, text).items() if name not in OVER_HTTP1}


_LATE = _same(4, 504, "Deadline Exceeded") | dict.fromkeys((REST, BRIDGED), (504, "Timed out waiting"))


ALWAYS: dict[Fault, dict[str, tuple[int, str]]] = {
    Fault.HANG: _LATE,
    Fault.RESET_BEFORE: _same(14, 503, _LOST),
    Fault.HANG_UP: _same(14, 503, _LOST),
    Fault.RESET_WITHIN: _same(14, 503, _LOST),
    Fault.HALF_CLOSE: _same(14, 503, _LOST),
    Fault.FEWER_ROWS: _same(0, 200, "no row"),
    Fault.MORE_ROWS: _same(0, 200, "its row twice"),
    Fault.MISSING_OUTPUT: _same(0, 200, "the output that there is"),
    Fault.NAN: _same(0, 200, "NaN where the server said so"),
    Fault.GARBAGE: _each((200, "the noise"), (0, "the noise"), (502, "no PredictResponse")),
    Fault.NO_PROTOCOL: _each((502, "the answer is no HTTP"), (14, _LOST), (503, _LOST)),
    Fault.SHORTER: _each((503, _LOST), (13, _SHORT), (500, _SHORT)),
    Fault.LONGER: _each((200, "as much of it as was announced"), (13, _ONE), (500, _ONE)),
    Fault.TWICE: _http2(13, 500, _ONE),
    Fault.WRONG_TYPE: _each((200, "the page"), (2, "content-type is text/html"), (500, "content-type is text/html")),
    Fault.POISON_ROW: _same(3, 400, "who sent the row: the server's text"),
    Fault.INTERNAL: _same(13, 500, "cannot run"),
    Fault.UNAVAILABLE: _same(14, 503, "not now"),
    Fault.EXHAUSTED: _same(8, 429, "not now"),
    Fault.GATEWAY: dict.fromkeys(OVER_HTTP1, (503, _LOST)),
    Fault.GOAWAY: _http2(14, 503, "GOAWAY"),
    Fault.REFUSED_STREAM: _http2(14, 503, "REFUSED_STREAM"),
    Fault.RST_STREAM: _http2(14, 503, _LOST),
    Fault.NO_STATUS: _http2(2, 500, "no grpc-status"),
}
"""What callers see if the fault strikes every call; where nothing is said, the right answer."""

NOT_MENDED = {Fault.HANG, Fault.MISSING_OUTPUT, Fault.NAN, Fault.POISON_ROW}
"""Faults that callers notice even if they strike one call only."""

_BISECTED = "halves the batch, down to single requests, which get what the server says to them"
_ELSEWHERE = "tries it on another server, three times in all; `idempotent: false`: 503 at once"

DOES: dict[Fault, str] = {
    Fault.SLOW: "waits",
    Fault.DRIBBLE: "waits",
    Fault.HANG: "tells callers when their time is over, and hangs up",
    Fault.RESET_BEFORE: _ELSEWHERE,
    Fault.HANG_UP: _ELSEWHERE,
    Fault.RESET_WITHIN: _ELSEWHERE,
    Fault.HALF_CLOSE: _ELSEWHERE,
    Fault.DIES: "tries it on another server; leaves this one out until a probe is answered",
    Fault.FEWER_ROWS: "sends them one by one, and stops batching this signature",
    Fault.MORE_ROWS: "sends them one by one, and stops batching this signature",
    Fault.MISSING_OUTPUT: "passes on what there is, as a direct call would get it",
    Fault.EXTRA_OUTPUT: "passes it on, as a direct call would get it",
    Fault.NAN: "passes it on to whose row it is",
    Fault.GARBAGE: _BISECTED,
    Fault.NO_PROTOCOL: "gives the connection up; REST: " + _BISECTED + "; gRPC: tries it on another connection",
    Fault.SHORTER: "REST: tries it elsewhere; gRPC: " + _BISECTED,
    Fault.LONGER: "never reads on in what follows; " + _BISECTED,
    Fault.TWICE: "REST: hangs up, so that nobody gets what follows; gRPC: " + _BISECTED,
    Fault.WRONG_TYPE: _BISECTED,
    Fault.POISON_ROW: "halves the batch until the row is found: neighbours get right answers",
    Fault.INTERNAL: _BISECTED,
    Fault.UNAVAILABLE: "tries it on another server, three times in all: nothing ran",
    Fault.EXHAUSTED: "halves the batch; if the halves pass, this model's batches stay as small",
    Fault.GATEWAY: _ELSEWHERE,
    Fault.GOAWAY: "tries it on a new connection, then on another server: nothing ran",
    Fault.GOAWAY_AFTER: "takes the answer; the next call goes over a new connection",
    Fault.REFUSED_STREAM: "tries it on another server, three times in all: nothing ran",
    Fault.RST_STREAM: _ELSEWHERE,
    Fault.NO_STATUS: _BISECTED,
}

ELSEWHERE = (
    Fault.RESET_BEFORE, Fault.HANG_UP, Fault.RESET_WITHIN, Fault.HALF_CLOSE, Fault.UNAVAILABLE, Fault.GATEWAY,
    Fault.GOAWAY, Fault.REFUSED_STREAM, Fault.RST_STREAM,
)  # fmt: skip
"""Faults that nobody notices where another server is well."""

APART = (Fault.DIES,)
"""Faults that are no matter of one call; ``test_servers.py`` has them."""


def protocols_of(fault: Fault) -> tuple[str, ...]:
    """By which protocols a server can have it."""
    if fault in HTTP1_ONLY:
        return OVER_HTTP1
    return tuple(name for name in PROTOCOLS if name not in OVER_HTTP1) if fault in HTTP2_ONLY else PROTOCOLS


def cases() -> Iterator[tuple[str, Fault]]:
    """Each protocol with each fault that strikes calls."""
    for protocol in PROTOCOLS:
        for fault in Fault:
            if protocol in protocols_of(fault) and fault not in APART:
                yield protocol, fault


def sees(fault: Fault, protocol: str, *, always: bool) -> Sees:
    """What a caller sees of a fault that strikes one call, or every one."""
    found = ALWAYS.get(fault, {}).get(protocol)
    if found is None or not (always or fault in NOT_MENDED):
        return Sees(0 if protocol in BY_GRPC else 200, right=True)
    return Sees(*found)


OTHERS: tuple[tuple[str, str, str, str], ...] = (
    (
        "dies with a batch in flight, and is back",
        "503, UNAVAILABLE where it is the only server; else the right answer; the right answer once it is back",
        "tries the batch on another server; leaves this one out until a probe is answered",
        "test_servers.py::test_dies",
    ),
    (
        "refuses connections",
        "503, UNAVAILABLE at once",
        "asks nobody in vain: the text says which server is out and why",
        "test_servers.py::test_refuses",
    ),
    (
        "comes and goes",
        "the right answer, or 503, UNAVAILABLE",
        "uses it while it answers",
        "test_servers.py::test_flaps",
    ),
    (
        "its name has no address, cannot be asked for, has other addresses, and is back",
        "the right answer",
        "uses the addresses that were found last; new ones are probed before former ones are left",
        "test_flapping.py::test_a_name_flaps",
    ),
    (
        "one of two servers of v2 is killed and started again, then the other one",
        "the right answer",
        "tries what was in flight on the other one; leaves this one out until a probe is answered",
        "test_flapping.py::test_servers_of_v2_are_killed",
    ),
    (
        "tells nothing of its models",
        "the right answer",
        "sends each request alone until it does",
        "test_servers.py::test_no_metadata",
    ),
    (
        "one of two servers fails each call",
        "the right answer",
        "tries it on the other one",
        "test_elsewhere.py::test_the_other_server",
    ),
    (
        "a caller gives up while its batch is in flight",
        "the others: their right answers",
        "drops its rows when the answer is there; nobody's rows shift",
        "test_servers.py::test_callers_go",
    ),
    (
        "three times as many callers as there is room for",
        "who is over: 503 with `Retry-After`, UNAVAILABLE with `grpc-retry-pushback-ms`, at once; others: all is right",
        "bounds the queue; everything works at once afterwards",
        "test_overload.py::test_three_times_too_many",
    ),
)
"""Faults of a server as a whole, and of callers: fault, what callers see, what the proxy does, test."""
