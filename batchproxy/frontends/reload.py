"""HandleReloadConfigRequest: one call to every server of a pool, and one answer made of theirs. No wire format here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol, cast

from batchproxy.core.errors import BackendError, BatchProxyError
from batchproxy.core.raw import RawCall, RawReply
from batchproxy.engine import Engine

RELOAD_S = 300.0
"""How long a server may take where the caller set no limit: it loads models meanwhile. TF Serving waits for ever for a
base path that does not exist, and later reloads wait behind that one until it has no threads left."""


class Server(Protocol):
    """What passes a call on; see ``backends.base.Remote``."""

    async def relay(self, call: RawCall, timeout_s: float | None) -> RawReply: ...


async def reload_everywhere(engine: Engine, call: RawCall, timeout_s: float | None) -> RawReply:
    """Pass a call on to all servers at once, those that seem to be down included.

    Args:
        engine: of the pool.
        call: as it came.
        timeout_s: what is left of the caller's own limit; None for ``RELOAD_S``.

    Returns:
        The first server's answer, where all of them called it a success.

    Raises:
        BatchProxyError: the only server's own error; of several the first one's code, and a text that says what each of
            them answered.
    """
    limit_s = RELOAD_S if timeout_s is None else timeout_s
    servers = cast("Mapping[str, Server]", dict(engine.backends))  # they may come and go meanwhile
    answers = await asyncio.gather(*(_ask(server, call, limit_s) for server in servers.values()))
    failures = [answer for answer in answers if isinstance(answer, BatchProxyError)]
    if not failures:
        return cast("RawReply", answers[0])
    if len(answers) == 1:
        raise failures[0]
    told = "; ".join(f"{name}: {_said(answer)}" for name, answer in zip(servers, answers, strict=True))
    raise BackendError(
        f"{len(failures)} of the pool's {len(answers)} servers did not reload: {told}", code=failures[0].code
    )


async def _ask(server: Server, call: RawCall, timeout_s: float) -> RawReply | BatchProxyError:
    try:
        return await server.relay(call, timeout_s)
    except BatchProxyError as error:
        return error


def _said(answer: RawReply | BatchProxyError) -> str:
    return f"{answer.code.name}: {answer.message}" if isinstance(answer, BatchProxyError) else "OK"
