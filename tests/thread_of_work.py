"""For tests of what is done in a thread: work that waits until it is let go, and a caller that remembers."""

from __future__ import annotations

import asyncio
import threading

from batchproxy.core.errors import BatchProxyError


class Caller:
    """It remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.heard = asyncio.Event()
        self.gone = False

    def done(self) -> bool:
        return self.gone or bool(self.told)

    def set_exception(self, exception: BatchProxyError, /) -> None:
        self.told.append(exception.code)
        self.heard.set()


class Gate:
    """Work that waits, in its thread, until it is let go."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.opened = threading.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> str:
        self._loop.call_soon_threadsafe(self.began.set)
        assert self.opened.wait(10)
        return "gate"
