"""What a pool's servers say of their models: asked once, kept per version, refreshed in the background."""

from __future__ import annotations

import asyncio

import pytest

from batchproxy.catalogue import MAX_AGE_S, MAX_FETCHES, Catalogue
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


async def test_an_old_answer_is_used_while_it_is_asked_again() -> None:
    """After a second, in the background."""
    server, clock = Server(), ManualClock()
    catalogue = Catalogue(server.fetch, clock)
    await catalogue.find("m", None)
    clock.advance(MAX_AGE_S)
    server.version = 2
    old = catalogue.look("m", None)
    await settle()
    new = catalogue.look("m", None)
    await catalogue.aclose()

    assert old is not None
    assert new is not None
    assert (1, 2) == (old.version, new.version)
    assert 2 == len(server.asked)


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
    assert not catalogue._answering
    assert not catalogue._under_way


async def test_a_model_that_is_gone_is_forgotten_but_an_outage_changes_nothing() -> None:
    """NOT_FOUND is an answer, UNAVAILABLE is none."""
    server, clock = Server(), ManualClock()
    catalogue = Catalogue(server.fetch, clock)
    await catalogue.find("m", None)
    clock.advance(MAX_AGE_S)
    server.error = BackendUnavailable("down")
    catalogue.look("m", None)
    await settle()
    during = catalogue.look("m", None)
    server.error = UnknownModel("gone")
    await settle()
    catalogue.look("m", None)
    await settle()
    after = catalogue.look("m", None)
    await catalogue.aclose()

    assert during is not None
    assert after is None


async def test_versions_and_labels_are_looked_up_on_their_own() -> None:
    """An explicit version, a label and neither are three questions."""
    server, clock = Server(), ManualClock()
    catalogue = Catalogue(server.fetch, clock)
    found = [(await catalogue.find("m", version)).version for version in (7, "stable", None)]
    await catalogue.aclose()

    assert [7, 1, 1] == found
    assert [("m", 7), ("m", "stable"), ("m", None)] == server.asked


async def test_a_version_that_nobody_uses_any_more_is_forgotten() -> None:
    """Memory follows what is served now."""
    server, clock = Server(), ManualClock()
    catalogue = Catalogue(server.fetch, clock)
    await catalogue.find("m", None)
    clock.advance(MAX_AGE_S)
    server.version = 2
    catalogue.look("m", None)
    await settle()
    await catalogue.aclose()

    assert [("m", 2)] == list(catalogue._infos)


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
