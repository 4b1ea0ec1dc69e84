"""A name whose addresses change, vanish and cannot be asked for; servers of v2 that are killed: nobody notices."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import grpc
import pytest

from tests.faults.resolver import NAME
from tests.faults.scene import ROUTES, V2_GRPC, V2_REST, Route, Said, Scene, good
from tests.faults.server import bad_server
from tests.proxy import Proxy, started
from tests.soak.victim import Victim

ONE, OTHER = "127.0.0.1", "127.0.0.2"


class Crowd:
    """Threads that ask one model without a pause, each time for a row of its own; left, they are all answered.

    Attributes:
        wrong: what was not the right answer.
    """

    def __init__(self, stage: Scene, model: str, threads: int = 4) -> None:
        self.wrong: list[tuple[int, Said]] = []
        self._stage, self._model = stage, model
        self._asked = 0
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(first,)) for first in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, row: int) -> None:
        while not self._ended.is_set():
            row += len(self._threads)
            said = self._stage.ask(self._model, row)
            if said != good(self._stage.route, row):
                self.wrong.append((row, said))
            self._asked += 1

    def go_on(self, answers: int = 20) -> None:
        """Return when so many more were answered."""
        enough = self._asked + answers
        while self._asked < enough:
            pass


@contextmanager
def stage_of(route: Route, proxy: Proxy) -> Iterator[Scene]:
    """Callers of a proxy, whose servers are the test's own matter."""
    with grpc.insecure_channel(proxy.grpc) as channel, ThreadPoolExecutor(1) as callers:
        yield Scene(route, proxy, (), channel, callers)


def endpoints(stage: Scene) -> set[str]:
    """The servers that the proxy knows, as hosts."""
    return {host for host in (ONE, OTHER) for one in stage.status()["endpoints"] if f"{host}:" in one["name"]}


STEPS: Sequence[tuple[str, set[str]]] = (
    (f"{ONE} {OTHER}", {ONE, OTHER}),
    ("EAI_NODATA", {ONE, OTHER}),
    (OTHER, {OTHER}),
    ("EAI_AGAIN", {OTHER}),
    (ONE, {ONE}),
    ("EAI_NONAME", {ONE}),
    (f"{OTHER} {ONE}", {ONE, OTHER}),
    (ONE, {ONE}),
)
"""What the resolver says, one after the other, and which servers are there then."""


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_a_name_flaps(route: Route, tmp_path: Path) -> None:
    """A name has no address, cannot be asked for, has others, and is back, while callers ask: each is answered."""
    said = tmp_path / "said"
    said.write_text(ONE)

    def say(words: str) -> None:
        new = said.with_suffix(".new")
        new.write_text(words)
        new.rename(said)

    with bad_server(ONE) as one, bad_server(OTHER, like=one):
        pools = [{"name": "p", "endpoints": [f"dns+{route.endpoint(one).replace(ONE, NAME)}"]}]
        config = {"pools": pools, "models": [{"name": "*", "pool": "p", "canary_every": 0}], "probe_interval_s": 0.02}
        with (
            started([], config, interpreter=["-m", "tests.faults.resolver", str(said)]) as proxy,
            stage_of(route, proxy) as stage,
        ):
            stage.until_known("m")
            with Crowd(stage, "m") as crowd:
                for words, there in STEPS:
                    failed = proxy.metric("batchproxy_discovery_failures_total")
                    say(words)
                    while endpoints(stage) != there:
                        pass
                    while "EAI" in words and proxy.metric("batchproxy_discovery_failures_total") == failed:
                        pass
                    crowd.go_on()

    assert [] == crowd.wrong


@pytest.mark.parametrize("route", [V2_REST, V2_GRPC], ids=lambda route: route.name)
def test_servers_of_v2_are_killed(route: Route) -> None:
    """SIGKILL for one of two servers, and once it is back for the other one, while callers ask: each is answered."""
    with ExitStack() as stack:
        victims = [Victim("lane", lambda: (0.0, 0.0)) for _ in range(2)]
        for victim in victims:
            stack.callback(victim.kill)
        pools = [{"name": "p", "endpoints": [route.endpoint(victim) for victim in victims]}]
        models = [{"name": "*", "pool": "p", "canary_every": 0}]
        config = {"pools": pools, "models": models, "probe_interval_s": 0.02}
        proxy = stack.enter_context(started([], config))
        stage = stack.enter_context(stage_of(route, proxy))
        stage.until_known("m")
        with Crowd(stage, "m", 8) as crowd:
            for victim in victims:
                crowd.go_on()
                victim.kill()
                crowd.go_on()
                victim.start()
                stage.until_up()

    assert [] == crowd.wrong
