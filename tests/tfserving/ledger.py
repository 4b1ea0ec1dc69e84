"""What the server was asked: counts, rows per run, raw bytes; tests read it over HTTP. TF Serving has none of it.

``/test/hold`` keeps every inference waiting until ``/test/release``, and ``/test/running/N`` is answered when N are
under way: tests that need calls in flight ask for them and do not sleep.
"""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter, deque
from typing import Any

KEPT = 256
"""Captured calls; older ones are forgotten."""

PATIENCE_S = 5.0
"""How long ``/test/running/N`` waits before it tells how many there are; half of what the fixture's calls may take."""

RUNNING = "/test/running/"


class Ledger:
    """Counts calls, keeps the last ones, holds inferences back on demand."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = threading.Condition(self._lock)
        self._calls: Counter[str] = Counter()
        self._rows: dict[str, list[int]] = {}
        self._captured: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._open = threading.Event()
        self._open.set()
        self._running = 0
        self._peak = 0

    def called(self, front: str, method: str, model: str) -> None:
        """A call that could be understood."""
        with self._lock:
            self._calls[f"{front} {method} {model}"] += 1

    def captured(self, front: str, method: str, request: bytes, response: bytes, **more: Any) -> None:
        """A call as it was on the wire."""
        record = {
            "front": front,
            "method": method,
            "request_b64": base64.b64encode(request).decode(),
            "response_b64": base64.b64encode(response).decode(),
            **more,
        }
        with self._lock:
            self._captured.append(record)

    def inference(self, model: str, rows: int) -> None:
        """One run of a model begins; returns when none are held back."""
        with self._lock:
            self._rows.setdefault(model, []).append(rows)
            self._running += 1
            self._peak = max(self._peak, self._running)
            self._begun.notify_all()
        self._open.wait()

    def inference_ended(self) -> None:
        """The other end of :meth:`inference`."""
        with self._lock:
            self._running -= 1

    def command(self, path: str) -> bytes | None:
        """Answers ``/test/...``; None where there is no such command."""
        with self._lock:
            match path:
                case "/test/counters":
                    return self._counters()
                case "/test/captured":
                    return json.dumps(list(self._captured)).encode()
                case "/test/reset":
                    self._calls.clear()
                    self._rows.clear()
                    self._captured.clear()
                    self._peak = self._running
                case "/test/hold":
                    self._open.clear()
                case "/test/release":
                    self._open.set()
                case _ if path.startswith(RUNNING):
                    count = int(path.removeprefix(RUNNING))
                    self._begun.wait_for(lambda: self._running >= count, PATIENCE_S)
                case _:
                    return None
            return self._counters()

    def _counters(self) -> bytes:
        counters = {"calls": self._calls, "rows": self._rows, "running": self._running, "peak": self._peak}
        return json.dumps(counters).encode()
