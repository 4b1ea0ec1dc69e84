"""Calls of a sequence, of which a server keeps state: all of them to the same endpoint, each by itself (R3)."""

from __future__ import annotations

import zlib
from typing import Any, Protocol, cast

from batchproxy.core.columns import Columns
from batchproxy.core.errors import BatchProxyError, NoEndpoint
from batchproxy.core.raw import RawCall, RawReply
from batchproxy.core.request import BatchKey, Reply, Request, Version
from batchproxy.engine import Engine
from batchproxy.frontends.call import Call


class Server(Protocol):
    """What is asked; see ``backends.base.Remote``."""

    async def infer(self, key: BatchKey, columns: Columns, timeout_s: float | None = None) -> Reply: ...
    async def relay(self, call: RawCall, timeout_s: float | None) -> RawReply: ...


def home_of(engine: Engine, sequence: str, model: str = "", version: Version = None) -> Server:
    """The server that has a sequence: while the same endpoints are up, the same one, wherever this is asked.

    Args:
        engine: of the pool.
        sequence: its id.
        model: that it is a sequence of, for a server that has it; "": any may be asked.
        version: as asked for.

    Raises:
        NoEndpoint: none is up.
    """
    balancer = engine.scheduler.balancer
    without = balancer.placement.without(model, version, balancer.endpoints)
    up = [endpoint for endpoint in balancer.endpoints if endpoint.up and endpoint not in without]
    if not up:
        raise NoEndpoint(balancer.why_none(model))
    home = max(up, key=lambda endpoint: zlib.crc32(f"{sequence} {endpoint.name}".encode()))
    return cast("Server", engine.backends[home.name])


async def ask_home(waiting: Call[Any], engine: Engine, request: Request, sequence: str) -> None:
    """Make a call of a sequence, and tell who waits for it; never twice, for its server counts."""

    def fail(error: BatchProxyError) -> None:
        if not waiting.done():
            waiting.set_exception(error)

    try:
        with engine.borrow(fail):  # so that a shutdown waits for it
            server = home_of(engine, sequence, request.key.model, request.key.version)
            left_s = None if request.deadline is None else max(0.0, request.deadline - engine.clock())
            if request.raw is not None:
                reply = Reply({}, 0, raw=await server.relay(request.raw, left_s))
            else:
                reply = await server.infer(request.key, request.columns, left_s)
    except BatchProxyError as error:
        fail(error)
    else:
        if not waiting.done():
            waiting.set_result(reply)
