"""A streamed call of an HTTP/2 client: any number of messages either way, with back-pressure. No frames are read here.

The counterpart of ``http2_calls.GrpcStreamCall``. The server may send more only as its messages are taken; what is to
be sent is kept until the server's windows take it, and who sends is told when it is too much.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from batchproxy.wire.budget import LARGE_BYTES, Budget, Claim
from batchproxy.wire.http2_client_call import Call, Fate
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.http2_messages import HIGH_BYTES, Inbox, Outbox
from batchproxy.wire.http2_streams import Extra
from batchproxy.wire.unpack import Message, Packed

if TYPE_CHECKING:
    from batchproxy.wire.http2_client_calls import Calls

AGAIN_BYTES = 256 << 10
"""So much of what was sent is kept until the server says something, to be sent again where it did not look at the call;
gRPC's libraries do the same (``grpc.per_rpc_retry_buffer_size``, 256 KiB)."""

_UNKNOWN = -1


class StreamCall(Call):
    """A gRPC call with any number of messages either way, and its end once ``fate`` is set.

    Its owner sends by ``send`` and, at most once, ``finish``; takes messages by ``receive`` until it is ``over``, and
    says ``drop`` where it does not want the rest. What is sent after the end goes nowhere, but into the memory of a
    call that did not run.

    Args:
        calls: of the connection.
        path: of the method.
        block: its header block.
        deadline: monotonic seconds; infinite for none.
        budget: of the process.

    Attributes:
        on_input: called when there is something to take: the first head, a message, the end.
        on_writable: called when ``send`` has said False, and may go on now; and at the end.
    """

    __slots__ = ("_calls", "_claim", "_finished", "_in", "_out", "_sent", "_sent_bytes", "on_input", "on_writable")

    streamed: ClassVar[bool] = True

    extra: Extra

    def __init__(self, calls: Calls, path: str, block: bytes, deadline: float, budget: Budget) -> None:
        super().__init__(calls.outlet, path, block, b"", deadline)
        self._calls = calls
        self._in = Inbox(calls.limits.message_bytes)
        self._out = Outbox()
        self._claim = Claim(budget)  # of what is to be sent, where that is much
        self._finished = False
        self._sent: list[bytes] | None = []
        self._sent_bytes = 0
        self.on_input: Callable[[], object] | None = None
        self.on_writable: Callable[[], object] | None = None
        self._begin()

    def _begin(self) -> None:
        self.extra = Extra(self._calls.limits.window_bytes, _UNKNOWN)
        self.extra.trailers = b""  # more may follow

    @property
    def over(self) -> bool:
        """Whether every message was taken and no more will come."""
        return self.fate is not None and not self._in.whole

    @property
    def deaf(self) -> bool:
        """Whether what is sent goes nowhere: the call has ended, and cannot be repeated."""
        return self.fate is not None and self._sent is None

    # -- the owner's side --------------------------------------------------------------------------

    def receive(self) -> Message | None:
        """The next message, compressed if it came so; None: there is none now."""
        extra, calls = self.extra, self._calls
        before = extra.held
        found = self._in.receive(extra)
        if found is None:
            return None
        calls.hold(before, extra.held)
        calls.intake.taken(self, extra)
        if self.over:
            self._release()
        compressed, message = found
        if not compressed:
            return message
        return Packed(self.first.encoding if self.first else b"", message, calls.limits.message_bytes)

    def send(self, message: bytes, *, compressed: bool = False) -> bool:
        """Send a message, now or as the server takes it.

        Returns:
            Whether another may follow at once; else ``on_writable`` will tell.
        """
        if self.deaf:
            return True
        extra = self.extra
        piece = self._out.add(message, compressed)
        if self._sent is not None:
            self._sent_bytes += len(piece)
            self._sent.append(piece)
            if self._sent_bytes > AGAIN_BYTES and self.fate is None:
                self._sent = None
        if self.id and self.fate is None:
            self._calls.outlet.go_on(self, extra)
        backlog = self._out.backlog(extra)
        self._charge(backlog)
        if backlog < HIGH_BYTES and not self._calls.outlet.slow:
            return True
        self._out.waiting = True
        return False

    def finish(self) -> None:
        """Nothing more will be sent."""
        self._finished = True
        if self.id and self.fate is None and not self._out:  # else with the last of that
            self._calls.outlet.half_close(self, self.extra)

    def drop(self) -> None:
        """Nobody takes what came, or will come."""
        if self.fate is None:
            self._calls.give_up(self)
        self._calls.hold(self.extra.held, 0)
        self.extra.held = 0
        self._in.clear()
        self._release()
        self.on_input = self.on_writable = None  # no circle of references stays behind

    def sent(self) -> tuple[list[bytes], bool] | None:
        """All that was sent, with prefixes, and whether that is all there will be; None where nobody remembers."""
        return None if self._sent is None else (self._sent, self._finished)

    def repeat(self, pieces: list[bytes], *, finished: bool) -> None:
        """Send what another call has ``sent``."""
        for piece in pieces:
            self.send(piece[5:], compressed=bool(piece[0]))
        if finished:
            self.finish()

    # -- the connection's side ---------------------------------------------------------------------

    def opened(self) -> None:
        """The head is sent: all else may follow."""
        outlet = self._calls.outlet
        if self._out:
            outlet.go_on(self, self.extra)
        elif self._finished:
            outlet.half_close(self, self.extra)

    def accepted(self) -> None:
        """The server has said something: it looks at the call."""
        self._sent = None
        self._tell()

    def take(self, data: bytes, limits: Http2Limits) -> None:
        extra = self.extra
        before = extra.held
        encoding = b"" if self.first is None else self.first.encoding
        try:
            became_whole = self._in.take(extra, data, encoding)
        finally:
            self._calls.hold(before, extra.held)
        if became_whole:
            self._calls.outlet.worked()
            self._tell()

    def complete(self, limits: Http2Limits) -> None:
        self._in.complete(self.extra)

    def rewind(self) -> bool:
        """Begin again, with a new stream; False: nobody remembers what was sent."""
        if self._sent is None:
            return False
        self._out.clear()
        self._begin()
        sent, self._sent, self._sent_bytes = self._sent, [], 0
        self.id = 0
        self.repeat(sent, finished=False)
        return True

    def ended(self) -> None:
        """The fate is sealed: nothing more is sent or comes. Messages that came may still be taken."""
        self.message = b""  # the other side needs no window any more
        self._out.clear()
        self._claim.end()
        if self.fate is not Fate.NOT_RUN:
            self._sent = None
        if not self._in.whole:
            self._release()
        self._tell()
        self._relieve(0)

    def _release(self) -> None:
        self._calls.intake.release(self, self.extra)
        if self.extra.claim is not None:
            self.extra.claim.end()

    def next_piece(self) -> bytes:
        piece = self._out.take()
        if self._finished and piece:
            self.extra.trailers = None  # that is the end
        self._charge(len(piece))
        if not self._calls.outlet.slow:
            self._relieve(len(piece))
        return piece

    def wake(self) -> None:
        self._relieve(self._out.backlog(self.extra))

    def _charge(self, backlog: int) -> None:
        if backlog > LARGE_BYTES or self._claim.size:
            self._claim.resize(backlog if backlog > LARGE_BYTES else 0)

    def _relieve(self, backlog: int) -> None:
        if self._out.relieved(backlog) and self.on_writable is not None:
            self.on_writable()

    def _tell(self) -> None:
        if self.on_input is not None:
            self.on_input()
