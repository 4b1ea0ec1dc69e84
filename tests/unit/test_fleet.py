"""Tests of batchproxy.fleet: endpoints that are added and removed while calls are under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from batchproxy.core.errors import BackendError, BackendRejected, BackendUnavailable, Code, NoEndpoint
from batchproxy.engine import Engine
from batchproxy.fleet import MISSED
from batchproxy.testing import FIXED, FakeBackend, a_request
from tests.unit.engines import an_engine, held, numbers, single, submit


class Sick(FakeBackend):
    """Does not answer its probe."""

    async def probe(self) -> None:
        raise BackendUnavailable("still loading")


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - the loop does the rest in its next turns; there is no event for it
        await asyncio.sleep(0)


async def _turns() -> None:
    """What was asked for is taken in, and has left if it may."""
    for _ in range(3):
        await asyncio.sleep(0)


async def _until_up(engine: Engine, name: str) -> None:
    await _until(lambda: any(each.up and each.name == name for each in engine.scheduler.balancer.endpoints))


async def _until_closed(backend: FakeBackend) -> None:
    await _until(lambda: backend.closed)


async def test_added_endpoint_is_probed_and_used() -> None:
    """At once, without a round of probes."""
    engine = an_engine(first := FakeBackend())
    gate, running = await held(engine, first, single(0))
    waiting = submit(engine, single(1))

    engine.fleet.add("new", second := FakeBackend())

    assert [[1]] == await numbers(waiting)
    assert [[1]] == second.calls
    gate.release()
    await numbers(running)


async def test_added_endpoint_that_does_not_answer_is_not_used() -> None:
    """Its reason can be read; the next round of probes asks again."""
    engine = an_engine(FakeBackend())

    engine.fleet.add("new", sick := Sick())
    await engine.probe()

    endpoint = engine.scheduler.balancer.endpoints[1]
    assert (False, "still loading") == (endpoint.up, endpoint.last_error)
    assert [[0]] == await numbers(submit(engine, single(0)))
    assert [] == sick.calls


async def test_name_is_taken_once() -> None:
    """Two endpoints of one name could not be told apart."""
    engine = an_engine(FakeBackend())

    with pytest.raises(ValueError, match="e0 is in the pool already"):
        engine.fleet.add("e0", FakeBackend())


@pytest.mark.parametrize("comes", [True, False], ids=["one_comes", "one_goes"])
async def test_who_was_left_out_is_used_at_once_when_few_are_well(comes: bool) -> None:
    """One more that does not answer yet, or one that goes: who waits does not wait for the next sweep."""
    backends = [FakeBackend() for _ in range(2 if comes else 3)]
    engine = an_engine(*backends)
    out, *others = engine.scheduler.balancer.endpoints
    engine.scheduler.health.outliers._eject(out, 0.0, "it fails")
    busy = [await held(engine, backend, single(number)) for number, backend in enumerate(backends[1:])]
    waiting = submit(engine, single(7))
    await _turns()
    left_out = list(backends[0].calls)

    if comes:
        engine.fleet.add("new", Sick())
    else:
        engine.fleet.take_out(others[-1], BackendUnavailable("refused"))
    await _turns()

    assert ([], [[7]]) == (left_out, backends[0].calls)
    for gate, _ in busy:
        gate.release()
    assert [[7]] == await numbers(waiting)


async def test_removed_endpoint_ends_what_it_has() -> None:
    """The call in flight is answered, then its backend is closed; what waits goes elsewhere."""
    engine = an_engine(first := FakeBackend(), second := FakeBackend())
    gate, running = await held(engine, first, single(0))
    other, more = await held(engine, second, single(1))
    waiting = submit(engine, single(2))

    engine.fleet.remove("e0")
    await asyncio.sleep(0)
    closed_early = first.closed
    gate.release()
    other.release()

    assert [[0], [1], [2]] == await numbers([*running, *more, *waiting])
    assert not closed_early
    await _until_closed(first)
    assert [[0]] == first.calls
    assert [[1], [2]] == second.calls
    assert ["e1"] == list(engine.backends)


async def test_idle_endpoint_is_closed_when_it_is_removed() -> None:
    """There is nothing to wait for."""
    engine = an_engine(first := FakeBackend(), FakeBackend())

    engine.fleet.remove("e0")

    await _until_closed(first)
    assert [[0]] == await numbers(submit(engine, single(0)))


async def test_without_the_last_endpoint_waiting_callers_are_told() -> None:
    """What is in flight is answered all the same."""
    engine = an_engine(backend := FakeBackend())
    gate, running = await held(engine, backend, single(0))
    waiting = submit(engine, single(1))

    engine.fleet.remove("e0")

    with pytest.raises(NoEndpoint, match="the pool has none at present"):
        await waiting[0]
    gate.release()
    assert [[0]] == await numbers(running)
    await _until_closed(backend)
    with pytest.raises(NoEndpoint):
        await numbers(submit(engine, single(2)))


async def test_name_comes_back_while_its_last_call_runs() -> None:
    """The old backend keeps its call, the new one gets the next."""
    engine = an_engine(old := FakeBackend())
    gate, running = await held(engine, old, single(0))

    engine.fleet.remove("e0")
    engine.fleet.add("e0", new := FakeBackend())
    await _until_up(engine, "e0")
    later = await numbers(submit(engine, single(1)))
    gate.release()

    assert ([[1]], [[0]]) == (later, await numbers(running))
    assert ([[0]], [[1]]) == (old.calls, new.calls)
    await _until_closed(old)
    assert not new.closed


async def test_relay_that_was_bound_before_still_goes() -> None:
    """It has its place at the endpoint, whose backend waits for it."""
    engine = an_engine(first := FakeBackend())
    answers = submit(engine, a_request(first=7, signature=FIXED))
    engine._take_in(0.0)

    engine.fleet.remove("e0")

    assert [[7]] == await numbers(answers)
    await _until_closed(first)


async def test_stream_keeps_a_removed_endpoint_open() -> None:
    """A borrowed server is closed once it is given back."""
    engine = an_engine(first := FakeBackend(), FakeBackend())
    engine.scheduler.balancer.endpoints[1].rows = 5  # so that the other one is borrowed

    with engine.borrow() as server:
        engine.fleet.remove("e0")
        await asyncio.sleep(0)
        closed_early = first.closed

    assert isinstance(server, FakeBackend)
    assert first is server
    assert not closed_early
    await _until_closed(first)


async def test_stream_goes_to_a_server_that_has_its_model() -> None:
    """Not to one that said it has not, however little that has to do; a stream of another model may."""
    engine = an_engine(first := FakeBackend(), second := FakeBackend())
    balancer, key = engine.scheduler.balancer, a_request().key
    without, having = balancer.endpoints
    assert balancer.placement.lacks(without, key.model, key.version, balancer.endpoints, lambda line: None)
    having.rows = 5

    with engine.borrow(key=key) as server, engine.borrow(key=key._replace(model="other")) as other:
        found: list[object] = [server, other]

    assert [second, first] == found


async def test_call_that_fails_on_a_removed_endpoint_goes_elsewhere() -> None:
    """And its failure takes nothing out."""
    engine = an_engine(first := FakeBackend(), second := FakeBackend())
    first.script.append(BackendUnavailable("gone"))
    gate, running = await held(engine, first, single(0))

    engine.fleet.remove("e0")
    gate.release()

    assert [[0]] == await numbers(running)
    assert [[0]] == second.calls
    await _until_closed(first)


async def test_probe_that_ends_after_the_removal_changes_nothing() -> None:
    """Whatever it says."""

    class Slow(FakeBackend):
        def __init__(self, error: BackendUnavailable | None) -> None:
            super().__init__()
            self.asked, self.go, self._error = asyncio.Event(), asyncio.Event(), error

        async def probe(self) -> None:
            self.asked.set()
            await self.go.wait()
            if self._error is not None:
                raise self._error

    for error in (None, BackendUnavailable("no")):
        engine = an_engine(FakeBackend())
        engine.fleet.add("new", slow := Slow(error))
        await slow.asked.wait()
        endpoint = engine.scheduler.balancer.endpoints[1]
        engine.fleet.remove("new")
        slow.go.set()
        await _until_closed(slow)

        assert (False, "removed from the pool") == (endpoint.up, endpoint.last_error)
        await engine.fleet._probe(endpoint)  # one that was due at that moment


async def test_close_closes_what_is_leaving() -> None:
    """A call on a removed endpoint is ended like any other."""
    engine = an_engine(backend := FakeBackend())
    _, running = await held(engine, backend, single(0))
    engine.fleet.remove("e0")

    await engine.aclose()

    assert backend.closed
    with pytest.raises(Exception, match="shut down") as raised:
        await running[0]
    assert Code.UNAVAILABLE == raised.value.code  # type: ignore[attr-defined]


class Ailing(FakeBackend):
    """Says what it is told to of its health.

    Attributes:
        ails: what it says; None: it is well.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ails: BackendError | None = None

    async def probe(self) -> None:
        if self.ails is not None:
            raise self.ails


NOT_READY, LATE = BackendUnavailable("not ready"), BackendRejected("Deadline Exceeded", code=Code.DEADLINE_EXCEEDED)


@pytest.mark.parametrize(("ails", "times"), [(NOT_READY, 1), (LATE, MISSED)])
async def test_endpoint_that_ails_is_left_out_until_it_is_well(ails: BackendError, times: int) -> None:
    """At once where it says so, else when it has not answered several times in a row."""
    engine = an_engine(first := Ailing(), second := Ailing())
    one, _ = engine.scheduler.balancer.endpoints
    used = []

    second.ails = ails
    for _ in range(MISSED):
        first.ails = ails
        await engine.fleet.check()
        used.append(one.up)
        second.ails = None
    first.ails = None
    await engine.probe()

    assert [True] * (times - 1) == used[: times - 1]
    assert not used[times - 1]
    assert one.up


async def test_missed_questions_count_in_a_row_only() -> None:
    """One answer, and it is as good as any."""
    engine = an_engine(first := Ailing(), Ailing())
    for asked in range(3 * MISSED):
        first.ails = LATE if asked % MISSED else None
        await engine.fleet.check()

    assert engine.scheduler.balancer.endpoints[0].up


async def test_the_last_endpoint_stays() -> None:
    """Callers may as well hear from it what is wrong."""
    engine = an_engine(first := Ailing(), second := Ailing())
    first.ails = second.ails = NOT_READY
    await engine.fleet.check()
    await engine.fleet.check()

    assert 1 == sum(endpoint.up for endpoint in engine.scheduler.balancer.endpoints)


async def test_endpoint_that_goes_while_it_is_asked() -> None:
    """It is not missed."""
    engine = an_engine(first := Ailing(), Ailing())
    first.ails = LATE
    await engine.fleet.check()
    gone = engine.scheduler.balancer.endpoints[0]
    asking = asyncio.ensure_future(engine.fleet.check())
    engine.fleet.remove(gone.name)
    await asking

    assert 1 == len(engine.scheduler.balancer.endpoints)
