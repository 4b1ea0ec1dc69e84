"""Requests for servers with a REST door: merged by their text, told again by it, or passed on as they came."""

from __future__ import annotations

from dataclasses import replace

import pytest
from multidict import CIMultiDict

from batchproxy.codecs.tfs_rest import Target
from batchproxy.codecs.tfs_rows import JsonRows
from batchproxy.core.raw import REST, Header, RawCall
from batchproxy.core.request import Request
from batchproxy.core.shapes import ModelInfo
from batchproxy.frontends.remote import RemotePool
from batchproxy.frontends.rest_relay import RestRelay, passed_on
from batchproxy.wire.http1_head import Headers
from tests.remotes import HALF, INFO, FakeServer, a_remote_pool
from tests.serving import Recorder

TARGET = Target("predict", "half_plus_two")


def call(body: bytes, *headers: Header) -> RawCall:
    """A predict request as it came."""
    return RawCall(REST, "POST", "/v1/models/half_plus_two:predict", headers, body)


def ask(relay: RestRelay, pool: RemotePool, body: bytes, *headers: Header) -> Request:
    """The request that is queued."""
    return relay.request(pool, TARGET, call(body, *headers), 5.0)


def text_of(request: Request) -> bytes:
    """Of its only row."""
    column = request.columns["instances"]
    assert isinstance(column, JsonRows)
    (text,) = column.texts
    return bytes(text)


async def test_requests_of_one_kind_are_told_again() -> None:
    """What is queued is the same as if each had been read."""
    bodies = [b'{"instances": [1.5]}', b'{"instances": [ 22]}']
    async with a_remote_pool(FakeServer(), Recorder()) as pool:
        relay = RestRelay()
        requests = [ask(relay, pool, body) for body in bodies]
        fresh = ask(RestRelay(), pool, bodies[1])

    assert [b"1.5", b"22"] == [text_of(request) for request in requests]
    assert requests[0].key == requests[1].key == fresh.key
    assert (1, 20, 5.0) == (requests[1].rows, requests[1].nbytes, requests[1].deadline)
    assert bodies == [request.raw.body for request in requests if request.raw is not None]


async def test_a_body_that_only_looks_like_an_earlier_one_is_passed_on() -> None:
    """It is not JSON, and the server says so."""
    async with a_remote_pool(FakeServer(), Recorder()) as pool:
        relay = RestRelay()
        ask(relay, pool, b'{"instances": [1.5]}')
        request = ask(relay, pool, b'{"instances": [01.5]}')

    assert request.rows is None


async def test_callers_that_may_not_share_a_call_do_not() -> None:
    """The header that parts them is looked at each time."""
    async with a_remote_pool(FakeServer(), Recorder()) as pool:
        relay = RestRelay()
        found = [ask(relay, pool, b'{"instances": [1]}', ("authorization", name)).key.partition for name in "aab"]

    assert [(("authorization", name),) for name in "aab"] == found


async def test_what_is_known_holds_for_one_version_of_the_model() -> None:
    """With another one, nothing does until that is known."""
    server = FakeServer()
    async with a_remote_pool(server, Recorder()) as pool:
        relay = RestRelay()
        before = [ask(relay, pool, b'{"instances": [1]}') for _ in range(2)]
        pool.catalogue.answered("half_plus_two", None, 8)
        unknown = ask(relay, pool, b'{"instances": [1]}')

    assert [1, 1, None] == [request.rows for request in (*before, unknown)]


async def test_a_new_signature_is_looked_at_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next request is read in the general way, and remembered again."""
    other = replace(HALF)
    async with a_remote_pool(FakeServer(), Recorder()) as pool:
        relay = RestRelay()
        ask(relay, pool, b'{"instances": [1]}')
        info = ModelInfo(INFO.name, INFO.version, {"serving_default": other})
        monkeypatch.setattr(pool.catalogue, "look", lambda model, version: info)
        requests = [ask(relay, pool, b'{"instances": [1]}') for _ in range(2)]

    assert [1, 1] == [request.rows for request in requests]


async def test_two_rows_are_read_each_time() -> None:
    """Where one ends and the next begins has to be found."""
    async with a_remote_pool(FakeServer(), Recorder()) as pool:
        relay = RestRelay()
        requests = [ask(relay, pool, b'{"instances": [1, 2]}') for _ in range(2)]

    assert [2, 2] == [request.rows for request in requests]


async def test_what_asks_for_nothing_is_passed_on() -> None:
    """A path that only the server understands."""
    async with a_remote_pool(FakeServer(), Recorder()) as pool:
        request = RestRelay().request(pool, None, call(b"?"), None)

    assert request.rows is None
    assert "" == request.key.model


def test_headers_of_one_hop_stay_here() -> None:
    """And those that the connection header names; equal heads are looked at once."""
    sent = {"Host": "a", "Connection": "close, X-Hop", "X-Hop": "1", "X-Own": "2", "Content-Length": "3"}
    heads = Headers({name.lower().encode(): value.encode() for name, value in sent.items()})

    assert (("x-own", "2"),) == passed_on(CIMultiDict(sent))
    assert (("x-own", "2"),) == passed_on(heads)
    assert passed_on(heads) is passed_on(heads)
