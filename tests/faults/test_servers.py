"""Faults of a server as a whole: it dies, refuses, comes and goes, tells nothing of its models. And callers who go."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from tests.faults.scene import PLUG, ROUTES, Route, Said, Scene, good, scene, told
from tests.faults.script import Fault

UNAVAILABLE = {"rest": 503, "grpc": 14}


@pytest.fixture(scope="module", name="stage", params=ROUTES, ids=lambda route: route.name)
def _stage(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with scene(request.param) as found:
        yield found


def died(stage: Scene) -> list[int]:
    """The first server dies with four callers' batch in flight; returns what they were told, as codes."""
    model, server = stage.model(), stage.server
    rows = [stage.row() for _ in range(4)]
    callers = stage.together(model, rows, lambda: server.script.strike(model, Fault.HANG))
    server.wait_for_waiting(model)
    server.refuse()
    answers = told(callers)
    server.script.forgive(model)
    server.listen()
    stage.until_up()
    row = stage.row()

    assert good(stage.route, row) == stage.ask(model, row)
    assert all(good(stage.route, row) == said for row, said in zip(rows, answers, strict=True) if said.values)
    return [said.code for said in answers]


def test_dies(stage: Scene) -> None:
    """The only server dies under a batch: its callers are told so, and the next one is served once it is back."""
    assert [UNAVAILABLE[stage.route.by]] * 4 == died(stage)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_dies_beside_another(route: Route) -> None:
    """One of two servers dies under a batch: the other one answers it, and nobody notices."""
    with scene(route, servers=2) as stage:
        assert [good(route).code] * 4 == died(stage)


def test_refuses(stage: Scene) -> None:
    """Nobody listens: callers are told at once, with the server's name, and served as soon as somebody does."""
    model = stage.model()
    stage.server.refuse()
    while stage.status()["endpoints"][0]["up"]:
        stage.ask(model, stage.row())
    said = stage.ask(model, stage.row())
    stage.server.listen()
    stage.until_up()
    row = stage.row()

    assert UNAVAILABLE[stage.route.by] == said.code
    assert stage.server.rest in said.text or stage.server.grpc in said.text
    assert good(stage.route, row) == stage.ask(model, row)


def test_flaps(stage: Scene) -> None:
    """A server comes and goes: whoever gets values gets the right ones, everybody else UNAVAILABLE."""
    model = stage.model()
    answers: list[tuple[int, Said]] = []
    for _ in range(5):
        rows = [stage.row() for _ in range(8)]
        callers = [stage.callers.submit(stage.ask, model, row) for row in rows]
        stage.server.refuse()
        answers += zip(rows, told(callers), strict=True)
        stage.server.listen()
        stage.until_up()

    assert {UNAVAILABLE[stage.route.by]} >= {said.code for _, said in answers if said.values is None}
    assert all(good(stage.route, row) == said for row, said in answers if said.values is not None)


def test_no_metadata(stage: Scene) -> None:
    """Nothing is known of a model: each request goes alone, rightly, until the server tells; bridged ones are told."""
    script, model = stage.server.script, f"deaf-{stage.row()}"
    script.deaf.add(model)
    rows = [stage.row() for _ in range(4)]
    stage.until_up()
    answers = [stage.ask(model, row) for row in rows]
    script.deaf.remove(model)
    stage.until_known(model)

    if stage.route.name == "bridged":
        assert {500} == {said.code for said in answers}
        assert all("out of order" in said.text for said in answers)
    else:
        assert [good(stage.route, row) for row in rows] == answers
        assert [(row,) for row in rows] == script.rows_of(model)[:4]


def test_callers_go(stage: Scene) -> None:
    """Two of four callers give up while their batch is in flight: the others get their own rows' answers."""
    model, server = stage.model(), stage.server
    rows = [stage.row() for _ in range(4)]
    gone = [stage.row() for _ in range(2)]
    leavers = [Leaver(stage, model, row) for row in gone]
    callers = stage.together(model, rows, lambda: server.script.strike(model, Fault.SLOW), others=leavers)
    server.wait_for_waiting(model)
    for leaver in leavers:
        leaver.leave()
    server.script.forgive(model)
    server.release(model)

    assert [good(stage.route, row) for row in rows] == told(callers)
    assert sorted(rows + gone) in [sorted(call) for call in server.script.rows_of(model)]


class Leaver:
    """A caller that asks and does not wait for the answer."""

    def __init__(self, stage: Scene, model: str, row: int) -> None:
        self.stage, self.model, self.row = stage, model, row

    def ask(self) -> None:
        """Send the request."""
        route = self.stage.route
        if route.by == "grpc":
            predict = self.stage.channel.unary_unary(route.method)
            self._call: grpc.Future = predict.future(route.message(self.model, [self.row]), timeout=30)
            return
        self._socket = self.stage.connect()
        body = route.body([self.row])
        head = f"POST {route.path(self.model)} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body)

    def leave(self) -> None:
        """Go away."""
        if self.stage.route.by == "grpc":
            self._call.cancel()
        else:
            self._socket.close()


def test_the_plug_is_no_model_of_a_test(stage: Scene) -> None:
    """Tests name their models otherwise."""
    assert PLUG != stage.model()
