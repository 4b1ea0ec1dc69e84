"""What callers ask for in headers, beside their request: how long it may take, and how urgent it is. Sends nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batchproxy.core.errors import DecodeError
from batchproxy.core.policy import PRIORITIES
from batchproxy.core.raw import Header
from batchproxy.wire.http1_head import Headers

_LEVELS = PRIORITIES | {str(level): level for level in PRIORITIES.values()}


class Terms:
    """Reads the headers that were configured for it.

    Args:
        timeout_s: how long a call may take; 0: for ever.
        deadline_header: request header that may shorten that, in milliseconds; lower case.
        priority_header: request header that names a priority; lower case.
    """

    def __init__(
        self, *, timeout_s: float = 0.0, deadline_header: str | None = None, priority_header: str | None = None
    ) -> None:
        self._timeout_s = timeout_s
        self._deadline_header = deadline_header
        self._priority_header = priority_header

    def of(self, headers: Mapping[str, str], started: float) -> tuple[float | None, int | None]:
        """The deadline of a REST call, on the clock of ``started``, and its priority; None: none, its model's.

        Raises:
            DecodeError: a header is no positive number of milliseconds, or no priority.
        """
        terms = headers.terms if type(headers) is Headers else None
        if terms is None:
            terms = self._limit_s(headers), self._named_priority(headers)
            if type(headers) is Headers:
                headers.terms = terms
        limit_s, priority = terms
        return None if limit_s is None else started + limit_s, priority

    def _named_priority(self, headers: Mapping[str, str]) -> int | None:
        text = headers.get(self._priority_header) if self._priority_header is not None else None
        return None if text is None else self._priority(text)

    def _limit_s(self, headers: Mapping[str, str]) -> float | None:
        """The sooner of the configured limit and the caller's header (R6)."""
        limit_s = self._timeout_s or None
        text = headers.get(self._deadline_header) if self._deadline_header else None
        if text is not None:
            if not (text.isascii() and text.isdigit() and len(text) < 16):
                raise DecodeError(
                    f"header {self._deadline_header}: {text[:32]!r} is not a whole number of milliseconds"
                )
            asked_s = int(text) / 1000
            limit_s = asked_s if limit_s is None else min(limit_s, asked_s)
        return limit_s

    def priority(self, metadata: Sequence[Header]) -> int | None:
        """The priority of a gRPC call; None: its model's.

        Raises:
            DecodeError: it is none.
        """
        if self._priority_header is None:
            return None
        text = next((value for name, value in metadata if name == self._priority_header), None)
        return None if text is None else self._priority(str(text))

    def _priority(self, text: str) -> int:
        level = _LEVELS.get(text.strip().lower())
        if level is None:
            raise DecodeError(f"header {self._priority_header}: {text[:32]!r} is not high, normal or low (0, 1 or 2)")
        return level
