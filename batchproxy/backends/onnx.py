"""ONNX models inside this process, run by onnxruntime. The only module that imports onnxruntime.

Threads: a session's operators share one pool with a thread for each core, so that a lone call is as fast
as the machine allows; as many calls run at once as there are cores, and further ones wait in the executor.
Where callers keep all cores busy, calls of one thread each (``threads_per_call``) get more done: on 2 cores a batch of
32 rows of the demo's MLP took 2.9 ms on one thread, and 2.0 ms on two: that is 1.4 times the processor time.
The pool's threads do not spin while idle: measured on 2 cores with two calls at once, spinning made a batch
of 64 rows of the demo's MLP half as slow again (3.2 against 2.1 ms), and it would starve the event loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from batchproxy.backends.threads import cores, run_to_the_end
from batchproxy.codecs import _dtypes
from batchproxy.core.columns import Array, ArrayColumn, Columns
from batchproxy.core.errors import BackendError, BackendProtocolError, BackendRejected, Code, ConfigError
from batchproxy.core.request import BatchKey, Reply
from batchproxy.core.shapes import DEFAULT_SIGNATURE, Signature, TensorSpec

MODEL_FILE = "model.onnx"
"""What a version folder holds; the name that Triton and others use, too."""

CPU = "CPUExecutionProvider"
"""What onnxruntime calls the processor; every build of it has this one."""

_INT64_MAX = 2**63 - 1  # a version is an int64 in TF Serving's messages

_SILENT = 4
"""onnxruntime's severity FATAL: what it would write to stderr is in the exception, which we report."""

CODES: dict[str, Code] = {
    "InvalidArgument": Code.INVALID_ARGUMENT,
    "ValueError": Code.INVALID_ARGUMENT,  # an input is missing or unknown
    "UnicodeEncodeError": Code.INVALID_ARGUMENT,  # a lone surrogate in text
    "MemoryError": Code.RESOURCE_EXHAUSTED,  # a smaller batch may pass
}
"""The one table from exception classes (``onnxruntime.capi.onnxruntime_pybind11_state``, and what its
Python part raises) to codes; those not named are INTERNAL."""


class OnnxBackend:
    """Runs merged calls through one onnxruntime session.

    Args:
        path: a ``.onnx`` file, which is version 1; or a folder that holds ``model.onnx``, likewise; or a
            folder of numbered version folders as in TF Serving (``M/3/model.onnx``), the highest of which serves.
        threads: cores that this model may use, and calls that run at once; default: all there are.
        threads_per_call: cores that one call may use, ``threads`` at most; default: all of these.
        providers: onnxruntime's execution providers, the one to prefer first.
        provider_options: a provider's name to its options, such as ``{"CUDAExecutionProvider": {"device_id": "1"}}``.
        version: what the model is called, where the path does not say.

    Raises:
        ConfigError: no onnxruntime, no such provider, no model at ``path``, or one that cannot be served.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        threads_per_call: int | None = None,
        providers: Sequence[str] = (CPU,),
        provider_options: Mapping[str, Mapping[str, str]] | None = None,
        version: int | None = None,
    ) -> None:
        self._runtime = _import_onnxruntime()
        self._providers = _checked_providers(self._runtime, providers, provider_options or {})
        self.file, found = find_model(Path(path))
        self.version = found if version is None else version
        self.threads = threads or cores()
        self._threads_per_call = min(self.threads, threads_per_call or self.threads)
        self._session = self._open()
        signature = Signature(
            {node.name: self._spec("input", node) for node in self._session.get_inputs()},
            {node.name: self._spec("output", node) for node in self._session.get_outputs()},
        )
        self.signatures: Mapping[str, Signature] = {DEFAULT_SIGNATURE: signature}
        self._outputs = tuple(signature.outputs)
        self._calls = 0  # under way
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="batchproxy-onnx")

    async def infer(self, key: BatchKey, columns: Columns, timeout_s: float | None = None) -> Reply:
        options = self._runtime.RunOptions()

        def terminate() -> None:
            options.terminate = True  # looked at between operators

        free = self._calls < self.threads
        self._calls += 1
        try:
            outputs = await run_to_the_end(self._pool, self.run, key, columns, options, stop=terminate, at_once=free)
        finally:
            self._calls -= 1
        return Reply(outputs, self.version)

    def run(self, key: BatchKey, columns: Columns, options: Any = None) -> Columns:
        """Run one call in the calling thread.

        Args:
            key: names the signature and the outputs wanted.
            columns: the inputs.
            options: onnxruntime's ``RunOptions``, through which the call can be ended early.

        Raises:
            BackendError: as `infer`.
        """
        if key.signature not in self.signatures:
            raise BackendRejected(f'Serving signature key "{key.signature}" not found.', code=Code.FAILED_PRECONDITION)
        names = self._outputs if key.outputs is None else key.outputs
        missing = [name for name in names if name not in self._outputs]
        if missing:
            raise BackendRejected(f"output tensor alias not found in signature: {missing[0]}")
        options = options or self._runtime.RunOptions()
        options.log_severity_level = _SILENT
        try:
            feed = {name: _to_onnx(key.model, name, column) for name, column in columns.items()}
            outputs = self._session.run(names, feed, options)
            return {name: ArrayColumn(_from_onnx(array)) for name, array in zip(names, outputs, strict=True)}
        except BackendError:
            raise
        except Exception as error:
            code = CODES.get(type(error).__name__, Code.INTERNAL)
            raise BackendRejected(f"model {key.model!r}: {error}", code=code) from error

    async def probe(self) -> None:
        """A session that was opened can be called."""

    async def aclose(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def release(self) -> None:
        """Free the model's memory, after ``aclose``; blocking, in any thread: it may be large."""
        self._session = None

    def __repr__(self) -> str:
        return f"OnnxBackend({str(self.file)!r}, version={self.version}, threads={self.threads})"

    def _open(self) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self._threads_per_call
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _SILENT
        try:
            return self._runtime.InferenceSession(str(self.file), options, providers=self._providers)
        except Exception as error:
            raise ConfigError(
                f"{self.file}: onnxruntime {self._runtime.__version__} cannot load this model: {error} "
                "Export it again, or for a newer ONNX version install a newer onnxruntime."
            ) from error

    def _spec(self, role: str, node: Any) -> TensorSpec:
        row = _dtypes.by_onnx(node.type)
        if row is None or row.numpy.isbuiltin != 1:  # 2: one of ml_dtypes, which onnxruntime's Python side lacks
            advice = "export it without ZipMap" if "map(" in node.type else "cast it to float32 inside the model"
            raise ConfigError(
                f"{self.file}: {role} {node.name!r} is of type {node.type}, which cannot be served: {advice}"
            )
        shape = None if node.shape is None else tuple(n if isinstance(n, int) and n >= 0 else None for n in node.shape)
        return TensorSpec(row.name, shape)


def find_model(path: Path) -> tuple[Path, int]:
    """The model file that ``path`` stands for, and its version.

    Raises:
        ConfigError: there is none.
    """
    try:
        return _find_model(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); make it readable for this user") from error


def _find_model(path: Path) -> tuple[Path, int]:
    if path.is_file():
        return path, 1
    if not path.is_dir():
        raise ConfigError(f"{path}: no such file or folder; give a .onnx file or a folder with 1/{MODEL_FILE}")
    if (path / MODEL_FILE).is_file():
        return path / MODEL_FILE, 1
    folders = version_folders(path)
    if not folders:
        raise ConfigError(f"{path}: neither {MODEL_FILE} nor a version folder such as 1/{MODEL_FILE} in it")
    version = max(folders)
    folder = folders[version]
    if not (folder / MODEL_FILE).is_file():
        raise ConfigError(f"{folder}: the highest version has no {MODEL_FILE}; put it there or remove the folder")
    return folder / MODEL_FILE, version


def version_folders(path: Path) -> dict[int, Path]:
    """The version folders in ``path`` by their number, whatever is in them; ``01`` and ``1`` are the same one.

    Raises:
        OSError: ``path`` cannot be listed.
    """
    return {int(entry.name): entry for entry in sorted(path.iterdir(), reverse=True) if _is_version(entry)}


def _is_version(entry: Path) -> bool:
    return entry.name.isascii() and entry.name.isdigit() and int(entry.name) <= _INT64_MAX and entry.is_dir()


def _checked_providers(
    runtime: Any, names: Sequence[str], options: Mapping[str, Mapping[str, str]]
) -> list[tuple[str, dict[str, str]]]:
    """onnxruntime's own argument; it would pass over a provider that it does not have, and say so to nobody."""
    known = runtime.get_available_providers()
    for name in names:
        if name not in known:
            raise ConfigError(
                f"onnxruntime {runtime.__version__} has no execution provider {name!r} here, but {', '.join(known)}. "
                "Others come with other packages, such as onnxruntime-gpu"
            )
    return [(name, dict(options.get(name, {}))) for name in names]


def _import_onnxruntime() -> Any:
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        raise ConfigError(f"embedded ONNX models need onnxruntime ({error}): pip install 'batchproxy[onnx]'") from error


def _to_onnx(model: str, name: str, column: object) -> Array:
    """What onnxruntime reads rightly: it ignores byte order, and takes ``bytes`` for their ``repr``."""
    if not isinstance(column, ArrayColumn):
        raise BackendRejected(f"model {model!r}: input {name!r} is no array: ONNX models take arrays")
    array = column.array
    if array.dtype.kind in "OSU":
        return _decoded(model, name, array)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _decoded(model: str, name: str, array: Array) -> Array:
    text = np.empty(array.shape, dtype=object)
    try:
        text.ravel()[:] = [item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel()]
    except UnicodeError:
        raise BackendRejected(
            f"model {model!r}: input {name!r} holds a string that is not UTF-8; ONNX strings are text: "
            "send binary data as numbers (uint8) to a model that takes them so"
        ) from None
    return text


def _from_onnx(array: object) -> Array:
    if not isinstance(array, np.ndarray):
        raise BackendProtocolError(f"the model gave {type(array).__name__} where its signature has a tensor")
    if array.dtype.kind not in "OU":
        return array
    encoded = np.empty(array.shape, dtype=object)
    encoded.ravel()[:] = [str(item).encode() for item in array.ravel()]
    return encoded
