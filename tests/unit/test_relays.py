"""Tests of batchproxy.relays: calls without a task, through an engine."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import pytest

from batchproxy.core.errors import (
    BackendError,
    BackendLost,
    BackendRejected,
    BackendUnavailable,
    BatchProxyError,
    Code,
    Draining,
)
from batchproxy.core.policy import Policies, Policy
from batchproxy.core.raw import REST, RawCall, RawReply
from batchproxy.engine import Engine, build_engine
from batchproxy.frontends.remote import as_it_came
from tests.remotes import FakeServer
from tests.unit.engines import Answer, submit

CALL = RawCall(REST, "POST", "/v1/models/m:predict", (), b"{}")
GOOD = RawReply(200, "OK", (), b"good")


class Begun:
    """A call that a test ends."""

    def __init__(self, timeout_s: float | None, told: Callable[[RawReply | BackendError], None]) -> None:
        self.timeout_s = timeout_s
        self.told = told
        self.cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1


class QuickServer(FakeServer):
    """Begins every call at once, but for those that come while it is ``busy``."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: asyncio.Queue[Begun] = asyncio.Queue()
        self.busy = False

    def begin(  # type: ignore[override]  # the other one always says no
        self, call: RawCall, timeout_s: float | None, told: Callable[[RawReply | BackendError], None]
    ) -> Begun | None:
        if self.busy:
            return None
        begun = Begun(timeout_s, told)
        self.begun.put_nowait(begun)
        return begun


def an_engine(*servers: QuickServer, idempotent: bool = True) -> Engine:
    """In front of these; no model of theirs is batched."""
    backends = {f"s{number}": server for number, server in enumerate(servers)}
    policy = Policy(batching=False, idempotent=idempotent)
    engine = build_engine("pool", backends, Policies({}, policy), clock=lambda: 100.0)
    for endpoint in engine.scheduler.balancer.endpoints:
        endpoint.up = True
    return engine


async def under_way(engine: Engine, server: QuickServer, deadline: float | None = None) -> tuple[Answer, Begun]:
    """A call that this server has."""
    (answer,) = submit(engine, as_it_came(CALL, deadline))
    return answer, await server.begun.get()


async def test_the_answer_is_there_in_the_turn_in_which_the_server_gave_it() -> None:
    """No task stands between; the time that is left is passed on."""
    engine = an_engine(server := QuickServer())
    answer, begun = await under_way(engine, server, 107.5)
    begun.told(GOOD)

    assert answer.result().raw is GOOD
    assert (7.5, False, 0) == (begun.timeout_s, engine.scheduler.busy, begun.cancelled)
    await engine.aclose()


async def test_calls_leave_no_garbage() -> None:
    """A call and what the server has of it know each other: apart, both go by their reference counts alone."""
    engine = an_engine(server := QuickServer())
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            _, begun = await under_way(engine, server)
            begun.told(GOOD)
        for _ in range(20):
            entry = engine.submit(as_it_came(CALL, None), asyncio.get_running_loop().create_future())
            begun = await server.begun.get()
            engine.discard(entry)
        found = gc.collect()
    finally:
        gc.enable()

    assert found < 20
    await engine.aclose()


async def test_where_something_has_to_be_waited_for_a_task_does_it() -> None:
    """The caller sees no difference."""
    engine = an_engine(server := QuickServer())
    server.busy = True
    (answer,) = submit(engine, as_it_came(CALL, None))

    assert server.answer is (await answer).raw
    await engine.aclose()


async def test_a_call_whose_caller_leaves_is_cancelled() -> None:
    """Its place is free again at once, and what the server says later reaches nobody."""
    engine = an_engine(server := QuickServer())
    answer: Answer = asyncio.get_running_loop().create_future()
    entry = engine.submit(as_it_came(CALL, None), answer)
    begun = await server.begun.get()
    engine.discard(entry)

    assert (1, False, False) == (begun.cancelled, engine.scheduler.busy, answer.done())
    assert 0 == engine.scheduler.balancer.endpoints[0].relayed
    await engine.aclose()


@pytest.mark.parametrize("error", [BackendUnavailable("gone"), BackendLost("gone")])
async def test_a_call_that_did_not_run_goes_elsewhere(error: BackendError) -> None:
    """As with a task: what cannot be reached is left out, and its callers are answered by others."""
    one, other = QuickServer(), QuickServer()
    engine = an_engine(one, other)
    answer, begun = await under_way(engine, one)
    begun.told(error)
    (await other.begun.get()).told(GOOD)

    assert answer.result().raw is GOOD
    assert isinstance(error, BackendLost) == engine.scheduler.balancer.endpoints[0].up
    await engine.aclose()


async def test_the_servers_refusal_is_the_callers() -> None:
    """With the answer as it came."""
    engine = an_engine(server := QuickServer())
    answer, begun = await under_way(engine, server)
    raw = RawReply(400, "Bad", (), b"its own text")
    begun.told(BackendRejected("its own text", code=Code.INVALID_ARGUMENT, raw=raw))

    error = answer.exception()
    assert isinstance(error, BackendRejected)
    assert error.raw is raw
    await engine.aclose()


async def test_the_end_of_the_engine_ends_them() -> None:
    """Whoever waits is told, and the server that nobody does."""
    engine = an_engine(server := QuickServer())
    answer, begun = await under_way(engine, server)

    assert 1 == await engine.aclose()
    assert isinstance(answer.exception(), Draining)
    assert 1 == begun.cancelled


class BrokenServer(QuickServer):
    """Fails in a way that nobody foresaw."""

    def begin(  # type: ignore[override]  # as above
        self, call: RawCall, timeout_s: float | None, told: Callable[[RawReply | BackendError], None]
    ) -> Begun | None:
        raise RuntimeError("unforeseen")


@pytest.mark.parametrize("leaves", [False, True])
async def test_an_unforeseen_failure_is_answered_and_its_place_free_again(leaves: bool) -> None:
    """Once, and not at all where the caller left in between; what else is waiting goes on."""
    engine = an_engine(BrokenServer())
    (first,) = submit(engine, as_it_came(CALL, None))
    (second,) = submit(engine, as_it_came(CALL, None))
    if leaves:
        await asyncio.sleep(0)
        first.cancel()
    outcomes = await asyncio.gather(first, second, return_exceptions=True)

    assert "internal error: RuntimeError. This is a bug." == str(outcomes[1])
    assert isinstance(outcomes[0], asyncio.CancelledError if leaves else BatchProxyError)
    assert (False, 0) == (engine.scheduler.busy, engine.scheduler.balancer.endpoints[0].relayed)
    await engine.aclose()
