"""What both gRPC doors hold to: which headers go to a server, and what its words mean. No grpcio here.

Kept apart from ``backends.grpc`` so that a proxy that needs no grpcio does not load it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from batchproxy.core.errors import BackendRejected
from batchproxy.core.raw import Header

EXHAUSTED = "Server Threadpool Exhausted"
"""What gRPC's C++ server says above its thread quota: the call was refused unread (R3)."""

_NOT_OURS = frozenset(
    {
        "connection", "content-length", "content-type", "expect", "host", "http2-settings", "keep-alive", "te",
        "trailer", "transfer-encoding", "upgrade", "user-agent",
    }
)  # fmt: skip
"""Headers of one hop, or that grpcio writes itself; beside those that begin with ``grpc-``, ``proxy-`` or a colon."""

_NAME = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[ -~]*")


def metadata_of(headers: Sequence[Header]) -> tuple[Header, ...]:
    """The headers that are the callers' own, and that a server is to see.

    Raises:
        BackendRejected: one that gRPC cannot carry.
    """
    kept = []
    for name, value in headers:
        if name in _NOT_OURS or name.startswith(("grpc-", ":", "proxy-")):
            continue
        if not _NAME.fullmatch(name) or not (isinstance(value, bytes) or _VALUE.fullmatch(value)):
            raise BackendRejected(f"header {name!r} cannot be sent as gRPC metadata: visible ASCII characters only")
        kept.append((name, value))
    return tuple(kept)
