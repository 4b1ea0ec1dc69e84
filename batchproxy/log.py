"""Log lines: one logger tree, one format, on standard error; each is counted. Nothing is logged per request."""

from __future__ import annotations

import logging
import sys

from batchproxy.events import events

ROOT = "batchproxy"


class Counting(logging.Handler):
    """Counts what is logged, and writes nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        """Count one line."""
        events.count(record.getMessage(), str(record.msg))


def configure(level: int = logging.INFO) -> None:
    """Send our log lines to standard error; the library itself never does this."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger(ROOT)
    logger.handlers[:] = [handler, Counting()]
    logger.setLevel(level)
    logger.propagate = False


class Notices:
    """Says each change of state once (R8); repeats are counted, and told when their number doubles."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._seen: dict[str, int] = {}

    def __call__(self, line: str) -> None:
        """Log a line at warning level unless it was said before."""
        count = self._seen[line] = self._seen.get(line, 0) + 1
        if count == 1:
            self._logger.warning("%s", line)
        elif count & (count - 1) == 0:
            self._logger.warning("%s (%d times so far)", line, count)
        else:
            events.count(line)
