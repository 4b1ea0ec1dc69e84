"""Requests for servers with a REST door: merged by their text, told again by it, or passed on as they came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from multidict import CIMultiDict

from batchproxy.codecs.json_templates import JsonTemplates
from batchproxy.codecs.tfs_rest import Target
from batchproxy.codecs.tfs_rows import JsonRows
from batchproxy.core.raw import REST, Header, RawCall
from batchproxy.core.request import Request
from batchproxy.core.shapes import ModelInfo
from batchproxy.frontends.remote import RemotePool
from batchproxy.frontends.rest_relay import RestRelay, Templates, passed_on
from batchproxy.wire.http1_head import Headers
from tests.remotes import HALF, INFO, FakeServer, a_remote_pool
from tests.serving import Recorder

TARGET = Target("predict", "half_plus_two")


def call(body: bytes, *headers: Header) -> RawCall:
    """A predict request as it came."""
    return RawCall(REST, "POST", "/v1/models/half_plus_two:predict", headers, body)


class Relay:
    """One with its templates, asked as the routes do."""

    def __init__(self) -> None:
        self.templates: Templates = JsonTemplates()
        self.relay = RestRelay(self.templates, lambda model, verb: lambda started, code: None)
        self.told_again = 0

    def request(
        self, pool: RemotePool, target: Target | None, raw: RawCall, heads: Mapping[str, str] | None = None
    ) -> Request:
        """The request that is queued."""
        plan = self.templates.find(raw.path, raw.body)
        columns = None if plan is None else plan.read(raw.body)
        if plan is not None and columns is not None:
            request = self.relay.again(
                plan.value, columns, raw.path, heads or {name: str(value) for name, value in raw.headers}, raw.body, 5.0
            )
            if request is not None:
                self.told_again += 1
                return request
        return self.relay.request(pool, target, raw, 5.0)


def ask(relay: Relay, pool: RemotePool, body: bytes, *headers: Header) -> Request:
    """The request that is queued."""
    return relay.request(pool, TARGET, call(body, *headers))


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
        relay = Relay()
        requests = [ask(relay, pool, body) for body in bodies]
        fresh = ask(Relay(), pool, bodies[1])

    assert [b"1.5", b"22"] == [text_of(request) for request in requests]
    assert requests[0].key == requests[1].key == fresh.key
    assert (1, 20, 5.0) == (requests[1].rows, requests[1].nbytes, requests[1].deadline)
    assert 1 == relay.told_again
    assert bodies == [request.raw.body for request in requests if request.raw is not None]


async def test_a_body_that_only_looks_like_an_earlier_one_is_passed_on() -> None:
    """It is not JSON, and the server says so."""
    async with a_remote_pool(FakeServer(), Recorder()) as pool:
        relay = Relay()
        ask(relay, pool, b'{"instances": [1.5]}')
        request = ask(relay, pool, b'{"instances": [01.5]}')

    assert request.rows is None


async def test_callers_that_may_not_share_a_call_do_not() -> None:
    """The header that parts them is looked at each time."""
    async with a_remote_pool(FakeServer(), Recorder()) as pool:
        relay = Relay()
        found = [ask(relay, pool, b'{"instances": [1]}', ("authorization", name)).key.partition for name in "aab"]

    assert [(("authorization", name),) for name in "aab"] == found


async def test_of_equal_heads_what_parts_callers_is_found_once_for_each_pool() -> None:
    """Another pool may want to know other headers."""
    heads = Headers({b"authorization": b"a", b"x-team": b"t"})
    raw = call(b'{"instances": [1]}', ("authorization", "a"), ("x-team", "t"))
    async with a_remote_pool(FakeServer(), Recorder()) as pool:
        relay = Relay()
        known = [relay.request(pool, TARGET, raw, heads).key.partition for _ in range(3)]
        other = replace(pool, others=replace(pool.others, partition_by=("x-team",)))
        plan = relay.templates.find(raw.path, raw.body)
        assert plan is not None
        columns = plan.read(raw.body)
        assert columns is not None
        request = relay.relay.again(replace(plan.value, pool=other), columns, raw.path, heads, raw.body, None)

    assert [(("authorization", "a"),)] * 3 == known
    assert request is not None
    assert (("x-team", "t"),) == request.key.partition


async def test_what_is_known_holds_for_one_version_of_the_model() -> None:
    """With another one, nothing does until that is known."""
    server = FakeServer()
    async with a_remote_pool(server, Recorder()) as pool:
        relay = Relay()
        before = [ask(relay, pool, b'{"instances": [1]}') for _ in range(2)]
        pool.catalogue.answered("half_plus_two", None, 8)
        unknown = ask(relay, pool, b'{"instances": [1]}')

    assert [1, 1, None] == [request.rows for request in (*before, unknown)]


async def test_a_new_signature_is_looked_at_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next request is read in the general way, and remembered again."""
    other = replace(HALF)
    async with a_remote_pool(FakeServer(), Recorder()) as pool:
        relay = Relay()
        ask(relay, pool, b'{"instances": [1]}')
        info = ModelInfo(INFO.name, INFO.version, {"serving_default": other})
        monkeypatch.setattr(pool.catalogue, "look", lambda model, version: info)
        requests = [ask(relay, pool, b'{"instances": [1]}') for _ in range(2)]

    assert [1, 1] == [request.rows for request in requests]


async def test_two_rows_are_read_each_time() -> None:
    """Where one ends and the next begins has to be found."""
    async with a_remote_pool(FakeServer(), Recorder()) as pool:
        relay = Relay()
        requests = [ask(relay, pool, b'{"instances": [1, 2]}') for _ in range(2)]

    assert [2, 2] == [request.rows for request in requests]


async def test_what_asks_for_nothing_is_passed_on() -> None:
    """A path that only the server understands."""
    async with a_remote_pool(FakeServer(), Recorder()) as pool:
        request = Relay().request(pool, None, call(b"?"))

    assert request.rows is None
    assert "" == request.key.model


def test_headers_of_one_hop_stay_here() -> None:
    """And those that the connection header names; equal heads are looked at once."""
    sent = {"Host": "a", "Connection": "close, X-Hop", "X-Hop": "1", "X-Own": "2", "Content-Length": "3"}
    heads = Headers({name.lower().encode(): value.encode() for name, value in sent.items()})

    assert (("x-own", "2"),) == passed_on(CIMultiDict(sent))
    assert (("x-own", "2"),) == passed_on(heads)
    assert passed_on(heads) is passed_on(heads)
