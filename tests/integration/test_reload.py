"""Configurations and addresses that change under a running proxy, while callers ask without a pause."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.proxy import Proxy, ask, started
from tests.remote import PLUG
from tests.tfserving.fixture import Server, running_server

LISTEN = dict.fromkeys(("rest", "grpc", "admin"), "127.0.0.1:0")
PICKY = "python:tests.models:picky"


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Server]]:
    """Two servers of the same model."""
    with running_server(models=[PLUG]) as one, running_server(models=[PLUG]) as other:
        yield [one, other]


class Callers:
    """Threads that ask one model without a pause."""

    def __init__(self, proxy: Proxy, model: str, threads: int = 4) -> None:
        self.answers: Counter[object] = Counter()
        self._proxy, self._model = proxy, model
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        while not self._ended.is_set():
            number += len(self._threads)
            status, body = self._proxy.post(f"/v1/models/{self._model}:predict", {"instances": [float(number)]})
            right = status == 200 and json.loads(body) == {"predictions": [number / 2 + 2]}
            self.answers["right" if right else (status, body)] += 1

    def wait_for(self, more: int) -> None:
        """Return when so many more answers have come."""
        enough = self.answers.total() + more
        while self.answers.total() < enough:
            pass

    def end(self) -> Counter[object]:
        """What they got, by kind."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        return self.answers


def until(true: Callable[[], bool]) -> None:
    """Look until it is so."""
    while not true():
        pass


def write(path: Path, **config: Any) -> None:
    """Replace a configuration file in one step."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"listen": LISTEN, **config}))
    new.rename(path)


def status_of(proxy: Proxy) -> Any:
    """What the page shows."""
    return json.loads(proxy.get(f"{proxy.admin}/status.json")[1])


def reloads(proxy: Proxy, result: str) -> float:
    """How many configurations were applied, or refused."""
    return proxy.metric("batchproxy_config_reloads_total", result=result)


def test_another_configuration_loses_nobody(tmp_path: Path) -> None:
    """Policies change in place, models and pools come and go, one is opened anew; SIGHUP or the file alone."""
    path = tmp_path / "a.json"
    half = {"name": "half", "endpoints": [PICKY]}
    write(path, pools=[half], models=[{"name": "picky", "pool": "half"}])
    with started([f"--config={path}"]) as proxy:
        callers = Callers(proxy, "picky")
        callers.wait_for(20)
        write(path, pools=[half], models=[{"name": "picky", "pool": "half", "max_batch_rows": 7}])
        proxy.process.send_signal(signal.SIGHUP)
        until(lambda: reloads(proxy, "applied") >= 1)
        rows = [model["max_batch_rows"] for model in status_of(proxy)["models"]]
        callers.wait_for(20)
        more = {"name": "more", "endpoints": [PICKY, PICKY]}
        write(
            path,
            pools=[{**half, "max_inflight": 2}, more],
            models=[{"name": "picky", "pool": "half"}, {"name": "second", "pool": "more"}],
        )
        until(lambda: reloads(proxy, "applied") >= 2)
        second = proxy.post("/v1/models/second:predict", {"instances": [1.0]})[0]
        callers.wait_for(20)
        write(path, pools=[more], models=[{"name": "picky", "pool": "more"}])
        until(lambda: reloads(proxy, "applied") >= 3)
        callers.wait_for(20)
        gone = proxy.post("/v1/models/second:predict", {"instances": [1.0]})[0]
        pools = {endpoint["pool"] for endpoint in status_of(proxy)["endpoints"]}
        found = callers.end()
        end = proxy.stop()

    assert {"right"} == set(found), found
    assert [7] == rows
    assert (200, 404) == (second, gone)
    assert {"more"} == pools
    assert 0 == end


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ({"models": [{"name": "picky", "pool": "nobody"}]}, "no pool is named 'nobody'"),
        ({"pools": [{"name": "half", "endpoints": ["onnx:nowhere"]}]}, "pool 'half'"),
        ({"drain_delay": 1}, "unknown key"),
    ],
)
def test_a_wrong_configuration_changes_nothing(tmp_path: Path, fault: dict[str, Any], text: str) -> None:
    """Why is on the page, in one line of the log, however often it is read, and counted; then a right one is served."""
    path = tmp_path / "a.json"
    right: dict[str, Any] = {
        "pools": [{"name": "half", "endpoints": [PICKY]}],
        "models": [{"name": "picky", "pool": "half"}],
    }
    write(path, **right)
    with started([f"--config={path}"]) as proxy:
        write(path, **{**right, **fault})
        until(lambda: reloads(proxy, "refused") >= 1)
        proxy.process.send_signal(signal.SIGHUP)
        until(lambda: reloads(proxy, "refused") >= 2)
        told = status_of(proxy)["configuration"]["fault"]
        served = proxy.post("/v1/models/picky:predict", {"instances": [1.0]})[0]
        write(path, **right)
        until(lambda: reloads(proxy, "applied") >= 1)
        after = status_of(proxy)["configuration"]["fault"]
        proxy.stop()

    assert text in told
    assert (200, "") == (served, after)
    assert 1 == sum("the new configuration is refused" in line and text in line for line in proxy.log)


def test_what_needs_a_restart_is_named(tmp_path: Path) -> None:
    """The rest is served."""
    path = tmp_path / "a.json"
    write(path, pools=[{"name": "p", "endpoints": [PICKY]}], models=[{"name": "picky", "pool": "p"}])
    with started([f"--config={path}"]) as proxy:
        write(
            path,
            pools=[{"name": "p", "endpoints": [PICKY]}],
            models=[{"name": "other", "pool": "p"}],
            listen={**LISTEN, "rest": "127.0.0.1:1"},
            state_dir="state",
        )
        until(lambda: reloads(proxy, "applied") >= 1)
        named = status_of(proxy)["configuration"]["needs_restart"]
        served = proxy.post("/v1/models/other:predict", {"instances": [1.0]})[0]
        proxy.stop()

    assert ["listen.rest", "state_dir"] == named
    assert 200 == served
    assert any("other values of listen.rest, state_dir, which hold after a restart" in line for line in proxy.log)


def doors(*servers: Server) -> str:
    """A line each."""
    return "".join(f"grpc://{server.grpc},http://{server.rest}\n" for server in servers)


@pytest.mark.parametrize("found", ["file", "configuration"])
def test_servers_come_and_go_without_losing_a_request(servers: list[Server], tmp_path: Path, found: str) -> None:
    """From one to the other and back, so that no server stays; what names none changes nothing."""
    path, listed = tmp_path / "a.json", tmp_path / "servers"
    models = [{"name": PLUG, "pool": "p"}]

    def name(*names: Server) -> None:
        if found == "file":
            listed.with_suffix(".new").write_text(doors(*names))
            listed.with_suffix(".new").rename(listed)
        else:
            write(path, pools=[{"name": "p", "endpoints": doors(*names).split()}], models=models)

    one, other = servers
    name(one)
    if found == "file":
        write(path, pools=[{"name": "p", "endpoints": [f"file:{listed}"]}], models=models)
    with started([f"--config={path}"]) as proxy:
        callers = Callers(proxy, PLUG)
        for named in ((one, other), (other,), (one,), (other, one), (one,)):
            callers.wait_for(20)
            name(*named)
            expected = {f"grpc://{server.grpc},http://{server.rest}" for server in named}
            until(lambda: {endpoint["name"] for endpoint in status_of(proxy)["endpoints"]} == expected)  # noqa: B023
        if found == "file":
            listed.write_text("nothing")
            until(lambda: proxy.metric("batchproxy_discovery_failures_total") > 0)
        callers.wait_for(20)
        answers = callers.end()
        added = proxy.metric("batchproxy_endpoint_changes_total", change="added")
        end = proxy.stop()

    assert {"right"} == set(answers), answers
    assert 3 == added
    assert 0 == end
    assert (found == "file") is any("what was found before stays in use" in line for line in proxy.log)


def test_a_name_is_looked_up(servers: list[Server], tmp_path: Path) -> None:
    """``localhost``, by the system; a name that nobody knows is why the pool is not ready."""
    ports = [place.rpartition(":")[2] for place in (servers[0].grpc, servers[0].rest)]
    path = tmp_path / "a.json"
    pools = [
        {"name": "p", "endpoints": [f"dns+grpc://localhost:{ports[0]},http://localhost:{ports[1]}"]},
        {"name": "q", "endpoints": [f"dns+grpc://no-such-host.invalid:{ports[0]}"]},
    ]
    write(path, pools=pools, models=[{"name": PLUG, "pool": "p"}, {"name": "other", "pool": "q"}])
    with started([f"--config={path}"]) as proxy:
        answer = proxy.post(f"/v1/models/{PLUG}:predict", {"instances": [1.0]})
        ready = ask(f"{proxy.admin}/readyz")
        names = {endpoint["name"] for endpoint in status_of(proxy)["endpoints"]}
        proxy.stop()

    assert (200, {"predictions": [2.5]}) == (answer[0], json.loads(answer[1]))
    assert f"grpc://127.0.0.1:{ports[0]},http://127.0.0.1:{ports[1]}" in names
    assert 503 == ready[0]
    assert b"no-such-host.invalid" in ready[1]
