"""The composition root: a configuration becomes objects here, and they start, drain and stop.

No request passes through.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import uvloop

from batchproxy import __version__, log, status
from batchproxy.config import Config, parse_address
from batchproxy.engine import Engine
from batchproxy.frontends import admin
from batchproxy.frontends.cors import CorsRoutes
from batchproxy.frontends.grpc_routes import GrpcRoutes
from batchproxy.frontends.heavy import SWITCH_S, Heavy
from batchproxy.frontends.listener import HttpRoutes, Listener
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.metrics import Metrics
from batchproxy.pools import open_pools
from batchproxy.state import StateFile
from batchproxy.tasks import Tasks
from batchproxy.wire.base import Limits
from batchproxy.wire.budget import Budget, most_at_once
from batchproxy.wire.http2_limits import Http2Limits

logger = logging.getLogger("batchproxy.app")

YOUNG = 5_000
"""Objects that are made before the collector looks for circles among them. Requests leave none (a test counts), and
with Python's 700 it looked at the requests under way again and again: 5 % of a relay's time (measured)."""


class App:
    """Everything ``batchproxy serve`` runs.

    Args:
        config: what to serve, and where.

    Raises:
        ConfigError: a model cannot be opened.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._draining = False
        self._budget = budget = Budget(config.max_buffered_bytes)
        self.metrics = Metrics(lambda: self._engines, lambda: budget.held)
        self._pools = open_pools(config, self.metrics, budget)
        self._engines = self._pools.engines
        self._directory = self._pools.directory
        self._state = None if config.state_dir is None else StateFile(config.state_dir, self._engines)
        self.doors: dict[str, Listener] = {}
        self.admin: Listener | None = None
        self._rest: RestRoutes | None = None
        self._grpc: GrpcRoutes | None = None
        self._tasks = Tasks()

    async def start(self) -> None:
        """Listen on every door, then ask the endpoints whether they are up.

        Raises:
            ConfigError: an address cannot be bound.
        """
        config, listen = self._config, self._config.listen
        if self._state is not None:
            self._state.restore()
            _ = self._tasks.spawn("save-state", self._state.keep_saving())
        clock = self._engines[0].clock
        if listen.admin is not None:
            pages = admin.AdminRoutes(not_ready=self.not_ready, metrics=self.metrics.render, status=self.status)
            self.admin = Listener(
                pages, None, *parse_address(listen.admin), limits=admin.LIMITS, flag="--admin_port", clock=clock
            )
            await self.admin.start()
        self._rest = RestRoutes(
            self._directory,
            self.metrics,
            clock,
            timeout_s=config.rest_api_timeout_in_ms / 1000,
            deadline_header=config.deadline_header,
            priority_header=config.priority_header,
        )
        self._grpc = GrpcRoutes(self._directory, self.metrics, clock, priority_header=config.priority_header)
        rest: HttpRoutes = CorsRoutes(self._rest) if config.rest_api_enable_cors_support else self._rest
        most = most_at_once(config.max_buffered_bytes)
        limits = Limits(body_bytes=min(Limits().body_bytes, most))
        http2_limits = Http2Limits(message_bytes=min(Http2Limits().message_bytes, most))
        listener = partial(
            Listener, rest, self._grpc, limits=limits, http2_limits=http2_limits, budget=self._budget, clock=clock
        )
        for name, address, flag in (("REST", listen.rest, "--rest_api_port"), ("gRPC", listen.grpc, "--port")):
            if address is not None:  # either takes either protocol; the names are what callers expect
                self.doors[name] = listener(*parse_address(address), flag=flag)
        path, flag = listen.grpc_socket_path, "--grpc_socket_path"
        if path is not None:
            self.doors["both"] = listener(unix_path=path, flag=flag)
        for door in self.doors.values():
            await door.start()
        await asyncio.gather(*(engine.probe() for engine in self._engines))
        for engine in self._engines:
            _ = self._tasks.spawn(f"probe-{engine.name}", engine.keep_probing(config.probe_interval_s))

    # -- stopping ----------------------------------------------------------------------------------

    async def drain(self) -> int:
        """Stop as R6 says: unready at once, listen on for a while, then answer what was taken, within the limit.

        Returns:
            How many requests had to be dropped.
        """
        self._draining = True
        await asyncio.sleep(self._config.drain_delay_s)
        for door in self.doors.values():
            await door.stop_listening()
        finishing = self._tasks.spawn("finish", self._finish())
        late = (await asyncio.wait([finishing], timeout=self._config.drain_timeout_s))[1]
        dropped = sum([waiting.strand() for waiting in self._waiting()]) if late else 0
        await asyncio.gather(*(door.aclose() for door in self.doors.values()))
        if self._state is not None:
            await self._state.save()
        return dropped

    async def _finish(self) -> None:
        """Return once everybody is answered; long bodies are read before the engines take nothing new."""
        heavy = self._rest.heavy if self._rest is not None else None
        if heavy is not None:
            await heavy.idle()
        await asyncio.gather(*(engine.drain() for engine in self._engines))
        if heavy is not None:
            await heavy.idle()

    def _waiting(self) -> Sequence[Engine | Heavy]:
        """Where callers wait."""
        return self._engines if self._rest is None else [*self._engines, self._rest.heavy]

    async def aclose(self) -> None:
        """Free everything; to be called after ``drain``, when nothing is under way."""
        await self._tasks.aclose()
        for routes in (self._rest, self._grpc):
            if routes is not None:
                await routes.aclose()
        for catalogue in self._pools.catalogues:
            await catalogue.aclose()
        for engine in self._engines:
            await engine.aclose()
        if self.admin is not None:
            await self.admin.aclose()

    def unanswered(self) -> int:
        """How many requests are taken and not answered."""
        return sum(waiting.unanswered() for waiting in self._waiting())

    # -- being looked at ---------------------------------------------------------------------------

    def not_ready(self) -> list[str]:
        """Why no traffic should come now, a line a reason."""
        if self._draining:
            return ["shutting down"]
        return [
            f"pool {engine.name!r}: no endpoint has answered its probe: "
            + "; ".join(f"{endpoint.name}: {endpoint.last_error}" for endpoint in engine.scheduler.balancer.endpoints)
            for engine in self._engines
            if not engine.scheduler.balancer.any_up()
        ]

    def status(self) -> Mapping[str, Any]:
        """What the live page shows."""
        return {
            "version": __version__,
            "reasons": self.not_ready(),
            **status.status(self._engines, self.metrics),
        }


def serve(config: Config) -> int:
    """Run the proxy until it is told to stop.

    Returns:
        0 after a clean stop; 1 where requests had to be dropped.

    Raises:
        ConfigError: a model cannot be opened or an address cannot be bound.
    """
    log.configure()
    sys.setswitchinterval(SWITCH_S)
    return uvloop.run(_serve(config))


async def _serve(config: Config) -> int:
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    tasks = Tasks()
    app = App(config)
    try:
        await app.start()
        gc.collect()  # a full collection of what start-up left took 17 ms once (measured): none will look at it again
        gc.freeze()
        gc.set_threshold(YOUNG)
        _say_where(app)
        logger.info("%s: finishing what was taken; once more to drop it", signal.Signals(await signals.get()).name)
        draining = tasks.spawn("drain", app.drain())
        impatient = tasks.spawn("second-signal", signals.get())
        await asyncio.wait({draining, impatient}, return_when=asyncio.FIRST_COMPLETED)
        dropped = draining.result() if draining.done() else app.unanswered()
        if dropped or not draining.done():
            logger.error("stopped with %d requests unanswered", dropped)
            _exit_now()
    finally:
        await tasks.aclose()
        await app.aclose()
    logger.info("stopped; everything that was taken is answered")
    return 0


def _exit_now() -> None:
    """End at once with status 1: a model's thread that does not return would hold the interpreter for ever."""
    sys.stderr.flush()
    os._exit(1)


def _say_where(app: App) -> None:
    doors = [f"{name} on {'http://' if name == 'REST' else ''}{door.address}" for name, door in app.doors.items()]
    if app.admin is not None:
        doors.append(f"page on http://{app.admin.address}/")
    logger.info("serving: %s", ", ".join(doors))
