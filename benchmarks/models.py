"""Model functions that are served while measuring. Nothing is measured here."""

from __future__ import annotations

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
