"""What TF Serving's answers give away of the flags it was started with, and what follows from that. Sends nothing.

Two flags matter to a batching proxy: ``--enable_batching``, whose limits show in error texts
(``kernels/batching_util/shared_batch_scheduler.h`` and ``adaptive_shared_batch_scheduler.h`` of TensorFlow), and
``--enable_serialization_as_tensor_content``, whose REST door writes numbers as 0.0 and ends the process on strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from batchproxy.core.columns import Columns, TensorColumn
from batchproxy.core.errors import BackendError, BackendTooBig

_TOO_MANY = re.compile(r"Task size (\d+) is larger than maximum (?:input )?batch size (\d+)")
_QUEUE_FULL = re.compile(r"The batch scheduling queue (?:to which this task was submitted )?is full")
_QUEUE_LATE = "Run() timeout exceeded while waiting in batching queue"


class Habits:
    """What is known of the servers of one pool, which are taken to be started alike.

    Args:
        notice: told each finding, with what to do; says it once.

    Attributes:
        tensor_content: whether one runs with ``--enable_serialization_as_tensor_content``.
    """

    __slots__ = ("_notice", "tensor_content")

    def __init__(self, notice: Callable[[str], None] = lambda line: None) -> None:
        self._notice = notice
        self.tensor_content = False

    def refused(self, server: str, error: BackendError) -> BackendError:
        """Look at an error; where it says that the batch was too big for the server's own, say just that.

        Returns:
            The error to go on with, for the caller the same.
        """
        text = error.message
        found = _TOO_MANY.search(text)
        if found is not None:
            self._notice(
                f"{server} runs a batching of its own (--enable_batching) that takes at most {found[2]} rows a call: "
                f"smaller calls are tried. Start it without --enable_batching, or set max_batch_rows: {found[2]}"
            )
            return BackendTooBig(text, code=error.code, raw=error.raw)
        if _QUEUE_FULL.search(text) or _QUEUE_LATE in text:
            self._notice(
                f"{server} runs a batching of its own (--enable_batching), and its queue is full: requests wait twice. "
                "Start it without --enable_batching, or raise its max_enqueued_batches"
            )
        return error

    def answered(self, server: str, columns: Columns) -> None:
        """Look at the answer to a merged call."""
        if self.tensor_content:
            return
        if any(isinstance(column, TensorColumn) and column.content for column in columns.values()):
            self.tensor_content = True
            self._notice(
                f"{server} runs with --enable_serialization_as_tensor_content: its own REST door answers 0.0 for every "
                "number and ends the process on strings. REST predict calls go through its gRPC door from now on. "
                "Start it without that flag"
            )
