"""The composition root: a configuration becomes objects here, and they start, drain and stop.

No request passes through.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

import uvloop

from batchproxy import __version__, log
from batchproxy.config import Config, parse_address
from batchproxy.frontends.admin import Admin
from batchproxy.frontends.grpc_listener import GrpcListener
from batchproxy.frontends.grpc_routes import GrpcRoutes
from batchproxy.frontends.rest_listener import LINGER_S, RestListener
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.metrics import Metrics
from batchproxy.pools import open_pools
from batchproxy.tasks import Tasks

logger = logging.getLogger("batchproxy.app")


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
        self.metrics = Metrics(lambda: self._engines)
        self._pools = open_pools(config, self.metrics)
        self._engines = self._pools.engines
        self._directory = self._pools.directory
        self.rest: RestListener | None = None
        self.grpc: GrpcListener | None = None
        self.admin: Admin | None = None
        self._rest_routes: RestRoutes | None = None
        self._tasks = Tasks()

    async def start(self) -> None:
        """Listen on every door, then ask the endpoints whether they are up.

        Raises:
            ConfigError: an address cannot be bound.
        """
        config, listen = self._config, self._config.listen
        clock = self._engines[0].clock
        if listen.admin is not None:
            host, port = parse_address(listen.admin)
            self.admin = Admin(host, port, not_ready=self.not_ready, metrics=self.metrics.render, status=self.status)
            await self.admin.start()
        if listen.rest is not None:
            self._rest_routes = RestRoutes(
                self._directory,
                self.metrics,
                clock,
                timeout_s=config.rest_api_timeout_in_ms / 1000,
                deadline_header=config.deadline_header,
            )
            self.rest = RestListener(self._rest_routes, *parse_address(listen.rest))
            await self.rest.start()
        if listen.grpc is not None:
            self.grpc = GrpcListener(GrpcRoutes(self._directory, self.metrics, clock), *parse_address(listen.grpc))
            await self.grpc.start()
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
        if self.rest is not None:
            await self.rest.stop_listening()
        engines = [self._tasks.spawn(f"drain-{engine.name}", engine.drain()) for engine in self._engines]
        grpc = [self._tasks.spawn("drain-grpc", self.grpc.aclose(self._config.drain_timeout_s))] if self.grpc else []
        late = (await asyncio.wait(engines, timeout=self._config.drain_timeout_s))[1]
        dropped = sum([engine.strand() for engine in self._engines]) if late else 0
        if grpc:
            await asyncio.wait(grpc, timeout=LINGER_S)
        if self.rest is not None:
            await self.rest.aclose()
        return dropped

    async def aclose(self) -> None:
        """Free everything; to be called after ``drain``, when nothing is under way."""
        await self._tasks.aclose()
        if self._rest_routes is not None:
            await self._rest_routes.aclose()
        for catalogue in self._pools.catalogues:
            await catalogue.aclose()
        for engine in self._engines:
            await engine.aclose()
        if self.admin is not None:
            await self.admin.aclose()

    def unanswered(self) -> int:
        """How many requests are taken and not answered."""
        return sum(len(engine.scheduler.stranded()) for engine in self._engines)

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
            "models": [
                {
                    "name": name,
                    "pool": engine.name,
                    "max_batch_rows": engine.policies[name].max_batch_rows,
                    "queued_rows": rows,
                    **self.metrics.summary(name),
                }
                for engine in self._engines
                for name, rows in engine.scheduler.queued_rows().items()
            ],
            "endpoints": [
                {
                    "pool": engine.name,
                    "name": endpoint.name,
                    "up": endpoint.up,
                    "last_error": endpoint.last_error,
                    "in_flight": endpoint.in_flight,
                    "max_inflight": endpoint.max_inflight,
                    "relayed": endpoint.relayed,
                    "rows": endpoint.rows,
                }
                for engine in self._engines
                for endpoint in engine.scheduler.balancer.endpoints
            ],
        }


def serve(config: Config) -> int:
    """Run the proxy until it is told to stop.

    Returns:
        0 after a clean stop; 1 where requests had to be dropped.

    Raises:
        ConfigError: a model cannot be opened or an address cannot be bound.
    """
    log.configure()
    return uvloop.run(_serve(config))


async def _serve(config: Config) -> int:
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    tasks = Tasks()
    app = App(config)
    try:
        await app.start()
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
    doors = [
        (door, listener.address)
        for door, listener in (("REST", app.rest), ("gRPC", app.grpc), ("page", app.admin))
        if listener is not None
    ]
    logger.info("serving: %s", ", ".join(f"{door} on {address}" for door, address in doors))
