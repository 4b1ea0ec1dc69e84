"""How users are meant to write it, for the type checker only: ``make check`` reads this page, nothing runs it."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import batchproxy
from batchproxy import (
    BackendRejected,
    Batcher,
    BatchProxyError,
    Client,
    Code,
    DeadlineExceeded,
    ModelInfo,
    NoEndpoint,
    Prediction,
    QueueFull,
    ShapeMismatch,
    Signature,
    State,
    TensorSpec,
    VersionStatus,
    signature,
)


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


async def use_a_client() -> None:
    """Arrays, lists, numbers and strings in; arrays out; questions about models."""
    async with Client("grpc://tf-0:8500", "grpc://tf-1:8500", max_batch_rows=32, max_delay_ms=1) as client:
        try:
            reply = await client.predict("m", {"x": np.ones((2, 3), np.float32), "tags": ["a", b"b"], "one": 1})
        except ShapeMismatch as error:
            assert_type(error.message, str)
        except BackendRejected as error:
            assert_type(error.code, Code)
        except NoEndpoint as error:
            assert_type(error.retry_after_s, int)
        else:
            assert_type(reply, Prediction)
            assert_type(reply["y"], npt.NDArray[Any])
            assert_type(dict(reply), dict[str, npt.NDArray[Any]])
            assert_type(reply.version, int)
        await client.predict("m", {"x": [1.0]}, version=3, signature="other", outputs=("y",), timeout_s=0.5)
        await client.predict("m", {"x": [1.0]}, version="stable")
    client = Client("grpc://unix:/run/tf.sock", max_inflight=4, idempotent=False, static_headers={"x-key": "1"})
    assert_type(await client.metadata("m", version=3), ModelInfo)
    versions = await client.status("m")
    assert_type(versions, tuple[VersionStatus, ...])
    assert_type(versions[0].state, State)
    await client.aclose()


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
