"""Three times as many callers as there is room for: who is over is refused at once, who is taken is served rightly."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import as_completed
from itertools import islice

import grpc
import pytest

from tests.faults.scene import GUARD_S, ROUTES, Scene, good, scene
from tests.faults.script import Fault

ROOM = 16
"""Rows of a model that may wait (``max_queued_rows``)."""


@pytest.fixture(scope="module", name="stage", params=ROUTES, ids=lambda route: route.name)
def _stage(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with scene(request.param, models={"*": {"max_queued_rows": ROOM, "max_batch_rows": 8}}) as found:
        yield found


def asked(stage: Scene, model: str, row: int) -> tuple[int, object, str]:
    """A caller's answer: its code, its values, and when it may come again."""
    route = stage.route
    if route.by == "grpc":
        predict = stage.channel.unary_unary(route.method)
        try:
            return 0, route.read_message(predict(route.message(model, [row]), timeout=30)), ""
        except grpc.RpcError as error:
            trailers = dict(error.trailing_metadata())
            return error.code().value[0], None, trailers.get("grpc-retry-pushback-ms", "")
    connection = http.client.HTTPConnection(stage.proxy.rest.removeprefix("http://"), timeout=GUARD_S)
    connection.request("POST", route.path(model), route.body([row]))
    answer = connection.getresponse()
    found = json.loads(answer.read())
    again = answer.headers.get("Retry-After", "")
    connection.close()
    return answer.status, None if "error" in found else route.read(found), again


def test_three_times_too_many(stage: Scene) -> None:
    """A server that does nothing, and three times the callers that may wait: two thirds are refused while it hangs."""
    model, server = stage.model(), stage.server
    server.script.strike(model, Fault.SLOW)
    first = stage.callers.submit(asked, stage, model, 0)
    server.wait_for_waiting(model)
    rows = [stage.row() for _ in range(3 * ROOM)]
    callers = {stage.callers.submit(asked, stage, model, row): row for row in rows}
    over = [*islice(as_completed(callers, GUARD_S), 2 * ROOM)]
    refused = [caller.result() for caller in over]
    waiting = {caller: row for caller, row in callers.items() if caller not in over}
    server.script.forgive(model)
    server.release(model)
    served = {row: caller.result(GUARD_S) for caller, row in waiting.items()}
    after = {row: stage.callers.submit(asked, stage, model, row) for row in (stage.row() for _ in range(ROOM))}

    due = (14, None, "1000") if stage.route.by == "grpc" else (503, None, "1")
    assert [due] * (2 * ROOM) == refused
    assert good(stage.route).code == first.result(GUARD_S)[0]
    assert ROOM == len(served)
    for row, answer in (served | {row: caller.result(GUARD_S) for row, caller in after.items()}).items():
        fine = good(stage.route, row)
        assert (fine.code, fine.values, "") == answer
