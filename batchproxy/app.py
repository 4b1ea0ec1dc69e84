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
from batchproxy.backends import Backend, open_backend
from batchproxy.config import Config, PoolConfig, parse_address
from batchproxy.core.errors import ConfigError
from batchproxy.core.shapes import ModelInfo
from batchproxy.engine import Engine, build_engine
from batchproxy.frontends.admin import Admin
from batchproxy.frontends.directory import Directory, Served
from batchproxy.frontends.grpc_listener import GrpcListener
from batchproxy.frontends.grpc_routes import GrpcRoutes
from batchproxy.frontends.rest_listener import LINGER_S, RestListener
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.metrics import Metrics
from batchproxy.tasks import Tasks

logger = logging.getLogger("batchproxy.app")

PROBE_INTERVAL_S = 1.0
"""How often endpoints that are not up are asked again; TF Serving looks for new versions as often."""


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
        self._engines: list[Engine] = []
        self.metrics = Metrics(lambda: self._engines)
        self._directory = Directory(self._open_models())
        self.rest: RestListener | None = None
        self.grpc: GrpcListener | None = None
        self.admin: Admin | None = None
        self._tasks = Tasks()

    def _open_models(self) -> list[Served]:
        policies = {model.name: model.policy() for model in self._config.models}
        served: list[Served] = []
        for pool in self._config.pools:
            models = [model.name for model in self._config.models if model.pool == pool.name]
            if not models:
                continue
            backends = _open_pool(pool)
            engine = build_engine(
                pool.name,
                backends,
                {name: policies[name] for name in models},
                max_inflight=pool.max_inflight,
                max_relayed=pool.max_relayed,
                max_queued_bytes=pool.max_queued_bytes,
                call_timeout_s=self._config.backend_timeout_s,
                observer=self.metrics,
            )
            self._engines.append(engine)
            first = next(iter(backends.values()))
            served += [Served(ModelInfo(name, first.version, first.signatures), engine) for name in models]
        return served

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
            rest = RestRoutes(
                self._directory,
                self.metrics,
                clock,
                timeout_s=config.rest_api_timeout_in_ms / 1000,
                deadline_header=config.deadline_header,
            )
            self.rest = RestListener(rest, *parse_address(listen.rest))
            await self.rest.start()
        if listen.grpc is not None:
            self.grpc = GrpcListener(GrpcRoutes(self._directory, self.metrics, clock), *parse_address(listen.grpc))
            await self.grpc.start()
        for engine in self._engines:
            await engine.probe()
        _ = self._tasks.spawn("probe", self._keep_probing())

    async def _keep_probing(self) -> None:
        while any(not endpoint.up for engine in self._engines for endpoint in engine.scheduler.balancer.endpoints):
            await asyncio.sleep(PROBE_INTERVAL_S)
            for engine in self._engines:
                await engine.probe()

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
        for engine in self._engines:
            await engine.aclose()
        if self.admin is not None:
            await self.admin.aclose()
        await self._tasks.aclose()

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
            "models": [self._model_status(served) for served in self._directory.models()],
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

    def _model_status(self, served: Served) -> Mapping[str, Any]:
        name = served.info.name
        policy = next(model for model in self._config.models if model.name == name)
        return {
            "name": name,
            "version": served.info.version,
            "max_batch_rows": policy.max_batch_rows,
            "queued_rows": served.engine.scheduler.queued_rows()[name],
            **self.metrics.summary(name),
        }


def _open_pool(pool: PoolConfig) -> dict[str, Backend]:
    """The pool's backends by endpoint name; an address given twice is two endpoints, numbered."""
    backends: dict[str, Backend] = {}
    for url in (address.name for address in pool.addresses()):
        number = sum(known == url or known.startswith(f"{url}#") for known in backends)
        try:
            backends[f"{url}#{number + 1}" if number else url] = open_backend(url)
        except ConfigError as error:
            raise ConfigError(f"pool {pool.name!r}: {error.message}") from error
    first, *others = backends.items()
    for name, backend in others:
        if (backend.version, backend.signatures) != (first[1].version, first[1].signatures):
            raise ConfigError(
                f"pool {pool.name!r}: {name} and {first[0]} are not the same model (version or signatures differ); "
                "endpoints of one pool must be; put the other one into a pool of its own"
            )
    return backends


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
