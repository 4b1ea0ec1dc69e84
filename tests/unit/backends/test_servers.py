"""What holds for a server of any protocol: its name, its doors, headers of the configuration, relays."""

from __future__ import annotations

import pytest

from batchproxy.backends.servers import ServerBackend
from batchproxy.backends.tfserving import TfServingBackend
from batchproxy.backends.v2_server import V2Backend
from batchproxy.core.errors import BackendRejected, Code
from batchproxy.core.raw import GRPC, REST, RawCall
from batchproxy.endpoints import parse
from tests.unit.scripted_doors import nobody, scripted


@pytest.mark.parametrize("kind", [TfServingBackend, V2Backend])
async def test_its_name_is_read_as_its_address(kind: type[ServerBackend]) -> None:
    """As logs and metrics call it, a configuration may."""
    grpc, rest = nobody(), nobody()
    backend = kind(grpc=grpc, rest=rest)
    name = f"{kind.scheme}grpc://{grpc},{kind.scheme}http://{rest}"
    await backend.aclose()

    assert name == backend.name
    assert name == parse(name).name


@pytest.mark.parametrize("kind", [TfServingBackend, V2Backend])
async def test_relays_through_either_door(kind: type[ServerBackend]) -> None:
    """The caller's own bytes, with the headers of the configuration unless the caller has such a one."""
    async with scripted() as server:
        server.grpc_answers["/s/m"] = b"told"
        server.rest_answers["POST /p?q"] = 200, b"said"
        remote = kind(grpc=server.grpc, rest=server.rest, static_headers=(("x-static", "s"), ("x-own", "theirs")))
        by_grpc = await remote.relay(RawCall(GRPC, "/s/m", "", (("x-own", "mine"),), b"ask"), None)
        by_rest = await remote.relay(RawCall(REST, "POST", "/p?q", (("x-own", "mine"),), b"say"), None)
        doors = [remote.has(GRPC), remote.has(REST)]
        await remote.aclose()

    assert (b"told", b"said") == (by_grpc.body, by_rest.body)
    assert [(b"ask", "s", "mine"), (b"say", "s", "mine")] == [
        (body, headers["x-static"], headers["x-own"]) for _, headers, body in server.seen
    ]
    assert [True, True] == doors


@pytest.mark.parametrize("kind", [TfServingBackend, V2Backend])
async def test_a_door_that_is_missing_is_named(kind: type[ServerBackend]) -> None:
    """With the scheme to add."""
    remote = kind(grpc=nobody())
    with pytest.raises(BackendRejected) as caught:
        await remote.relay(RawCall(REST, "GET", "/", (), b""), None)
    begun = remote.begin(RawCall(REST, "POST", "/", (), b""), None, lambda answer: None)
    await remote.aclose()

    assert Code.UNIMPLEMENTED == caught.value.code
    assert f"add {kind.scheme}http://HOST:PORT" in caught.value.message
    assert begun is None
    assert [True, False] == [remote.has(GRPC), remote.has(REST)]
