"""What was learned, over a restart: one JSON file, replaced as a whole or not at all. Nothing is learned here.

The loop makes a document of plain numbers, an endpoint at a time; a thread writes it. Nothing in the file comes from a
caller: kinds of batch stand in it by model, version, signature and a digest.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from batchproxy.core.balancer import MAX_KINDS, Endpoint
from batchproxy.core.cost import Cost
from batchproxy.core.request import KindName
from batchproxy.engine import Engine
from batchproxy.log import Notices

logger = logging.getLogger("batchproxy.state")

FORMAT = 2
"""Of the document; a file of another one is ignored."""

NAME = "batchproxy-state.json"

EVERY_S = 60.0
"""Seconds between two looks whether there is anything new to write."""

AT_ONCE = 64
"""Costs that are read before the loop gets its turn: about half a millisecond."""


class StateFile:
    """The file of one process.

    Args:
        folder: where it is, or will be; made when it is first written.
        engines: one a pool.
    """

    def __init__(self, folder: str, engines: Sequence[Engine]) -> None:
        self.path = Path(folder, NAME)
        self._engines = engines
        self._notice = Notices(logger)
        self._writing = threading.Lock()
        self._written = b""
        self._former: Any = None  # pools as they were read, but for what endpoints have recalled of them

    def restore(self) -> None:
        """Let the endpoints know what they knew, those that are added later, too.

        What cannot be used is ignored, with one line in the log.
        """
        try:
            self._former = self._read()
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            logger.warning("%s: ignored, and everything is learned anew: %s", self.path, error)
            return
        self._warn([fault for engine in self._engines for fault in self._adopt(engine)])
        logger.info("goes on with what was learned before: %s", self.path)

    def adopt(self, engine: Engine) -> None:
        """One more pool: let its endpoints and models know what they knew."""
        self._warn(self._adopt(engine))

    def _adopt(self, engine: Engine) -> list[str]:
        faults = engine.scheduler.sizes.restore(_within(_within(self._former, engine.name), "models"))
        for endpoint in engine.scheduler.balancer.endpoints:
            faults += self._recall(engine.name, endpoint)
        engine.fleet.recall = lambda endpoint: self._warn(self._recall(engine.name, endpoint))
        return faults

    def _recall(self, pool: str, endpoint: Endpoint) -> list[str]:
        entries = _within(_within(self._former, pool), "endpoints")
        entry = entries.pop(endpoint.name, None) if isinstance(entries, dict) else None
        faults = [] if entry is None else recall(endpoint, entry)
        return [f"endpoint {endpoint.name}: {fault}" for fault in faults]

    def _warn(self, faults: Sequence[str]) -> None:
        if faults:
            logger.warning("%s: %d entries are ignored, the first: %s", self.path, len(faults), faults[0])

    def _read(self) -> object:
        document = orjson.loads(self.path.read_bytes())
        found = _within(document, "format")
        if found != FORMAT:
            raise ValueError(f"its format is {found!r}, and this version reads {FORMAT}")
        return _within(document, "pools")

    async def keep_saving(self, interval_s: float = EVERY_S) -> None:
        """Save every ``interval_s`` seconds, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            await self.save()

    async def save(self) -> None:
        """Write what is known now, if that is not what the file has; where that fails, say so and go on."""
        pools: dict[str, Any] = {}
        for engine in self._engines:
            endpoints = {endpoint.name: await remember(endpoint) for endpoint in engine.scheduler.balancer.endpoints}
            pools[engine.name] = {"endpoints": endpoints, "models": engine.scheduler.sizes.state()}
        try:
            await asyncio.to_thread(self._write, {"format": FORMAT, "pools": pools})
        except OSError as error:
            self._notice(f"{self.path}: cannot be written, so a restart would learn everything anew: {error.strerror}")

    def _write(self, document: Mapping[str, Any]) -> None:
        data = orjson.dumps(document, option=orjson.OPT_INDENT_2)
        with self._writing:  # a write that was given up goes on in its thread, and must not replace a later one
            if data == self._written:
                return
            folder = self.path.parent
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(prefix=f"{NAME}.", dir=folder, delete=False) as file:
                temporary = Path(file.name)
                try:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                    temporary.replace(self.path)
                except OSError:
                    temporary.unlink()
                    raise
            self._written = data


async def remember(endpoint: Endpoint) -> dict[str, Any]:
    """What ``recall`` takes: the limit and all costs, as plain numbers."""
    costs: list[Mapping[str, Any]] = []
    for name, cost in _named(endpoint):
        costs.append({**name._asdict(), "cost": cost.state()})
        if not len(costs) % AT_ONCE:
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    return {"limit": endpoint.limit.state(), "costs": costs}


def _named(endpoint: Endpoint) -> Iterator[tuple[KindName, Cost]]:
    recalled = dict(endpoint.recalled)
    for kind, cost in endpoint.costs().items():
        if cost.known:
            yield KindName.of(kind), cost
    yield from recalled.items()


def recall(endpoint: Endpoint, entry: object) -> list[str]:
    """Let an endpoint know what ``remember`` told; returns what is wrong with the parts that had to be ignored."""
    faults = []
    limit, costs = _within(entry, "limit"), _within(entry, "costs")
    if limit is not None:
        try:
            endpoint.limit.restore(limit)
        except ValueError as fault:
            faults.append(f"limit: {fault}")
    for number, document in enumerate(costs[:MAX_KINDS] if isinstance(costs, list) else ()):
        cost = Cost()
        try:
            name = _name(document)
            cost.restore(_within(document, "cost"))
        except ValueError as fault:
            faults.append(f"costs[{number}]: {fault}")
        else:
            endpoint.recalled[name] = cost
    return faults


def _name(document: object) -> KindName:
    model, version, signature, shapes = (_within(document, key) for key in KindName._fields)
    if not (isinstance(model, str) and isinstance(signature, str) and isinstance(shapes, str)):
        raise ValueError("model, signature and shapes are not texts")  # noqa: TRY004 - the file has a wrong value
    if isinstance(version, bool) or not isinstance(version, int | str | None):
        raise ValueError(f"version is neither a number nor a label: {version!r}")  # noqa: TRY004 - as above
    return KindName(model, version, signature, shapes)


def _within(document: object, key: str) -> Any:
    return document.get(key) if isinstance(document, dict) else None
