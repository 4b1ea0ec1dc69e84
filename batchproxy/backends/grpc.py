"""The gRPC door of a remote server, on ``grpc.aio``: messages in and out as bytes. What they mean is not known here.

Imported by whoever opens one, since grpcio takes memory and time to load that a proxy without it saves.

grpcio says only in words whether a status came from the server or was made up on this side, so the one table from its
errors to ours goes by the words, seen with grpcio 1.85 (``_NOT_SENT``, ``_BROKEN``). A proxy in between that passes on
such words means the same by them. Where trailing metadata came along, it was the server.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import grpc.aio
from grpc._cython import cygrpc

from batchproxy.backends.grpc_terms import EXHAUSTED, metadata_of
from batchproxy.backends.tls import ClientTls
from batchproxy.core.errors import BackendError, BackendLost, BackendRejected, BackendUnavailable, Code
from batchproxy.core.raw import GRPC, Header, RawReply
from batchproxy.tasks import Tasks
from batchproxy.wire.unpack import Message

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", -1),  # the limits are the server's and the listener's, not the middle's
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 1 << 20),  # of an answer; gRPC's 8 KiB would refuse what a direct caller may accept
    ("grpc.initial_reconnect_backoff_ms", 100),  # a server that was restarted is met again within a second
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.min_reconnect_backoff_ms", 2000),  # in spite of its name: how long one attempt to connect may take
    ("grpc.keepalive_time_ms", 330_000),  # servers take pings within 5 minutes for abuse (gRPC proposal A8)
    ("grpc.keepalive_timeout_ms", 20_000),  # with the above also TCP_USER_TIMEOUT: how long TCP waits for an ack
    ("grpc.use_local_subchannel_pool", 1),  # two backends at one address share neither connection nor backoff
    ("grpc.service_config_disable_resolution", 1),  # no DNS TXT look-ups for settings of others
    ("grpc.enable_http_proxy", 0),  # as the REST door: environment variables do not redirect traffic
)

_NOT_SENT = re.compile(
    r"failed to connect to all addresses|connections to all backends failing|empty address list"
    r"|errors resolving |DNS resolution failed"
    r"|(Stream removed \()?GOAWAY received"  # the stream is above the last one that the server will answer
    r"|(Stream removed \()?(RST_STREAM \()?Received RST_STREAM with error code 7\b"  # REFUSED_STREAM
)
"""The request did not reach the server, or the server said that it did not look at it."""

_BROKEN = re.compile(
    r"Stream removed|Received RST_STREAM|Socket closed|Connection reset|recvmsg:|sendmsg:|Broken pipe"
    r"|Endpoint closing|Transport closed|keepalive|ping timeout"
    r"|Received http2 header with status: 50[24]"  # R3: 502; a gateway's 504 has no gRPC status of its own
)
"""The stream ended without a status."""


class GrpcDoor:
    """One connection to ``target``, opened at the first call and opened again whenever it is lost.

    Args:
        target: ``HOST:PORT`` or ``unix:/PATH``.
        tls: None for plain text.
    """

    def __init__(self, target: str, tls: ClientTls | None = None) -> None:
        self.name = f"{GRPC}{'' if tls is None else 's'}://{target}"
        self._target = target
        self._tls = tls
        self._channel: grpc.aio.Channel | None = None  # made on the loop that uses it
        self._closed = False
        self._tasks = Tasks()

    def _open(self) -> grpc.aio.Channel:
        if self._closed:
            raise BackendUnavailable(f"{self.name}: the connection was closed on our side")
        if self._channel is None:
            if self._tls is None:
                self._channel = grpc.aio.insecure_channel(self._target, options=OPTIONS)
            else:
                name = self._tls.server_name
                options = OPTIONS if name is None else (*OPTIONS, ("grpc.ssl_target_name_override", name))
                trust = grpc.ssl_channel_credentials(*self._tls.pem())
                self._channel = grpc.aio.secure_channel(self._target, trust, options=options)
        return self._channel

    async def call(self, method: str, headers: Sequence[Header], body: bytes, timeout_s: float | None) -> RawReply:
        """Make one unary call; cancelling it cancels the call at the server.

        Raises:
            BackendUnavailable: it did not run.
            BackendLost: it may have run.
            BackendRejected: any other status, DEADLINE_EXCEEDED after ``timeout_s`` included.
        """
        channel = self._open()
        call = channel.unary_unary(method)(body, timeout=timeout_s, metadata=metadata_of(headers))
        try:
            message: bytes = await call
        except grpc.aio.AioRpcError as error:
            raise _translated(self.name, error) from None
        except asyncio.CancelledError:
            if _cancelled_from_outside():
                raise
            raise BackendLost(f"{self.name}: the connection was closed on our side during the call") from None
        initial, trailing = await call.initial_metadata(), await call.trailing_metadata()
        return RawReply(0, "", tuple(initial), message, tuple(trailing))

    @asynccontextmanager
    async def stream(
        self, method: str, headers: Sequence[Header], messages: AsyncIterable[Message], timeout_s: float | None = None
    ) -> AsyncIterator[GrpcStream]:
        """Open a call of any kind; leaving the context cancels what is left of it.

        Args:
            method: full path.
            headers: of the caller.
            messages: what the caller sends; where it raises, the call is cancelled.
            timeout_s: for the call as a whole.

        Raises:
            BackendError: it cannot be opened; later failures are the stream's status.
        """
        channel = self._open()
        call = channel.stream_stream(method)(timeout=timeout_s, metadata=metadata_of(headers))
        sending = self._tasks.spawn(f"stream-{method}", _send(call, messages))
        try:
            yield GrpcStream(call)
        finally:
            sending.cancel()
            call.cancel()

    async def aclose(self) -> None:
        """Close the connection; calls under way are lost."""
        self._closed = True
        await self._tasks.aclose()
        if self._channel is not None:
            await self._channel.close()


async def _send(call: grpc.aio.StreamStreamCall[bytes, bytes], messages: AsyncIterable[Message]) -> None:
    """Write what the caller sends, until either side has ended.

    Not by ``call.write``: when that comes too late, because the server has answered already, it sets a status of
    grpcio's own (INTERNAL, "Internal error from Core") in place of the server's, which is then lost.
    """
    try:
        await call.wait_for_connection()
        async for message in messages:
            if not isinstance(message, bytes):  # grpcio takes texts only
                message = await asyncio.get_running_loop().run_in_executor(None, message.whole)  # noqa: PLW2901
            await call._cython_call.send_serialized_message(message)  # noqa: SLF001
        await call.done_writing()
    except (grpc.aio.AioRpcError, cygrpc.InternalError):
        return  # it has ended, and its status says how
    except Exception:  # noqa: BLE001 - whatever the caller's side raises: nothing more will come from there
        call.cancel()


class GrpcStream:
    """The server's side of a relayed call: metadata, then messages, then the status. It always has a status."""

    encoding = b""  # what comes compressed is inflated by grpcio

    def __init__(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        self._call = call

    async def headers(self) -> tuple[Header, ...]:
        """Initial metadata; empty where the call failed before any."""
        return tuple(await self._call.initial_metadata())

    async def messages(self) -> AsyncIterator[bytes]:
        """What the server sends, to the end, whether good or bad."""
        try:
            async for message in self._call:
                yield message
        except grpc.aio.AioRpcError:
            return
        except asyncio.CancelledError:
            if _cancelled_from_outside():
                raise

    async def status(self) -> tuple[int, str, tuple[Header, ...]]:
        """Status code, text and trailing metadata; waits for the end."""
        code, text = await self._call.code(), await self._call.details()
        return code.value[0], text or "", tuple(await self._call.trailing_metadata())


def _translated(name: str, error: grpc.aio.AioRpcError) -> BackendError:
    """The one table from grpcio's errors to ours."""
    number, text = error.code().value[0], error.details() or ""
    trailers = tuple(error.trailing_metadata())
    if not trailers:
        if number == Code.UNAVAILABLE and _NOT_SENT.match(text):
            return BackendUnavailable(f"{name}: {text}")
        if _BROKEN.match(text) and (number == Code.UNAVAILABLE or "RST_STREAM" in text):
            return BackendLost(f"{name}: {text}")
    raw = RawReply(number, text, tuple(error.initial_metadata()), b"", trailers)
    if number == Code.UNAVAILABLE or (number == Code.RESOURCE_EXHAUSTED and EXHAUSTED in text):
        return BackendUnavailable(text, raw=raw)
    return BackendRejected(text, code=Code(number), raw=raw)


def _cancelled_from_outside() -> bool:
    """Whether this task was cancelled, and not just a call under it, as closing the channel does."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
