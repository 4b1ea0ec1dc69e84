"""A new configuration while the server runs: when it is read again, and what becomes of one that is wrong.

It is read at SIGHUP, and when one of its files is another one. What it says of pools, models and times is applied
without losing a request; what is wrong changes nothing and is told, and so are keys that need a restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from batchproxy.config import Config
from batchproxy.core.errors import ConfigError
from batchproxy.documents import Fingerprint, fingerprint

logger = logging.getLogger("batchproxy.reload")

WATCH_S = 1.0
"""Seconds between two looks at the files. One that changed is read when it was the same at two looks, so that nobody
has to replace it in one step."""

FIXED = (
    "listen",
    "rest_api_timeout_in_ms",
    "rest_api_enable_cors_support",
    "deadline_header",
    "priority_header",
    "max_buffered_bytes",
    "state_dir",
)
"""Keys that doors, connections and what they remember of callers' requests are made with."""


class Reload:
    """Keeps the configuration as its files are.

    Args:
        config: the one that is served.
        read: reads it anew, flags and all; may be called in a thread.
        apply: serves another one; raises ConfigError where that cannot be, and then has changed nothing.
        paths: the files that it is made of.
        seen: what these were before it was read.

    Attributes:
        config: that is served now.
        fault: why the last one that was read is not; empty where it is.
        ignored: keys of it that need a restart.
        counts: how many were "applied" and "refused".
    """

    def __init__(
        self,
        config: Config,
        read: Callable[[], Config],
        apply: Callable[[Config], Awaitable[None]],
        paths: Sequence[str],
        seen: Fingerprint,
    ) -> None:
        self.config = config
        self.fault = ""
        self.ignored: tuple[str, ...] = ()
        self.counts = {"applied": 0, "refused": 0}
        self._read, self._apply = read, apply
        self._paths = tuple(paths)
        self._seen = seen
        self._reading = asyncio.Lock()

    async def reload(self, why: str) -> None:
        """Read the configuration and serve it.

        Args:
            why: that happens now, for the log.
        """
        async with self._reading:
            try:
                self._seen = await asyncio.to_thread(fingerprint, self._paths)
                wanted = await asyncio.to_thread(self._read)
                ignored = _changed(self.config, wanted, FIXED)
                config = msgspec.structs.replace(wanted, **{key: getattr(self.config, key) for key in FIXED})
                await self._apply(config)
            except ConfigError as error:
                self._refused(error.message)
            except Exception as error:
                logger.exception("%s: the configuration could not be applied. This is a bug.", why)
                self._refused(f"internal error: {type(error).__name__}. This is a bug.")
            else:
                self._applied(why, config, ignored)

    def _refused(self, fault: str) -> None:
        self.counts["refused"] += 1
        if fault != self.fault:
            logger.error("the new configuration is refused, the former one is served on: %s", fault)
        self.fault = fault

    def _applied(self, why: str, config: Config, ignored: tuple[str, ...]) -> None:
        changed = _changed(self.config, config, config.__struct_fields__)
        self.config, self.fault = config, ""
        self.counts["applied"] += 1
        logger.info(
            "%s: the configuration is read again; %s", why, f"new: {', '.join(changed)}" if changed else "as it was"
        )
        if ignored and ignored != self.ignored:
            logger.warning(
                "the new configuration has other values of %s, which hold after a restart; with --takeover that loses "
                "no connection",
                ", ".join(ignored),
            )
        self.ignored = ignored

    async def keep_watching(self) -> None:
        """Look at the files until cancelled."""
        before = self._seen
        while self._paths:
            await asyncio.sleep(WATCH_S)
            now = await asyncio.to_thread(fingerprint, self._paths)
            if now != self._seen and now == before:
                await self.reload("a file changed")
            before = now

    def status(self) -> Mapping[str, Any]:
        """For the page: what was read last, and what of it is not served."""
        return {
            **self.counts,
            "fault": self.fault,
            "needs_restart": list(self.ignored),
        }


def _changed(one: Config, other: Config, keys: Sequence[str]) -> tuple[str, ...]:
    """The keys whose values differ, below ``listen`` one by one."""
    found: list[str] = []
    for key in keys:
        ours, theirs = getattr(one, key), getattr(other, key)
        if ours == theirs:
            continue
        parts = ours.__struct_fields__ if isinstance(ours, msgspec.Struct) else ()
        found += [f"{key}.{part}" for part in parts if getattr(ours, part) != getattr(theirs, part)] or [key]
    return tuple(found)
