"""How users are meant to write it, for the type checker only: ``make check`` reads this page, nothing runs it."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import batchproxy
from batchproxy import Batcher, BatchProxyError, Code, DeadlineExceeded, QueueFull, Signature, TensorSpec, signature


def lengths(texts: list[str]) -> list[int]:
    """A function over lists."""
    return [len(text) for text in texts]


async def lengths_later(texts: list[str]) -> list[int]:
    """The same, async."""
    return lengths(texts)


def halves(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A function over arrays."""
    return rows / np.float32(2)


async def use_a_batcher() -> None:
    """Items one by one and several at a time, with a time limit."""
    async with Batcher(lengths, max_batch_rows=32) as length_of:
        await length_of("one")
        await length_of("two", timeout_s=0.5)
        await length_of.map(["three", "four"])
    batcher = Batcher(
        lengths_later, max_batch_rows=8, max_delay_ms=1.5, max_queued_rows=100, max_inflight=2, idempotent=False
    )
    try:
        await batcher("one")
    except QueueFull as error:
        assert_type(error.retry_after_s, int)
    except DeadlineExceeded as error:
        assert_type(error.message, str)
    except BatchProxyError as error:
        assert_type(error.code, Code)
        assert_type(error.http_status, int)
    finally:
        await batcher.aclose()
    await Batcher(halves)(np.ones(3, np.float32))


@signature(inputs={"x": ("float32", (None, 3))}, outputs={"y": ("float32", (None,)), "any": ("string", None)})
def model(inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """A served function keeps its type under the decorator."""
    return {"y": inputs["x"].sum(axis=1)}


def use_a_model() -> None:
    """The decorated function is still a function of dicts of arrays."""
    assert_type(model({"x": np.ones((1, 3))}), dict[str, npt.NDArray[Any]])


def describe() -> Signature:
    """Signatures can be made by hand."""
    assert_type(batchproxy.__version__, str)
    spec = TensorSpec("float32", (None, 3), name="x:0")
    assert_type(spec.leading_open, bool)
    return Signature(inputs={"x": spec}, outputs={"y": TensorSpec("int64", None)})
