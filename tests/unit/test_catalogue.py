"""What a pool's servers say of their models: asked once, kept per version, asked again in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from batchproxy.catalogue import KEPT_S, MAX_AGE_S, MAX_FETCHES, RENEW_S, Catalogue
from batchproxy.core.errors import BackendRejected, BackendUnavailable, BatchProxyError, Code, UnknownModel
from batchproxy.core.request import Version
from batchproxy.core.shapes import UNDECLARED, ModelInfo
from batchproxy.testing import ManualClock


class Server:
    """Answers metadata questions when its gate is open."""

    def __init__(self) -> None:
        self.version = 1
        self.asked: list[tuple[str, Version]] = []
        self.error: BatchProxyError | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def fetch(self, model: str, version: Version) -> ModelInfo:
        self.asked.append((model, version))
        await self.open.wait()
        if self.error is not None:
            raise self.error
        concrete = version if isinstance(version, int) else self.version
        return ModelInfo(model, concrete, {"serving_default": UNDECLARED})


class Alarm:
    """A timer that rings when it is told to."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Stage:
    """A catalogue whose time stands still."""

    def __init__(self) -> None:
        self.server = Server()
        self.clock = ManualClock()
        self.alarms: list[tuple[float, Alarm]] = []
        self.switched: list[tuple[str, Version, int]] = []
        self.catalogue = Catalogue(
            self.server.fetch, self.clock, self.later, lambda *switched: self.switched.append(switched)
        )

    def later(self, delay_s: float, call: Callable[[], None]) -> Alarm:
        alarm = Alarm(call)
        self.alarms.append((self.clock() + delay_s, alarm))
        return alarm

    async def advance(self, seconds: float) -> None:
        """Let time pass; what is due rings."""
        end = self.clock() + seconds
        while self.alarms and min(at for at, _ in self.alarms) <= end:
            at, alarm = min(self.alarms, key=lambda one: one[0])
            self.alarms.remove((at, alarm))
            self.clock.advance(at - self.clock())
            alarm.call()
            await settle()
        self.clock.advance(end - self.clock())

    def version(self, asked: Version = None) -> int | None:
        """The version that a look finds."""
        info = self.catalogue.look("m", asked)
        return None if info is None else info.version


async def settle() -> None:
    """Let what is ready run."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_the_first_look_finds_nothing_and_asks_once() -> None:
    """Nobody waits; a hundred looks are one question."""
    server, clock = Server(), ManualClock()
    catalogue = Catalogue(server.fetch, clock)
    first = [catalogue.look("m", None) for _ in range(100)]
    await settle()
    second = catalogue.look("m", None)
    await catalogue.aclose()

    assert [None] * 100 == first
    assert second is not None
    assert 1 == second.version
    assert [("m", None)] == server.asked


async def test_a_name_in_use_is_asked_again_before_it_is_old() -> None:
    """So that nobody has to wait, and no look finds what is older than a second."""
    stage = Stage()
    await stage.catalogue.find("m", None)
    stage.server.version = 2
    await stage.advance(RENEW_S * 0.9)
    before = stage.version()
    await stage.advance(RENEW_S * 0.2)
    after = stage.version()
    await stage.catalogue.aclose()

    assert (1, 2) == (before, after)
    assert 2 == len(stage.server.asked)
    assert all(alarm.cancelled for _, alarm in stage.alarms)


async def test_while_a_server_does_not_answer_what_it_said_last_holds() -> None:
    """A busy server is no reason not to batch; its refusal says nothing new, either."""
    stage = Stage()
    await stage.catalogue.find("m", None)
    stage.server.open.clear()
    await stage.advance(3 * MAX_AGE_S)
    waiting = stage.version()
    stage.server.error = BackendUnavailable("busy")
    stage.server.open.set()
    await settle()
    refused = stage.version()
    await stage.advance(RENEW_S)
    asked = len(stage.server.asked)
    await stage.catalogue.aclose()

    assert (1, 1, 3) == (waiting, refused, asked)


async def test_a_loop_that_is_busy_is_not_a_server_that_was_not_asked() -> None:
    """Looks that come before a timer that is due ask in its stead, and go on with what is known."""
    stage = Stage()
    await stage.catalogue.find("m", None)
    stage.server.version = 2
    stage.clock.advance(2 * MAX_AGE_S)
    found = [stage.version(), stage.version()]
    await settle()
    found.append(stage.version())
    await stage.catalogue.aclose()

    assert [1, 1, 2] == found
    assert 2 == len(stage.server.asked)


async def test_what_nobody_asked_for_in_a_while_is_not_used_before_it_is_asked_again() -> None:
    """The servers are left in peace meanwhile; all looks until they answered find nothing."""
    stage = Stage()
    await stage.catalogue.find("m", None)
    await stage.advance(2 * KEPT_S)
    asked = len(stage.server.asked)
    await stage.advance(2 * KEPT_S)
    stage.server.version = 2
    first, again = stage.version(), stage.version()
    known = stage.catalogue.knows("m", None)
    await settle()
    then = stage.version()
    await stage.catalogue.aclose()

    assert (None, None, True, 2) == (first, again, known, then)
    assert [asked + 1] == [len(stage.server.asked)]
    assert asked <= KEPT_S / RENEW_S + 1


async def test_a_version_that_answered_is_asked_for_by_its_number() -> None:
    """The server that is asked may not have it as its newest yet. One that has come and gone is forgotten."""
    stage = Stage()
    await stage.catalogue.find("m", None)
    stage.catalogue.answered("m", None, 2)
    await settle()
    both = [stage.version()]
    stage.catalogue.answered("m", None, 1)
    both.append(stage.version())
    stage.catalogue.answered("m", None, 2)
    both.append(stage.version())
    stage.server.error = BackendRejected("Servable not found", code=Code.NOT_FOUND)
    stage.catalogue.answered("m", None, 3)
    await settle()
    known = stage.catalogue.knows("m", None)
    await stage.catalogue.aclose()

    assert [2, 1, 2] == both
    assert [("m", None), ("m", 2), ("m", 3)] == stage.server.asked
    assert not known


async def test_an_answer_beats_what_was_asked_before_it() -> None:
    """What a server said before the switch does not bring the old version back."""
    stage = Stage()
    await stage.catalogue.find("m", None)
    stage.server.open.clear()
    await stage.advance(RENEW_S)
    stage.catalogue.answered("m", None, 2)
    stage.server.open.set()
    await settle()
    first = stage.version()
    await settle()
    then = stage.version()
    await stage.catalogue.aclose()

    assert (None, 2) == (first, then)
    assert [("m", None), ("m", None), ("m", 2)] == stage.server.asked


async def test_whoever_waits_is_told_of_a_bug() -> None:
    """An error that nobody foresaw must not keep callers waiting for ever."""

    async def broken(model: str, version: Version) -> ModelInfo:
        raise UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed")

    catalogue = Catalogue(broken, ManualClock())
    with pytest.raises(BatchProxyError, match="internal error: UnicodeEncodeError. This is a bug.") as caught:
        await catalogue.find("m", None)
    await catalogue.aclose()

    assert Code.INTERNAL == caught.value.code


async def test_an_answer_that_says_the_same_is_the_same_object() -> None:
    """What was found out about requests with it goes on to hold; with another one, it does not."""
    server, clock = Server(), ManualClock()
    catalogue = Catalogue(server.fetch, clock)
    held = [await catalogue.find("m", None)]
    for version in (1, 2):
        server.version = version
        clock.advance(MAX_AGE_S)
        catalogue.look("m", None)
        await settle()
        held.append(await catalogue.find("m", None))
    await catalogue.aclose()

    assert held[0] is held[1]
    assert 2 == held[2].version


async def test_when_another_version_answers_nothing_is_known_until_it_is() -> None:
    """The lane relays meanwhile (R5); a version known before is taken at once."""
    server, clock = Server(), ManualClock()
    catalogue = Catalogue(server.fetch, clock)
    await catalogue.find("m", None)
    catalogue.answered("m", None, 0)
    catalogue.answered("m", None, 1)
    same = catalogue.look("m", None)
    server.version = 2
    catalogue.answered("m", None, 2)
    unknown = catalogue.look("m", None)
    await settle()
    known = catalogue.look("m", None)
    await catalogue.aclose()

    assert same is not None
    assert unknown is None
    assert known is not None
    assert 2 == known.version


async def test_made_up_names_are_not_kept_and_do_not_flood_the_servers() -> None:
    """A name that no server has leaves nothing behind; questions under way are bounded."""
    server, clock = Server(), ManualClock()
    server.error = BackendRejected("Servable not found for request: Latest(x)", code=Code.NOT_FOUND)
    server.open.clear()
    catalogue = Catalogue(server.fetch, clock)
    for number in range(100):
        catalogue.look(f"x{number}", None)
    await settle()
    flood = len(server.asked)
    server.open.set()
    await settle()
    with pytest.raises(BackendRejected):
        await catalogue.find("x", None)
    await catalogue.aclose()

    assert MAX_FETCHES == flood
    assert not catalogue._infos
    assert not catalogue._known
    assert not catalogue._under_way


async def test_a_model_that_is_gone_is_forgotten_but_an_outage_changes_nothing() -> None:
    """NOT_FOUND is an answer, UNAVAILABLE is none."""
    stage = Stage()
    await stage.catalogue.find("m", None)
    stage.server.error = BackendUnavailable("down")
    await stage.advance(MAX_AGE_S)
    during = stage.version()
    stage.server.error = UnknownModel("gone")
    await stage.advance(RENEW_S)
    after = stage.version()
    await stage.catalogue.aclose()

    assert (1, None) == (during, after)


async def test_versions_and_labels_are_looked_up_on_their_own() -> None:
    """An explicit version, a label and neither are three questions."""
    server, clock = Server(), ManualClock()
    catalogue = Catalogue(server.fetch, clock)
    found = [(await catalogue.find("m", version)).version for version in (7, "stable", None)]
    await catalogue.aclose()

    assert [7, 1, 1] == found
    assert [("m", 7), ("m", "stable"), ("m", None)] == server.asked


async def test_a_version_that_nobody_uses_any_more_is_forgotten() -> None:
    """Memory follows what is served now, not at once: servers of a pool may be replaced one by one."""
    stage = Stage()
    await stage.catalogue.find("m", None)
    stage.server.version = 2
    await stage.advance(RENEW_S)
    two = list(stage.catalogue._infos)
    for _ in range(round(KEPT_S / MAX_AGE_S)):
        stage.version()
        await stage.advance(MAX_AGE_S)
    one = list(stage.catalogue._infos)
    await stage.catalogue.aclose()

    assert [("m", 1), ("m", 2)] == two
    assert [("m", 2)] == one


async def test_only_a_confirmed_model_is_known() -> None:
    """Looking does not make it so; an answer does."""
    server, clock = Server(), ManualClock()
    catalogue = Catalogue(server.fetch, clock)
    catalogue.look("m", None)
    before = catalogue.knows("m", None)
    await settle()
    after = catalogue.knows("m", None), catalogue.knows("m", 7)
    await catalogue.aclose()

    assert not before
    assert (True, False) == after


async def test_names_and_what_they_mean() -> None:
    """Only what servers confirmed; who wants to know is told which version a name meant before."""
    stage = Stage()
    await stage.catalogue.find("m", None)
    await stage.catalogue.find("m", "canary")
    await stage.catalogue.find("m", 1)
    before = stage.catalogue.names()
    stage.catalogue.answered("m", "canary", 2)
    stage.catalogue.answered("m", "canary", 2)
    stage.server.version = 3
    await stage.advance(RENEW_S)
    after = stage.catalogue.names()
    await stage.catalogue.aclose()

    assert [("m", None, 1), ("m", "canary", 1), ("m", 1, 1)] == before
    assert [("m", None, 3), ("m", "canary", 3), ("m", 1, 1)] == after
    assert [("m", "canary", 1), ("m", "canary", 2), ("m", None, 1)] == sorted(stage.switched, key=str)
