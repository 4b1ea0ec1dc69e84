"""The calls of an HTTP/2 client: waiting, sent, answered, refused, given up. How frames spell that is not known here.

The counterpart of ``http2_requests.Requests``, for gRPC calls. While a part of its request is still to be sent, a call
is a stream of the ``Outlet``, too; a unary one mostly never gets there. Sections are those of RFC 9113.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Final

from batchproxy.wire import frames, grpc
from batchproxy.wire.budget import LARGE_BYTES, Budget, Claim
from batchproxy.wire.frames import DATA, END_HEADERS, END_STREAM, HEADER, HEADERS, ConnectionFault, ErrorCode
from batchproxy.wire.headers import HeaderError, HeadersTooLarge
from batchproxy.wire.http2_client_call import Call, Fate
from batchproxy.wire.http2_client_heads import UNKNOWN, AnswerHead, AnswerHeads
from batchproxy.wire.http2_client_stream import StreamCall
from batchproxy.wire.http2_head import Refusal
from batchproxy.wire.http2_intake import Intake
from batchproxy.wire.http2_limits import PER_REQUEST, Allowance, Http2Limits
from batchproxy.wire.http2_outlet import Outlet
from batchproxy.wire.http2_streams import Extra
from batchproxy.wire.unpack import Packed

MAX_ID: Final = 0x7FFFFFFF
"""Of a stream; a client's are odd (5.1.1). After it a connection takes no more calls."""

MAX_REFUSALS: Final = 8
"""So often a call is offered to a server that said how many it takes and refuses it all the same: grpcio's server
counts a call that it has just answered a moment longer than we do. Each time is a round trip later."""

_DEADLINE_EXCEEDED, _RESOURCE_EXHAUSTED, _INTERNAL = 4, 8, 13
_UNKNOWN = -1


class Calls:
    """The calls of one connection.

    Args:
        limits: what the peer may cost.
        now: monotonic seconds.
        budget: of the process: large answers are charged to it.
        streams: whether they wait where it has no room, as messages of streamed calls may.

    Attributes:
        now: when the bytes came that are being read.
        calls: those that were sent, by the id of their stream.
        waiting: those beyond what the peer takes at once, in order.
        ended: those whose fate is known; emptied by whoever hands them on.
        max_calls: how many the peer takes at once; it says so in its SETTINGS. 0 once it takes none for good.
        next: the id of the next stream.
        held: bytes of streamed calls that came and were not taken, but for what is charged already.
        outlet: the sending half.
        intake: the receiving windows.
    """

    __slots__ = ("_budget", "_heads", "allowance", "calls", "ended", "held", "intake", "limits", "max_calls", "next",
                 "now", "outlet", "waiting")  # fmt: skip

    def __init__(self, limits: Http2Limits, now: float, budget: Budget, *, streams: bool = False) -> None:
        self.limits = limits
        self.now = now
        self.calls: dict[int, Call] = {}
        self.waiting: deque[Call] = deque()
        self.ended: list[Call] = []
        self.held = 0
        self.max_calls = MAX_ID
        self.next = 1
        self.allowance = Allowance(limits.allowance, limits.allowance_rate, now)
        self.outlet = Outlet(limits.window_bytes, lambda _: None, self.allowance.earn)
        self.intake = Intake(limits, self.outlet.out, budget if streams else None)
        self._budget = budget
        self._heads = AnswerHeads(limits.fields, limits.list_bytes)

    def spend(self, cost: int, what: str) -> None:
        """A frame brought no work done; see ``Allowance.spend``."""
        self.allowance.spend(cost, self.now, what)

    # -- out ---------------------------------------------------------------------------------------

    def start(self, call: Call) -> None:
        """Send a call, now or when the peer takes another."""
        if self.waiting or len(self.calls) >= self.max_calls:
            self.waiting.append(call)
        else:
            self._open(call)

    def _open(self, call: Call) -> None:
        call.id = sid = self.next
        self.next += 2
        self.calls[sid] = call
        outlet, block, request = self.outlet, call.block, call.request
        if isinstance(call, StreamCall):
            outlet.streams[sid] = call
            outlet.inform(call, block)
            call.opened()
            return
        prefix = grpc.PREFIX.pack(0, len(request))
        size = len(prefix) + len(request)
        if size <= outlet.cap and size <= outlet.window and len(block) <= frames.FRAME_BYTES:
            head = HEADER.pack(len(block) << 8 | HEADERS, END_HEADERS, sid)
            outlet.out.append(b"".join((head, block, HEADER.pack(size << 8 | DATA, END_STREAM, sid), prefix, request)))
            outlet.window -= size
        else:
            outlet.streams[sid] = call
            outlet.respond(call, block, prefix + request, None)

    def open_waiting(self) -> None:
        """Send what waits, as far as the peer takes it."""
        while self.waiting and len(self.calls) < self.max_calls:
            if self.next > MAX_ID:
                self.drop_waiting("the connection has no stream left")
                return
            self._open(self.waiting.popleft())

    def give_up(self, call: Call) -> None:
        """Nobody waits for a call any longer: tell the peer, if it has begun."""
        if call.fate is None:
            self._abandon(call)
            self._forget(call)
            call.fate = Fate.LOST
            if isinstance(call, StreamCall):
                call.ended()
            self.open_waiting()

    def expire(self, now: float) -> None:
        """End the calls whose time is over."""
        for call in [call for call in (*self.calls.values(), *self.waiting) if call.deadline <= now]:
            self._refuse(call, _DEADLINE_EXCEEDED, "Deadline Exceeded")  # grpc's own words

    def first_deadline(self) -> float:
        """Of all calls under way; infinite where none has one."""
        return min((call.deadline for call in (*self.calls.values(), *self.waiting)), default=float("inf"))

    def hold(self, before: int, after: int) -> None:
        """A streamed call has so many bytes that were not taken; what is beyond its first window is charged apart."""
        window = self.limits.window_bytes
        self.held += min(after, window) - min(before, window)

    def _abandon(self, call: Call) -> None:
        if call.id in self.calls:
            self.outlet.out.append(frames.rst_stream(call.id, ErrorCode.CANCEL))

    # -- in ----------------------------------------------------------------------------------------

    def headers(self, sid: int, block: bytes, *, ends: bool) -> None:
        """A whole header block came; it is decoded whatever becomes of it, for the table's sake (4.3)."""
        call = self.calls.get(sid)
        try:
            head = self._heads.read(block)
        except HeaderError as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, str(error)) from None
        except HeadersTooLarge as error:
            if call is not None:
                self._refuse(call, _RESOURCE_EXHAUSTED, str(error))
            return
        if call is None:
            if self.is_idle(sid):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that was never opened")
            return  # it was on its way when the call ended
        if call.first is None:
            if 100 <= head.http < 200 and not ends:
                self.spend(1, "informational answers")
            elif not head.http:
                self._refuse(call, _INTERNAL, "the answer has no HTTP status")
            elif ends:
                self._answered(call, head)
            elif head.alien and head.http == 200:  # a gateway's page: what it begins with is no message's length
                kind = head.alien.decode("latin-1")
                self._refuse(call, UNKNOWN, f"the answer is no gRPC: its content-type is {kind}")
            else:
                call.first = head
                if isinstance(call, StreamCall):
                    call.accepted()
        elif head.http or not ends:
            self._refuse(call, _INTERNAL, "header fields within the answer")
        else:
            self._answered(call, head)

    def data(self, sid: int, data: bytes, length: int, *, ends: bool) -> None:
        """A piece of an answer came.

        Args:
            sid: the stream.
            data: without padding.
            length: with padding: what flow control counts.
            ends: whether it is the last.
        """
        self.intake.consume(length)
        if not data and not ends:
            self.spend(1, "DATA frames with nothing in them")
        call = self.calls.get(sid)
        if call is None:
            if self.is_idle(sid):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on a stream that was never opened")
            return  # it was on its way when the call ended
        first = call.first
        if first is None:
            self._refuse(call, _INTERNAL, "the answer begins without header fields")
            return
        extra = call.extended(self.limits.window_bytes)
        self.intake.consume_stream(extra, length)
        problem = None
        if first.http != 200:
            extra.received += len(data)
        elif isinstance(call, StreamCall):
            problem = self._pass(call, data)
        else:
            problem = self._take(extra, first, data)
        if problem is not None:
            self._refuse(call, *problem)
        elif ends:
            self._answered(call, first)
        else:
            self.intake.continue_stream(call, extra)

    def _pass(self, call: StreamCall, data: bytes) -> tuple[int, str] | None:
        """As ``_take``, of a streamed call."""
        try:
            call.take(data, self.limits)
        except Refusal as refusal:
            return refusal.code, refusal.text
        return None

    def _take(self, extra: Extra, first: AnswerHead, data: bytes) -> tuple[int, str] | None:
        """Keep a piece of the message; returns the status that ends the call where it is wrong."""
        extra.received += len(data)
        extra.parts.append(data)
        if extra.wanted == _UNKNOWN:
            if extra.received < grpc.PREFIX.size:
                return None
            begin = b"".join(extra.parts)
            extra.compressed, length = grpc.PREFIX.unpack_from(begin)
            extra.wanted = grpc.PREFIX.size + length
            extra.parts = [begin[grpc.PREFIX.size :]]
            if length > LARGE_BYTES:
                extra.claim = Claim(self._budget)
                extra.claim.resize(length)
            most = self.limits.message_bytes
            if length > most:
                # grpc's own words
                return _RESOURCE_EXHAUSTED, f"Received message larger than max ({length} vs. {most})"
            if extra.compressed and first.encoding not in {b"gzip", b"deflate"}:
                name = first.encoding.decode("latin-1") or "no encoding"
                return _INTERNAL, f"the answer is compressed in what is not known here: {name}"
        if extra.received > extra.wanted:
            return _INTERNAL, "a unary answer has one message; more came"
        return None

    def _answered(self, call: Call, last: AnswerHead) -> None:
        """The answer is complete."""
        first = call.first
        status, text = last.verdict()
        if last.status is None and first is not None:
            status, text = first.verdict()
        http = (last if first is None else first).http
        if last.status is None and http in {502, 504}:
            self._end(call, Fate.LOST, 0, f"HTTP status {http}")  # a gateway does not know, either
            return
        if last is not first:
            call.trailers = last.pairs
        if not status:
            try:
                if isinstance(call, StreamCall):
                    call.complete(self.limits)
                else:
                    self._take_message(call)
            except Refusal as refusal:
                status, text = refusal.code, refusal.text
        if call.id in self.outlet.streams:  # it did not wait for all of the request
            self._abandon(call)
        self.allowance.earn(PER_REQUEST)
        self._end(call, Fate.STATUS, status, text)

    def _take_message(self, call: Call) -> None:
        extra, first = call.extra, call.first
        if extra is None or first is None or not extra.received:
            raise Refusal(_INTERNAL, "the answer has no message")
        if extra.received != extra.wanted:
            raise Refusal(_INTERNAL, "the answer ends before the announced length of its message")
        message = extra.parts[0] if len(extra.parts) == 1 else b"".join(extra.parts)
        extra.parts = []
        call.compressed = bool(extra.compressed)
        if call.compressed:
            packed = Packed(first.encoding, message, self.limits.message_bytes)
            call.message = packed.quick()
            call.packed = packed if call.message is None else None
        else:
            call.message = message

    def _refuse(self, call: Call, code: int, text: str) -> None:
        self._abandon(call)
        self._end(call, Fate.STATUS, code, text)

    def is_idle(self, sid: int) -> bool:
        """Whether no stream with this id has been opened yet."""
        return sid >= self.next or not sid & 1

    def reset(self, sid: int, code: ErrorCode) -> None:
        """End a stream on which the peer broke the rules (5.4.2)."""
        self.outlet.out.append(frames.rst_stream(sid, code))
        self.spend(2, "streams with faults")
        call = self.calls.get(sid)
        if call is not None:
            self._end(call, Fate.LOST, code, f"the answer breaks the rules of HTTP/2: {code.name}")

    def was_reset(self, sid: int, code: int = 0) -> None:
        """The peer ended a stream; nothing is owed for one that has ended here."""
        call = self.calls.get(sid)
        if call is None:
            self.spend(1, "resets of closed streams")
        elif code == ErrorCode.REFUSED_STREAM and self._may_offer_again(call):
            self._forget(call)
            if isinstance(call, StreamCall):
                call.rewind()
            else:
                call.extra = None
            self.waiting.appendleft(call)
            if not self.calls:  # else when one of these has ended
                self.open_waiting()
        elif code == ErrorCode.REFUSED_STREAM:
            self._end(call, Fate.NOT_RUN, code, "the server refused the stream (RST_STREAM with REFUSED_STREAM)")
        elif code == ErrorCode.CANCEL and call.deadline <= self.now:
            self._end(call, Fate.STATUS, _DEADLINE_EXCEEDED, "Deadline Exceeded")  # its clock was faster than ours
        else:
            self._end(call, Fate.LOST, code, f"the server broke the call off (RST_STREAM with {_named(code)})")

    def _may_offer_again(self, call: Call) -> bool:
        call.refusals += 1
        if not (0 < self.max_calls < MAX_ID and call.refusals < MAX_REFUSALS and call.first is None):
            return False
        return not isinstance(call, StreamCall) or call.sent() is not None

    def drop_above(self, last: int, reason: str) -> None:
        """The peer does not look at streams above ``last``, and takes no more."""
        self.max_calls = 0
        self.drop_waiting(reason)
        for call in [call for sid, call in self.calls.items() if sid > last]:
            self._end(call, Fate.NOT_RUN, 0, reason)

    def drop_waiting(self, reason: str) -> None:
        """No more calls will be sent."""
        waiting, self.waiting = self.waiting, deque()
        for call in waiting:
            call.fate, call.text = Fate.NOT_RUN, reason
            if isinstance(call, StreamCall):
                call.ended()
        self.ended += waiting

    def drop_all(self, reason: str) -> None:
        """The connection is gone."""
        self.drop_waiting(reason)
        for call in list(self.calls.values()):
            self._end(call, Fate.LOST, 0, reason)

    def _end(self, call: Call, fate: Fate, code: int, text: str) -> None:
        call.fate, call.code, call.text = fate, code, text
        self._forget(call)
        if isinstance(call, StreamCall):
            call.ended()
        self.ended.append(call)
        self.open_waiting()

    def _forget(self, call: Call) -> None:
        if self.calls.pop(call.id, None) is None:
            with suppress(ValueError):
                self.waiting.remove(call)
            return
        if call.id in self.outlet.streams:
            self.outlet.forget(call)
        if call.extra is not None and not call.streamed:  # what that holds counts until it is taken
            self.intake.release(call, call.extra)
            if call.extra.claim is not None:
                call.extra.claim.end()

    def __repr__(self) -> str:
        return f"<Calls {len(self.calls)} sent, {len(self.waiting)} waiting, the next is {self.next}>"


def _named(code: int) -> str:
    return ErrorCode(code).name if code in ErrorCode.__members__.values() else str(code)
