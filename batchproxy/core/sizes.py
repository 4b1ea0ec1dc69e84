"""What was learned of the sizes of batches, model by model, for whoever shows, keeps or tells it. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchproxy.core.lanes import Lanes
from batchproxy.core.padding import Rounded
from batchproxy.core.saved import whole

MAX_MODELS = 1024
"""Models of a file that are looked at."""


class Sizes:
    """Of one scheduler.

    Args:
        policies: of its models.
        lanes: where they wait.
    """

    def __init__(self, policies: Rounded, lanes: Lanes) -> None:
        self._policies = policies
        self._lanes = lanes

    def rows(self, model: str) -> int:
        """Rows that a batch of a model may have now."""
        book = self._lanes.books.get(model)
        return self._policies[model].max_batch_rows if book is None else book.cap.rows

    def declare(self, model: str, most: int | None) -> None:
        """The servers say how many rows a batch of a model may have at most; None: any number.

        It starts there, unless fewer are configured, and does not grow beyond.
        """
        self._lanes.declare(model, most)

    def rounded(self, model: str) -> bool:
        """Whether its batches are rounded up to powers of two, since it compiles each size."""
        book = self._lanes.books.get(model)
        return book is not None and book.rounded

    def objective_s(self, model: str) -> float:
        """Seconds that its answers may take, as configured or as its callers wait; ``inf``: neither is known."""
        book = self._lanes.books.get(model)
        return self._policies[model].slo_s or float("inf") if book is None else book.objective.seconds

    def state(self) -> dict[str, Any]:
        """Model to what was learned, as plain numbers; nothing of those that are as they were configured."""
        books = self._lanes.books.items()
        return {name: {**book.cap.state(), "rounded": int(book.rounded)} for name, book in books if book.learned}

    def restore(self, state: object) -> list[str]:
        """Go on where another one's ``state()`` was; returns what is wrong with the parts that had to be ignored."""
        faults = []
        models = list(state.items())[:MAX_MODELS] if isinstance(state, Mapping) else []
        for name, document in models:
            try:
                self._restore(name, document)
            except ValueError as fault:
                faults.append(f"model {name!r}: {fault}")
        return faults

    def _restore(self, name: str, document: object) -> None:
        rounded = whole(document, "rounded", 0, 1)
        rows, most = whole(document, "rows", 1, 2**31), whole(document, "most", 1, 2**31)
        try:
            self._policies[name]
        except KeyError:
            return  # it is not served any more
        if rounded and self._policies.round(name):
            self._lanes.round(name)
        self._lanes.book(name).cap.restore(rows, most)
