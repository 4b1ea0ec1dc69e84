"""A Python function as a model: ``dict`` of arrays in, ``dict`` of arrays out. Runs in threads, or on the loop if async."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from batchproxy.core.columns import Array, ArrayColumn, Columns
from batchproxy.core.errors import BackendProtocolError, BackendRejected, BatchProxyError, Code
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import DEFAULT_SIGNATURE, UNDECLARED, Shape, Signature, TensorSpec

Function = Callable[[dict[str, Array]], Any]
F = TypeVar("F", bound=Function)

THREADS = 64
"""Calls of one function that may run at once; threads are made on demand. R2's bar has 64 callers."""


def signature(
    *, inputs: Mapping[str, tuple[str, Shape | None]], outputs: Mapping[str, tuple[str, Shape | None]]
) -> Callable[[F], F]:
    """Declare what a model function takes and gives, so that requests are checked before it runs.

    Args:
        inputs: input name to (dtype, shape); a ``None`` in the shape is an open length.
        outputs: output name to (dtype, shape).

    Example:
        >>> @signature(inputs={"x": ("float32", (None,))}, outputs={"y": ("float32", (None,))})
        ... def half_plus_two(inputs):
        ...     return {"y": inputs["x"] / 2 + 2}
    """
    declared = Signature(
        {name: TensorSpec(dtype, shape) for name, (dtype, shape) in inputs.items()},
        {name: TensorSpec(dtype, shape) for name, (dtype, shape) in outputs.items()},
    )

    def declare(function: F) -> F:
        function.__batchproxy_signature__ = declared  # type: ignore[attr-defined]
        return function

    return declare


class CallableBackend:
    """Runs merged calls through Python functions.

    Args:
        functions: one function for ``serving_default``, or signature name to function.
        version: the version number it answers as.
    """

    def __init__(self, functions: Function | Mapping[str, Function], *, version: int = 1) -> None:
        self._functions = functions if isinstance(functions, Mapping) else {DEFAULT_SIGNATURE: functions}
        self.version = version
        self.signatures: Mapping[str, Signature] = {
            name: getattr(function, "__batchproxy_signature__", UNDECLARED)
            for name, function in self._functions.items()
        }
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="batchproxy-callable")

    async def infer(self, key: BatchKey, columns: Columns) -> Columns:
        function = self._functions[key.signature]
        inputs = {name: column.array for name, column in columns.items() if isinstance(column, ArrayColumn)}
        try:
            if inspect.iscoroutinefunction(function):
                outputs = await function(inputs)
            else:
                outputs = await run_to_the_end(self._pool, function, inputs)
        except BatchProxyError:
            raise
        except (ValueError, TypeError, KeyError, IndexError) as error:  # what numpy says of bad input
            raise BackendRejected(_describe(key, error), code=Code.INVALID_ARGUMENT) from error
        except Exception as error:
            raise BackendRejected(_describe(key, error), code=Code.INTERNAL) from error
        return _as_columns(key, outputs)

    async def probe(self) -> None:
        """A function that was imported can be called."""

    async def aclose(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


async def run_to_the_end(pool: ThreadPoolExecutor, function: Callable[..., Any], *arguments: object) -> Any:
    """Run in a thread; if cancelled, still wait for the thread, since threads cannot be stopped."""
    work = pool.submit(function, *arguments)
    future = asyncio.wrap_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if not work.cancel():
            await asyncio.wait([future])
        raise


def _describe(key: BatchKey, error: Exception) -> str:
    return f"model {key.model!r}: the function raised {type(error).__name__}: {error}"


def _as_columns(key: BatchKey, outputs: object) -> Columns:
    if not isinstance(outputs, Mapping):
        kind = type(outputs).__name__
        raise BackendProtocolError(f"model {key.model!r}: the function returned {kind}, not a dict of numpy arrays")
    if key.outputs is not None:
        missing = [name for name in key.outputs if name not in outputs]
        if missing:
            raise BackendRejected(f"output tensor alias not found in signature: {missing[0]}")
        outputs = {name: outputs[name] for name in key.outputs}
    return {str(name): ArrayColumn(np.asarray(value)) for name, value in outputs.items()}
