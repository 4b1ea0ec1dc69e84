"""Model functions that are served while measuring. Nothing is measured here."""

from __future__ import annotations

import time

import batchproxy
from batchproxy.core.columns import Array


@batchproxy.signature(inputs={"x": ("float32", (None, None))}, outputs={"y": ("float32", (None, None))})
async def identity(inputs: dict[str, Array]) -> dict[str, Array]:
    """The null model: what is left is the proxy's own cost. Async, so that not even a thread is paid for."""
    return {"y": inputs["x"]}


@batchproxy.signature(inputs={"x": ("float32", (None, None))}, outputs={"y": ("float32", (None, None))})
async def first(inputs: dict[str, Array]) -> dict[str, Array]:
    """A null model whose answer is small, whatever it is sent."""
    return {"y": inputs["x"][:, :1]}


@batchproxy.signature(inputs={"x": ("float32", (2, 2))}, outputs={"y": ("float32", (2, 2))})
def fixed_batch(inputs: dict[str, Array]) -> dict[str, Array]:
    """A model of two rows, no more and no fewer, that takes 20 ms and no processor time: ruling R2's bar is set on it.

    It runs in threads, of which its server has 64 (``batchproxy.backends.callable.THREADS``).
    """
    time.sleep(0.02)
    return {"y": inputs["x"]}
