"""The versions of embedded models while the server runs: loaded beside the traffic, switched to, drained, unloaded.

A version lives as in TF Serving (``core/aspired_versions_manager.cc``): it is LOADING, AVAILABLE, UNLOADING, and at its
END, with an error where it could not be loaded. A version is taken out of use only when all those that are wanted in
its place are there, so that there is an answer at every moment, and a broken model changes nothing.

No request passes through here: the directory is told which versions there are, and requests carry theirs from then on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from batchproxy.backends.onnx import OnnxBackend
from batchproxy.backends.onnx_versions import Fingerprint, OnnxVersions
from batchproxy.codecs.tfs_grpc import State, VersionStatus
from batchproxy.core.errors import ConfigError
from batchproxy.core.shapes import ModelInfo
from batchproxy.engine import Engine
from batchproxy.frontends.directory import Directory, Served, Versions
from batchproxy.log import Notices

logger = logging.getLogger("batchproxy.versions")

T = TypeVar("T")

MOST_ENDED = 32
"""Versions at their end that a status still tells of, the highest ones."""


class VersionWatch:
    """Looks after the versions of the models of one pool.

    Args:
        names: what callers call the model.
        copies: the endpoints of the pool, all of one model: a version is served once each of them has it.
        engine: whose requests must be answered before a version is unloaded.
        directory: told which versions there are, for each name.
        labels: label to version.

    Raises:
        ConfigError: a label is for a version that is not there, in TF Serving's words.
    """

    def __init__(
        self,
        names: Sequence[str],
        copies: Sequence[OnnxVersions],
        engine: Engine,
        directory: Directory,
        labels: Mapping[str, int],
    ) -> None:
        self._names = tuple(names)
        self._copies = tuple(copies)
        self._engine = engine
        self._directory = directory
        self._labels = dict(labels)
        self._thread = ThreadPoolExecutor(1, "batchproxy-versions")
        self._notice = Notices(logger)
        self._served: dict[str, dict[int, Served]] = {name: {} for name in self._names}
        self._lines: dict[int, VersionStatus] = {}
        self._found: dict[int, Fingerprint] = {}
        self._broken: dict[int, Fingerprint] = {}
        for copy in self._copies:
            for version, error in copy.failures.items():
                self._failed(version, error)
        everywhere = set.intersection(*(set(copy.loaded()) for copy in self._copies))
        for label, version in self._labels.items():
            if version not in everywhere:
                raise ConfigError(
                    f"Request to assign label to version {version} of model {self._names[0]}, which is not currently "
                    f"available for inference: label {label!r} needs one of {sorted(everywhere)}"
                )
        for version in everywhere:
            self._serve(version)
        self._publish()

    @property
    def watched(self) -> bool:
        """Whether there can be other versions later."""
        return any(copy.watched for copy in self._copies)

    async def keep_looking(self, interval_s: float) -> None:
        """Look every ``interval_s`` seconds, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            await self.look()

    async def look(self) -> None:
        """Look for versions, load the new ones, and unload those that nobody uses any more."""
        try:
            found = await self._in_thread(self._find)
        except ConfigError as error:
            self._notice(f"model {self._names[0]!r}: {error.message}; what is loaded is served on")
            return
        settled = {version for version, print_ in found.items() if self._found.get(version) == print_}
        self._found = found
        wanted = self._copies[0].policy.wanted(found)
        for version in sorted(wanted - set(self._available())):
            if version in settled and self._broken.get(version) != found[version]:  # else it is still being written
                await self._load(version, found[version])
        available = set(self._available())
        if wanted and wanted <= available:
            for version in available - wanted:
                self._retire(version)
        await self._unload_idle()

    async def aclose(self) -> None:
        """Stop; the models are closed by their engine."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    # -- a version's life --------------------------------------------------------------------------

    def _find(self) -> dict[int, Fingerprint]:
        first, *others = [copy.find() for copy in self._copies]
        return {version: print_ for version, print_ in first.items() if all(version in other for other in others)}

    async def _load(self, version: int, fingerprint: Fingerprint) -> None:
        self._say(version, State.LOADING)
        self._publish()
        started = time.monotonic()
        loaded: list[OnnxBackend] = []
        try:
            for copy in self._copies:
                backend = await self._in_thread(partial(copy.load, version))
                loaded.append(backend)
        except ConfigError as error:
            for backend in loaded:
                await backend.aclose()
            self._broken[version] = fingerprint
            self._failed(version, error)
            self._publish()
            return
        self._broken.pop(version, None)
        for copy, backend in zip(self._copies, loaded, strict=True):
            copy.add(version, backend)
        self._serve(version)
        self._publish()
        seconds = time.monotonic() - started
        logger.info("model %r: version %d is available, loaded in %.1f s", self._names[0], version, seconds)

    def _failed(self, version: int, error: ConfigError) -> None:
        self._lines[version] = VersionStatus(version, State.END, error.code, error.message)
        others = sorted(self._available()) or "no other version"
        logger.error(
            "model %r: version %d cannot be loaded: %s It is tried again when its files change; served on: %s",
            self._names[0],
            version,
            f"{error.message.rstrip('.')}.",
            others,
        )

    def _serve(self, version: int) -> None:
        signatures = self._copies[0].loaded()[version]
        for name in self._names:
            self._served[name][version] = Served(ModelInfo(name, version, signatures), self._engine)
        self._say(version, State.AVAILABLE)

    def _retire(self, version: int) -> None:
        """No new request gets this version; those that have it are answered by it."""
        for name in self._names:
            del self._served[name][version]
        self._say(version, State.UNLOADING)
        self._publish()
        logger.info("model %r: version %d answers what it was asked, then it is unloaded", self._names[0], version)

    async def _unload_idle(self) -> None:
        for version in [line.version for line in self._lines.values() if line.state is State.UNLOADING]:
            if self._is_used(version):
                continue
            for copy in self._copies:
                backend = copy.take_out(version)
                await backend.aclose()
                await self._in_thread(backend.release)
            self._say(version, State.END)
            self._publish()
            logger.info("model %r: version %d is unloaded", self._names[0], version)

    def _is_used(self, version: int) -> bool:
        if any(copy.calls(version) for copy in self._copies):
            return True
        return self._engine.wants(version)

    # -- what is told ------------------------------------------------------------------------------

    def _available(self) -> Mapping[int, Served]:
        return self._served[self._names[0]]

    def _say(self, version: int, state: State) -> None:
        self._lines[version] = VersionStatus(version, state)
        ended = sorted(line.version for line in self._lines.values() if line.state is State.END)
        for old in ended[:-MOST_ENDED]:
            del self._lines[old]

    def _publish(self) -> None:
        statuses = tuple(self._lines.values())
        for name in self._names:
            self._directory.publish(name, Versions(dict(self._served[name]), statuses, self._labels))

    def _in_thread(self, work: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)
