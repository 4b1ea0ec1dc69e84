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
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from socket import socket
from typing import Any, NamedTuple

import uvloop

from batchproxy import __version__, log, status
from batchproxy.config import Config, parse_address
from batchproxy.documents import Fingerprint
from batchproxy.engine import Engine
from batchproxy.events import events
from batchproxy.frontends import admin
from batchproxy.frontends.binding import fits
from batchproxy.frontends.cors import CorsRoutes
from batchproxy.frontends.grpc_health import HealthService
from batchproxy.frontends.grpc_routes import GrpcRoutes
from batchproxy.frontends.heavy import SWITCH_S, Heavy
from batchproxy.frontends.listener import HttpRoutes, Listener
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.handover import SELF, Heir, Inheritance, Sockets, inherit
from batchproxy.metrics import Metrics, Tally
from batchproxy.pools import open_pools
from batchproxy.reload import Reload
from batchproxy.state import StateFile
from batchproxy.tasks import Tasks
from batchproxy.wire.base import Limits
from batchproxy.wire.budget import Budget, most_at_once
from batchproxy.wire.http2_limits import Http2Limits

logger = logging.getLogger("batchproxy.app")

YOUNG = 5_000
"""Objects that are made before the collector looks for circles among them. Requests leave none (a test counts), and
with Python's 700 it looked at the requests under way again and again: 5 % of a relay's time (measured)."""


HEAR_OUT_S = 1.0
"""How long a connection that was taken may say nothing while we stop: a request follows within a round trip."""


class Origin(NamedTuple):
    """Where a configuration comes from.

    Attributes:
        read: reads it anew; raises ConfigError.
        paths: the files that it is made of.
        seen: what these were before it was read.
    """

    read: Callable[[], Config]
    paths: Sequence[str]
    seen: Fingerprint


class App:
    """Everything ``batchproxy serve`` runs.

    Args:
        config: what to serve, and where.
        inheritance: sockets that listen already, and the process whose they were.
        origin: of the configuration; None: there will be no other one.

    Raises:
        ConfigError: a model cannot be opened.
    """

    def __init__(self, config: Config, inheritance: Inheritance | None = None, origin: Origin | None = None) -> None:
        self._config = config
        origin = origin or Origin(lambda: config, (), ())
        self.reload = Reload(config, origin.read, self._apply, origin.paths, origin.seen)
        self._inheritance = inheritance or Inheritance()
        self._draining = False
        self._budget = budget = Budget(config.max_buffered_bytes)
        self.metrics = Metrics(lambda: self._engines, lambda: budget.held, self._tallies)
        self._pools = open_pools(config, self.metrics, budget)
        self._engines = self._pools.engines
        self._directory = self._pools.directory
        self._state = None if config.state_dir is None else StateFile(config.state_dir, self._engines)
        self.doors: dict[str, Listener] = {}
        self.admin: Listener | None = None
        self._rest: RestRoutes | None = None
        self._grpc: GrpcRoutes | None = None
        self._heir: Heir | None = None
        self._tasks = Tasks()

    async def start(self) -> None:
        """Listen on every door, then ask the endpoints whether they are up.

        Raises:
            ConfigError: an address cannot be bound.
        """
        config, listen = self._config, self._config.listen
        if self._state is not None:
            self._state.restore()
            self._pools.opened = self._state.adopt
            _ = self._tasks.spawn("save-state", self._state.keep_saving())
        clock = self._engines[0].clock
        if self._inheritance:  # callers come to these sockets already, and are answered as soon as we can do it well
            await self._pools.probe()
        if listen.admin is not None:
            pages = admin.AdminRoutes(not_ready=self.not_ready, metrics=self.metrics.render, status=self.status)
            place = parse_address(listen.admin)
            self.admin = Listener(
                pages,
                None,
                *place,
                inherited=self._inherited("admin", *place),
                limits=admin.LIMITS,
                flag="--admin_port",
                clock=clock,
            )
            await self.admin.start()
        self._rest = RestRoutes(
            self._directory,
            self.metrics,
            clock,
            timeout_s=config.rest_api_timeout_in_ms / 1000,
            deadline_header=config.deadline_header,
            priority_header=config.priority_header,
            ready=self._ready,
        )
        self._grpc = GrpcRoutes(
            self._directory,
            self.metrics,
            clock,
            priority_header=config.priority_header,
            ready=self._ready,
            health=HealthService(self._ready) if config.enable_grpc_healthcheck_service else None,
        )
        rest: HttpRoutes = CorsRoutes(self._rest) if config.rest_api_enable_cors_support else self._rest
        most = most_at_once(config.max_buffered_bytes)
        limits = Limits(body_bytes=min(Limits().body_bytes, most))
        http2_limits = Http2Limits(message_bytes=min(Http2Limits().message_bytes, most))
        listener = partial(
            Listener, rest, self._grpc, limits=limits, http2_limits=http2_limits, budget=self._budget, clock=clock
        )
        for name, address, flag in (("REST", listen.rest, "--rest_api_port"), ("gRPC", listen.grpc, "--port")):
            if address is not None:  # either takes either protocol; the names are what callers expect
                place = parse_address(address)
                self.doors[name] = listener(*place, inherited=self._inherited(name, *place), flag=flag)
        path, flag = listen.grpc_socket_path, "--grpc_socket_path"
        if path is not None:
            inherited = self._inherited("both", "", 0, path)
            self.doors["both"] = listener(unix_path=path, inherited=inherited, flag=flag)
        for door in self.doors.values():
            await door.start()
        self._inheritance.taken()
        await self._pools.probe()
        await self._pools.start(config)
        _ = self._tasks.spawn("watch-configuration", self.reload.keep_watching())

    async def _apply(self, config: Config) -> None:
        """Serve another configuration; see `Reload`."""
        await self._pools.change(config)
        self._config = config

    def hang_up(self) -> None:
        """SIGHUP: read the configuration again."""
        if not self._draining:
            _ = self._tasks.spawn("reload", self.reload.reload("SIGHUP"))

    # -- handing over ------------------------------------------------------------------------------

    def _inherited(self, name: str, host: str, port: int, path: str | None = None) -> Sequence[socket]:
        return self._inheritance.pop(name, lambda one, named: fits(one, host, port, path, named=named))

    def await_heir(self, path: str, relieved: Callable[[], None]) -> None:
        """Let another process take over, which says so through the Unix socket at ``path``.

        Args:
            path: of the socket.
            relieved: called once that process takes connections; `drain` is what has to follow.

        Raises:
            ConfigError: there cannot be a socket.
        """
        inherited = self._inheritance.pop(SELF)
        self._heir = Heir(path, inherited, prepare=self._save_state, sockets=self._sockets, relieved=relieved)
        _ = self._tasks.spawn("heir", self._heir.wait())

    async def _save_state(self) -> None:
        if self._state is not None:
            await self._state.save()

    def _sockets(self) -> Sockets:
        """Those of all doors."""
        sockets = {name: door.binding.sockets() for name, door in self.doors.items()}
        if self.admin is not None:
            sockets["admin"] = self.admin.binding.sockets()
        return sockets

    @property
    def relieved(self) -> bool:
        """Whether another process listens where we did."""
        return self._heir is not None and self._heir.relieved

    # -- stopping ----------------------------------------------------------------------------------

    async def drain(self) -> int:
        """Stop as R6 says: unready at once, listen on for a while, then answer what was taken, within the limit.

        Where another process has taken over, nobody has to be told before the doors are closed.

        Returns:
            How many requests had to be dropped.
        """
        self._draining = True
        doors = [*self.doors.values()]
        if not self.relieved:
            await asyncio.sleep(self._config.drain_delay_s)
        elif self.admin is not None:
            doors.append(self.admin)
        for door in doors:
            door.binding.kept = self.relieved
            await door.stop_listening()
        await self._hear_out()
        finishing = self._tasks.spawn("finish", self._finish())
        late = (await asyncio.wait([finishing], timeout=self._config.drain_timeout_s))[1]
        dropped = sum([waiting.strand() for waiting in self._waiting()]) if late else 0
        await asyncio.gather(*(door.aclose() for door in self.doors.values()))
        if not self.relieved:  # the file is another process's now
            await self._save_state()
        return dropped

    async def _hear_out(self) -> None:
        """Wait for what those are about to ask who have connected and said nothing yet.

        Where another process goes on, for those, too, who keep their connections: with the answer to the next request
        they are told to make another one.
        """
        until = time.monotonic() + HEAR_OUT_S
        while time.monotonic() < until:
            if not any(door.connections if self.relieved else door.silent() for door in self.doors.values()):
                return
            await asyncio.sleep(HEAR_OUT_S / 100)

    async def _finish(self) -> None:
        """Return once everybody is answered; long bodies are read before the engines take nothing new."""
        heavy = self._rest.heavy if self._rest is not None else None
        if heavy is not None:
            await heavy.idle()
        await asyncio.gather(*(engine.drain() for engine in self._pools.answering))
        if heavy is not None:
            await heavy.idle()

    def _waiting(self) -> Sequence[Engine | Heavy]:
        """Where callers wait."""
        engines = self._pools.answering
        return engines if self._rest is None else [*engines, self._rest.heavy]

    async def aclose(self) -> None:
        """Free everything; to be called after ``drain``, when nothing is under way."""
        await self._tasks.aclose()
        for routes in (self._rest, self._grpc):
            if routes is not None:
                await routes.aclose()
        await self._pools.aclose()
        if self.admin is not None:
            await self.admin.aclose()
        if self._heir is not None:
            self._heir.aclose()
        self._inheritance.close()

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
            + "; ".join(
                [
                    *self._pools.faults(engine),
                    *(f"{endpoint.name}: {endpoint.last_error}" for endpoint in engine.scheduler.balancer.endpoints),
                ]
            )
            for engine in self._engines
            if not engine.scheduler.balancer.any_up()
        ]

    def _ready(self) -> bool:
        return not self.not_ready()

    def _tallies(self) -> Iterator[Tally]:
        for result, count in self.reload.counts.items():
            yield Tally("batchproxy_config_reloads", "Configurations read again.", {"result": result}, count)
        for event, count in events.counts.items():
            yield Tally("batchproxy_events", "Changes of state that the log told.", {"event": event}, count)
        yield from self._pools.tallies()

    def status(self) -> Mapping[str, Any]:
        """What the live page shows."""
        return {
            "version": __version__,
            "reasons": self.not_ready(),
            "configuration": self.reload.status(),
            **status.status(self._engines, self.metrics),
        }


def serve(config: Config, takeover: str | None = None, origin: Origin | None = None) -> int:
    """Run the proxy until it is told to stop.

    Args:
        config: what to serve, and where.
        takeover: path of the Unix socket over which the listening sockets come from the process that serves until now,
            and go to the next one; None: there are no such processes.
        origin: of the configuration, to read it again at SIGHUP and when its files change.

    Returns:
        0 after a clean stop; 1 where requests had to be dropped.

    Raises:
        ConfigError: a model cannot be opened or an address cannot be bound.
    """
    log.configure()
    sys.setswitchinterval(SWITCH_S)
    return uvloop.run(_serve(config, takeover, origin))


async def _serve(config: Config, takeover: str | None, origin: Origin | None) -> int:
    stops: asyncio.Queue[str] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stops.put_nowait, signal.Signals(number).name)
    tasks = Tasks()
    app = App(config, inherit(takeover, os.environ), origin)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, app.hang_up)
    try:
        await app.start()
        if takeover is not None:
            app.await_heir(takeover, partial(stops.put_nowait, "another process has taken over"))
        gc.collect()  # a full collection of what start-up left took 17 ms once (measured): none will look at it again
        gc.freeze()
        gc.set_threshold(YOUNG)
        _say_where(app)
        logger.info("%s: finishing what was taken; once more to drop it", await stops.get())
        draining = tasks.spawn("drain", app.drain())
        impatient = tasks.spawn("second-signal", stops.get())
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
