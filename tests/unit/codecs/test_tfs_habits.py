"""What answers give away, said once with the advice that follows."""

from __future__ import annotations

import numpy as np
import pytest

from batchproxy.codecs.tfs_habits import Habits
from batchproxy.core.columns import ArrayColumn, Column, ListColumn, TensorColumn
from batchproxy.core.errors import BackendRejected, BackendTooBig, BackendUnavailable, Code
from batchproxy.core.raw import RawReply

ONE = np.array([1.0])


@pytest.mark.parametrize("words", ["maximum input batch size", "maximum batch size"])
def test_a_batch_that_was_too_big_is_told_apart_from_a_bad_one(words: str) -> None:
    """By either of TensorFlow's schedulers; code, text and the server's answer stay."""
    said: list[str] = []
    raw = RawReply(3, "", (), b"")
    error = BackendRejected(f"Task size 64 is larger than {words} 32", raw=raw)
    found = Habits(said.append).refused("s:8500", error)

    assert isinstance(found, BackendTooBig)
    assert (Code.INVALID_ARGUMENT, error.message, raw) == (found.code, found.message, found.raw)
    assert said[0].startswith("s:8500 runs a batching of its own (--enable_batching) that takes at most 32 rows a call")
    assert said[0].endswith("Start it without --enable_batching, or set max_batch_rows: 32")


@pytest.mark.parametrize(
    "text",
    [
        "The batch scheduling queue to which this task was submitted is full; currently 10 batches enqueued",
        "The batch scheduling queue is full",
        "Run() timeout exceeded while waiting in batching queue",
    ],
)
def test_a_full_queue_is_told(text: str) -> None:
    """It is treated as any other server that has no room."""
    said: list[str] = []
    error = BackendUnavailable(text)

    assert error is Habits(said.append).refused("s:8500", error)
    assert ["its queue is full: requests wait twice" in line for line in said] == [True]


def test_other_errors_give_nothing_away() -> None:
    """They are passed through."""
    said: list[str] = []
    error = BackendRejected("Task size matters")

    assert error is Habits(said.append).refused("s:8500", error)
    assert [] == said


def test_raw_buffers_in_an_answer_are_told_once() -> None:
    """A server writes them with one flag only, and then its REST door cannot be used for predict calls."""
    said: list[str] = []
    habits = Habits(said.append)
    before = []
    others: list[Column] = [ListColumn([1]), ArrayColumn(ONE), TensorColumn(ONE)]
    for column in (*others, TensorColumn(ONE, content=True), TensorColumn(ONE, content=True)):
        habits.answered("s:8500", {"y": column})
        before.append(habits.tensor_content)

    assert [False, False, False, True, True] == before
    assert 1 == len(said)
    assert "--enable_serialization_as_tensor_content" in said[0]


def test_nobody_need_listen() -> None:
    """The library has no log of its own."""
    habits = Habits()
    habits.answered("s", {"y": TensorColumn(ONE, content=True)})

    assert habits.tensor_content
