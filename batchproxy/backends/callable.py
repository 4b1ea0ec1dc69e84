"""Python functions as models: a ``dict`` of arrays in, a ``dict`` of arrays out. No other kind of model.

Plain functions run in threads, async ones on the loop. Their inputs are read-only: a lone caller's array
is shared, so a function that writes would work in a batch and corrupt, or fail, alone. Strings are
arrays of ``bytes`` on the way in; ``bytes`` or ``str`` (sent as UTF-8) on the way out.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from batchproxy.backends.threads import run_to_the_end
from batchproxy.codecs import _dtypes
from batchproxy.core.columns import Array, ArrayColumn, Column, Columns
from batchproxy.core.errors import BackendError, BackendProtocolError, BackendRejected, Code
from batchproxy.core.request import BatchKey, Reply
from batchproxy.core.shapes import DEFAULT_SIGNATURE, UNDECLARED, Shape, Signature, TensorSpec

Function = Callable[[dict[str, Array]], Any]
F = TypeVar("F", bound=Function)

THREADS = 64
"""Calls of one function that may run at once; threads are made on demand. R2's bar has 64 callers."""

CODES: dict[type[BaseException], Code] = {
    ValueError: Code.INVALID_ARGUMENT,  # these are what numpy says of bad input
    TypeError: Code.INVALID_ARGUMENT,
    LookupError: Code.INVALID_ARGUMENT,
    MemoryError: Code.RESOURCE_EXHAUSTED,  # a smaller batch may pass
}
"""The one table from exceptions of model functions to codes; those not named are INTERNAL."""


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
        self._waits = {name: _is_async(function) for name, function in self._functions.items()}
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="batchproxy-callable")

    async def infer(self, key: BatchKey, columns: Columns, timeout_s: float | None = None) -> Reply:
        function = self._functions.get(key.signature)
        if function is None:
            raise BackendRejected(f'Serving signature key "{key.signature}" not found.', code=Code.FAILED_PRECONDITION)
        inputs = {name: _read_only(key, name, column) for name, column in columns.items()}
        if self._waits[key.signature]:
            outputs = await _await(key, function, inputs)
        else:
            outputs = await run_to_the_end(self._pool, _call, key, function, inputs)
        return Reply(_as_columns(key, self.signatures[key.signature], outputs), self.version)

    async def probe(self) -> None:
        """A function that was imported can be called."""

    async def aclose(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _is_async(function: Function) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _call(key: BatchKey, function: Function, inputs: dict[str, Array]) -> Any:
    """Runs in a thread, out of which nothing but our own errors may come.

    asyncio waits for ever for a future that is to carry StopIteration (CPython 3.11), and lets SystemExit
    and KeyboardInterrupt through to the loop, which ends: a model's ``sys.exit()`` would stop the proxy.
    """
    try:
        return function(inputs)
    except BackendError:
        raise
    except BaseException as error:
        raise _translated(key, error) from error


async def _await(key: BatchKey, function: Function, inputs: dict[str, Array]) -> Any:
    try:
        return await function(inputs)
    except (BackendError, GeneratorExit):
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise _translated(key, error) from error  # something of the function's own was cancelled, not the call
    except BaseException as error:
        raise _translated(key, error) from error


def _translated(key: BatchKey, error: BaseException) -> BackendRejected:
    code = next((code for kind, code in CODES.items() if isinstance(error, kind)), Code.INTERNAL)
    return BackendRejected(f"model {key.model!r}: the function raised {type(error).__name__}: {error}", code=code)


def _read_only(key: BatchKey, name: str, column: Column) -> Array:
    """A view that cannot be written: the caller of a lone request, or of the library, owns the numbers."""
    if not isinstance(column, ArrayColumn):
        raise BackendRejected(f"model {key.model!r}: input {name!r} is no array; this function takes arrays")
    view = column.array.view()
    view.flags.writeable = False
    return view


def _as_columns(key: BatchKey, declared: Signature, outputs: object) -> Columns:
    if not isinstance(outputs, Mapping):
        kind = type(outputs).__name__
        raise BackendProtocolError(f"model {key.model!r}: the function returned {kind}, not a dict of numpy arrays")
    for name in outputs:
        if not isinstance(name, str):
            raise BackendProtocolError(f"model {key.model!r}: the function named an output {name!r}, which is no str")
    for name in declared.outputs:
        if name not in outputs:
            raise BackendProtocolError(f"model {key.model!r}: the function left out {name!r}, an output it declares")
    names = tuple(outputs) if key.outputs is None else key.outputs
    missing = [name for name in names if name not in outputs]
    if missing:
        raise BackendRejected(f"output tensor alias not found in signature: {missing[0]}")
    return {name: ArrayColumn(_as_array(key, name, declared.outputs.get(name), outputs[name])) for name in names}


def _as_array(key: BatchKey, name: str, spec: TensorSpec | None, value: object) -> Array:
    """``value`` as codecs want it: native byte order, strings as objects of ``bytes``.

    Raises:
        BackendProtocolError: it is no tensor, or not of the dtype declared.
    """
    fault = f"model {key.model!r}: the function's output {name!r}"
    try:
        array = np.asarray(value)
    except Exception as error:
        raise BackendProtocolError(f"{fault} ({type(value).__name__}) is no array: {error}") from error
    if array.dtype.kind in "OSU":
        array = _as_bytes(fault, array)
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    try:
        dtype = _dtypes.by_numpy(array.dtype).name
    except BackendProtocolError as error:
        raise BackendProtocolError(f"{fault}: {error.message}") from None
    if spec is not None and dtype != spec.dtype:
        raise BackendProtocolError(
            f"{fault} is of dtype {dtype}, declared as {spec.dtype}: return it so, or declare it so"
        )
    return array


def _as_bytes(fault: str, array: Array) -> Array:
    encoded = np.empty(array.shape, dtype=object)
    for index, item in enumerate(array.ravel().tolist()):
        if not isinstance(item, str | bytes):
            raise BackendProtocolError(
                f"{fault} holds a {type(item).__name__}; return an array of numbers, or of str or bytes, all rows alike"
            )
        try:
            encoded.flat[index] = item.encode() if isinstance(item, str) else item
        except UnicodeEncodeError as error:
            raise BackendProtocolError(f"{fault} holds text that UTF-8 cannot carry: {error}") from error
    return encoded
