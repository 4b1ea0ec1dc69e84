"""What the routes may assume of a pool of servers, and what they may not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batchproxy.core.raw import GRPC, REST, RawCall
from batchproxy.core.shapes import UNDECLARED
from batchproxy.frontends.remote import RemoteModel, as_it_came
from tests.remotes import HALF, FakeServer, a_remote_pool
from tests.serving import Recorder

RAW = RawCall(REST, "POST", "/", [("Authorization", "Bearer a"), ("x-tenant", "t"), ("data-bin", b"\0")], b"body")


async def test_a_known_signature_is_found_and_nothing_is_assumed_of_an_unknown_one() -> None:
    """Of an unknown model, or an unknown signature of a known one."""
    async with a_remote_pool(FakeServer(), Recorder()) as pool:
        found = [
            pool.signature(*asked)
            for asked in (
                ("half_plus_two", None, "serving_default"),
                ("half_plus_two", None, "nothing"),
                ("nobody", None, "serving_default"),
            )
        ]

    assert [HALF, None, None] == found


@pytest.mark.parametrize(("batchable", "expected"), [(True, UNDECLARED), (False, None), (None, None)])
async def test_the_configuration_may_say_what_a_server_cannot(batchable: bool | None, expected: object) -> None:
    """``batchable: true`` where there is no metadata; ``false`` switches it off."""
    async with a_remote_pool(FakeServer(), Recorder(), model=RemoteModel(batchable=batchable)) as pool:
        unknown = pool.signature("nobody", None, "serving_default")
        known = pool.signature("half_plus_two", None, "serving_default")

    assert expected is unknown
    assert (None if batchable is False else HALF) == known


async def test_only_confirmed_or_configured_names_become_labels() -> None:
    """A caller cannot make one up."""
    async with a_remote_pool(FakeServer(), Recorder()) as pool:
        labels = pool.label("half_plus_two", None), pool.label("made-up", None)

    assert ("half_plus_two", "") == labels


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("authorization",), (("authorization", "Bearer a"),)),
        (("x-tenant", "authorization"), (("authorization", "Bearer a"), ("x-tenant", "t"))),
        (("absent",), ()),
        (("data-bin",), ()),
        ((), ()),
    ],
)
async def test_the_partition_is_what_callers_must_agree_in(
    names: tuple[str, ...], expected: tuple[tuple[str, str], ...]
) -> None:
    """By lower-case name; binary metadata cannot be a part of it."""
    async with a_remote_pool(FakeServer(), Recorder(), model=RemoteModel(partition_by=names)) as pool:
        found = pool.partition("half_plus_two", RAW)

    assert expected == found


def test_a_request_that_is_passed_on_may_ride_with_nobody() -> None:
    """It has no rows, and what it holds is its body."""
    request = as_it_came(RAW, 3.0, "m")

    assert (None, 4, 3.0, RAW, "m") == (request.rows, request.nbytes, request.deadline, request.raw, request.key.model)


async def test_predict_calls_are_kept_from_a_rest_door_that_garbles_its_answers() -> None:
    """Other calls go through it as before; without such a door none does."""
    async with a_remote_pool(FakeServer(), Recorder()) as both, a_remote_pool(FakeServer(), Recorder(), [GRPC]) as one:
        before = [both.passes_on(verb) for verb in ("predict", "classify", "")]
        both.habits.tensor_content = True
        after = [both.passes_on(verb) for verb in ("predict", "classify", "")]
        without = one.passes_on("predict")

    assert [True] * 3 == before
    assert [False, True, True] == after
    assert not without


@pytest.mark.parametrize(
    ("doors", "v2", "expected"),
    [([GRPC], False, (True, b"")), ([REST], False, (False, b'[["y","float32"]]')), ([GRPC, REST], True, (False, b""))],
)
async def test_what_becomes_of_grpc_calls(doors: list[str], v2: bool, expected: tuple[bool, bytes]) -> None:
    """Whether they are passed on, and what a server has to be known to answer where it answers in JSON."""
    async with a_remote_pool(FakeServer(), Recorder(), doors) as pool:
        one = replace(pool, v2=v2)
        said = one.takes_grpc, one.expected(HALF)

    assert expected == said
