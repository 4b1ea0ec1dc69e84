"""One ONNX model in several versions at once: which there are, which are loaded, which one a call is for.

No watching, no clock: ``batchproxy.versions`` decides when to look, and what becomes of a version.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from batchproxy.backends.onnx import CPU, MODEL_FILE, OnnxBackend, version_folders
from batchproxy.codecs import _dtypes
from batchproxy.core.columns import ArrayColumn, Columns
from batchproxy.core.errors import BackendError, BackendRejected, Code, ConfigError
from batchproxy.core.request import BatchKey, Reply
from batchproxy.core.shapes import DEFAULT_SIGNATURE, Signature

MOST_SHAPES = 16
"""Shapes of calls that are kept for warming up the next version; the latest ones."""

Fingerprint = tuple[tuple[str, int, int], ...]
"""Name, size and time of change of each file of a version: another one means that a load may end in another way."""

_Shapes = tuple[tuple[str, int | None, object], ...]


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which of the versions there are shall be served; TF Serving's ``model_version_policy``.

    Args:
        latest: the so many highest ones; not looked at where one of the others is set.
        specific: these, as far as they are there.
        every: all there are.

    >>> sorted(VersionPolicy(latest=2).wanted([1, 10, 9]))
    [9, 10]
    """

    latest: int = 1
    specific: tuple[int, ...] = ()
    every: bool = False

    def wanted(self, found: Iterable[int]) -> set[int]:
        """Those to be served of the versions that were found."""
        if self.every:
            return set(found)
        if self.specific:
            return set(found) & set(self.specific)
        return set(sorted(found)[-self.latest :])


@dataclass(slots=True, eq=False)
class _Loaded:
    backend: OnnxBackend
    calls: int = field(default=0)


class OnnxVersions:
    """Runs merged calls in the version that they name.

    Args:
        path: as for ``OnnxBackend``; a file, or a folder with ``model.onnx``, is version 1 and nothing else.
        policy: which versions are loaded at once.
        threads: see ``OnnxBackend``; of each version.
        threads_per_call: see ``OnnxBackend``.
        providers: see ``OnnxBackend``.
        provider_options: see ``OnnxBackend``.

    Attributes:
        policy: as given.
        watched: whether there are version folders, so that there may be others later.
        failures: versions that were to be loaded and could not be, and why.

    Raises:
        ConfigError: nothing at ``path``, or none of the versions wanted can be loaded: the highest one's reason.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        policy: VersionPolicy | None = None,
        threads: int | None = None,
        threads_per_call: int | None = None,
        providers: Sequence[str] = (CPU,),
        provider_options: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._path = Path(path)
        self.policy = policy or VersionPolicy()
        self._threads = threads
        self._threads_per_call = threads_per_call
        self._providers = providers
        self._provider_options = provider_options
        self._shapes: dict[_Shapes, None] = {}
        self._models: dict[int, _Loaded] = {}
        self.failures: dict[int, ConfigError] = {}
        self.watched = _has_versions(self._path)
        found = self.find()
        wanted = self.policy.wanted(found)
        if not wanted:
            raise ConfigError(f"{path}: none of the versions wanted is there; there are: {sorted(found)}")
        for version in sorted(wanted):
            try:
                self.add(version, self.load(version))
            except ConfigError as error:
                self.failures[version] = error
        if not self._models:
            raise self.failures[max(wanted)]

    # -- one version -------------------------------------------------------------------------------

    def find(self) -> dict[int, Fingerprint]:
        """The versions that are there now, and what tells whether one has changed; blocking.

        Raises:
            ConfigError: the folder cannot be read, or has gone.
        """
        if not self.watched:
            return {1: ()}
        try:
            return {version: _fingerprint(folder) for version, folder in version_folders(self._path).items()}
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be read ({error.strerror}); put the folder back") from error

    def load(self, version: int) -> OnnxBackend:
        """Load a version and run it once in each shape that calls had lately; blocking, in any thread.

        Raises:
            ConfigError: it is not there, or cannot be served.
        """
        place = self._path
        if self.watched:
            try:
                folder = version_folders(self._path)[version]
            except (OSError, KeyError):
                raise ConfigError(f"{self._path}: version {version} has gone before it was loaded") from None
            place = folder / MODEL_FILE
            if not place.is_file():
                raise ConfigError(f"{folder}: this version has no {MODEL_FILE}; put it there or remove the folder")
        backend = OnnxBackend(
            place,
            threads=self._threads,
            threads_per_call=self._threads_per_call,
            providers=self._providers,
            provider_options=self._provider_options,
            version=version,
        )
        self._warm(backend)
        return backend

    def add(self, version: int, backend: OnnxBackend) -> None:
        """From now on ``infer`` takes calls for this version."""
        self._models[version] = _Loaded(backend)

    def calls(self, version: int) -> int:
        """How many calls of a loaded version are under way."""
        return self._models[version].calls

    def take_out(self, version: int) -> OnnxBackend:
        """``infer`` knows this version no longer; closing it is the caller's business."""
        return self._models.pop(version).backend

    def loaded(self) -> dict[int, Mapping[str, Signature]]:
        """The signatures of each version that ``infer`` takes calls for."""
        return {version: model.backend.signatures for version, model in self._models.items()}

    # -- as a backend ------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The highest version that is loaded."""
        return max(self._models)

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """Those of the highest version."""
        return self._models[self.version].backend.signatures

    async def infer(self, key: BatchKey, columns: Columns, timeout_s: float | None = None) -> Reply:
        model = self._models.get(key.version) if isinstance(key.version, int) else None
        if model is None:
            text = f"Servable not found for request: Specific({key.model}, {key.version})"
            raise BackendRejected(text, code=Code.NOT_FOUND)
        model.calls += 1
        try:
            reply = await model.backend.infer(key, columns, timeout_s)
        finally:
            model.calls -= 1
        self._remember(columns)
        return reply

    async def probe(self) -> None:
        """A session that was opened can be called."""

    async def aclose(self) -> None:
        for model in self._models.values():
            await model.backend.aclose()

    def __repr__(self) -> str:
        return f"OnnxVersions({str(self._path)!r}, loaded={sorted(self._models)})"

    # -- warming up --------------------------------------------------------------------------------

    def _remember(self, columns: Columns) -> None:
        shapes = tuple((name, column.rows, column.shape_class) for name, column in columns.items())
        self._shapes.pop(shapes, None)
        self._shapes[shapes] = None
        if len(self._shapes) > MOST_SHAPES:
            del self._shapes[next(iter(self._shapes))]

    def _warm(self, backend: OnnxBackend) -> None:
        """Run zeros through: memory is laid out and kernels are chosen at the first call of a shape.

        What the model makes of zeros says nothing of what it makes of callers' numbers, so errors do not matter.
        """
        signature = backend.signatures[DEFAULT_SIGNATURE]
        key = BatchKey("warm-up", backend.version, DEFAULT_SIGNATURE)
        for shapes in tuple(self._shapes):
            columns = _zeros(shapes, signature)
            if columns is not None:
                try:
                    backend.run(key, columns)
                except BackendError:
                    continue


def _zeros(shapes: _Shapes, signature: Signature) -> Columns | None:
    """Inputs of these shapes, of the dtypes of the signature; None where it has other inputs."""
    if {name for name, _, _ in shapes} != set(signature.inputs):
        return None
    columns: dict[str, ArrayColumn] = {}
    for name, rows, shape_class in shapes:
        if not isinstance(shape_class, tuple):
            return None
        shape = () if rows is None else (rows, *shape_class[1])
        spec = signature.inputs[name]
        text = spec.dtype == "string"
        array = np.full(shape, b"", object) if text else np.zeros(shape, _dtypes.numpy_dtype(spec.dtype))
        columns[name] = ArrayColumn(array)
    return columns


def _has_versions(path: Path) -> bool:
    """Whether ``path`` is a folder of version folders; False also where it is nothing at all."""
    try:
        return not path.is_file() and not (path / MODEL_FILE).is_file() and bool(version_folders(path))
    except OSError:
        return False


def _fingerprint(folder: Path) -> Fingerprint:
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.stat()) for entry in entries]
    except OSError:  # it is being removed, or cannot be read, which loading it says
        return ()
    return tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in found))
