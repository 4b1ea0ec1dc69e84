"""Every recorded answer through the proxy in front of a server that says it again: what reaches a caller is the record.

Relayed over REST and gRPC: byte for byte. Merged over REST: the rows of recorded answers, put together by the server
and cut apart by the proxy, are the recorded answers again.
"""

from __future__ import annotations

import base64
import http.client
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
import pytest

from tests import golden_cases
from tests.conformance.test_rows_golden import RELAYED
from tests.golden_cases import ANSWERED_OTHERWISE, Case, same_answer
from tests.proxy import Proxy, running_in_front_of
from tests.replaying import (
    CASE,
    END_TO_END,
    INITIAL,
    TRAILING,
    GrpcReplay,
    Recorded,
    RestReplay,
    merged,
    recorded_grpc,
    recorded_rest,
    replaying_grpc,
    replaying_rest,
    rows_of,
)

REST = {name: one for name, one in recorded_rest().items() if name not in ANSWERED_OTHERWISE}
GRPC = recorded_grpc()

OURS = {"connection", "content-length", "date", "keep-alive"}
"""Fields that each hop writes itself."""


class Answer(NamedTuple):
    """What a caller sees of a REST answer."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes


def due(case: Recorded) -> Answer:
    """The record, as a caller is to see it."""
    fields = [(name.lower(), value) for name, value in case.fields if name.lower() not in OURS]
    extras = [(name.lower(), value) for name, value in END_TO_END]
    return Answer(case.status, case.reason, sorted([*fields, *extras]), case.answer)


def ask(proxy: Proxy, case: Recorded, headers: Mapping[str, str]) -> Answer:
    """Sends a recorded request as it was sent, beside some headers."""
    connection = http.client.HTTPConnection(proxy.rest.removeprefix("http://"), timeout=30)
    if case.version == "1.0":
        connection._http_vsn, connection._http_vsn_str = 10, "HTTP/1.0"  # type: ignore[attr-defined]
    try:
        connection.putrequest(case.method, case.path, skip_accept_encoding=True)
        for name, value in {**case.headers, **headers, "Content-Length": str(len(case.body))}.items():
            connection.putheader(name, value)
        connection.endheaders(case.body)
        answer = connection.getresponse()
        fields = sorted((name.lower(), value) for name, value in answer.getheaders() if name.lower() not in OURS)
        return Answer(answer.status, answer.reason, fields, answer.read())
    finally:
        connection.close()


# ---------------------------------------------------------------- REST, relayed


@pytest.fixture(scope="module")
def replay() -> Iterator[RestReplay]:
    """The server."""
    with replaying_rest(REST) as one:
        yield one


@pytest.fixture(scope="module")
def relay(replay: RestReplay) -> Iterator[Proxy]:
    """A proxy that may batch, and learns nothing of the models."""
    with running_in_front_of([replay], doors=["rest"]) as one:
        yield one


@pytest.mark.parametrize("name", REST)
def test_a_relayed_rest_answer_is_the_recorded_one(replay: RestReplay, relay: Proxy, name: str) -> None:
    """Status, reason, headers but those of a hop, body; the server saw the caller's method, path and body."""
    case = REST[name]
    found = ask(relay, case, {CASE: name})
    asked = replay.asked.get(name)

    assert due(case) == found
    assert asked is not None
    assert (case.method, case.path) == asked[:2]
    assert "gzip" in case.headers.get("Content-Encoding", "") or case.body == asked[2]


# ---------------------------------------------------------------- REST, merged


GARBLED = {"tensor_content_flag/row"}
"""Answers of a server whose flag makes zeros of them: others of the same rows are right."""


def mergeable() -> dict[str, Recorded]:
    """Predict requests that were answered well, with a row for each row, and that are taken apart (R4)."""
    found = {}
    for name, case in REST.items():
        plain = case.status == 200 and case.path.endswith(":predict") and not case.headers and name not in GARBLED
        asked = rows_of(case.path, case.body) if plain and name not in RELAYED else None
        if asked is not None and asked.rows:
            answered = rows_of(
                case.path,
                case.answer.replace(b'"predictions"', b'"instances"', 1).replace(b'"outputs"', b'"inputs"', 1),
            )
            if answered is not None and len(answered.rows) == len(asked.rows):
                found[name] = case
    return found


MERGEABLE = mergeable()


@pytest.fixture(scope="module")
def batching(replay: RestReplay) -> Iterator[Proxy]:
    """A proxy that batches every model, and waits for company."""
    every = {"*": {"batchable": True, "max_delay_ms": 100.0, "max_batch_rows": 512}}
    with running_in_front_of([replay], doors=["rest"], models=every) as one:
        yield one


def same(case: Recorded, found: Answer) -> bool:
    """Whether it is the record; the body up to the order of the outputs' names, which the merged answer decides."""
    expected = due(case)
    one = Case(case.name, case.method, case.path, {}, b"", (golden_cases.Answer(expected.status, expected.body),))
    return expected[:3] == found[:3] and same_answer(one, golden_cases.Answer(found.status, found.body))


def test_slices_of_merged_answers_are_the_recorded_ones(replay: RestReplay, batching: Proxy) -> None:
    """Four callers of each at once, so that all that may share a call shares one: each gets its recorded answer."""
    names = [name for name in MERGEABLE for _ in range(4)]
    replay.merged.clear()
    with ThreadPoolExecutor(len(names)) as callers:
        answers = list(callers.map(lambda name: ask(batching, MERGEABLE[name], {CASE: name}), names))
    wrong = [(name, found) for name, found in zip(names, answers, strict=True) if not same(MERGEABLE[name], found)]

    assert [] == wrong[:3]
    assert [] == replay.strange
    assert sum(replay.merged) > len(names) * 0.8, "hardly anything was merged"
    assert max(replay.merged) > 4, "no two different requests shared a call"


def test_most_recorded_answers_are_among_them() -> None:
    """The test above is about something: 54 answers in row form were known when the rule was made."""
    assert len(MERGEABLE) >= 75
    assert {True, False} == {b'"predictions"' in case.answer for case in MERGEABLE.values()}


def test_the_server_puts_answers_together() -> None:
    """In the layout of a single answer: rows of one output, of two, and columns."""
    rows = b'{\n    "predictions": [1.0, 2.0\n    ]\n}'
    objects = b'{\n    "predictions": [\n        {\n            "a": 1\n        }\n    ]\n}'
    columns = (
        b'{\n    "outputs": {\n        "a": [\n            1\n        ],'
        b'\n        "b": [\n            2\n        ]\n    }\n}'
    )

    assert rows.replace(b"2.0", b"2.0, 1.0, 2.0") == merged([rows, rows])
    assert objects.replace(
        b"        }\n    ]", b'        },\n        {\n            "a": 1\n        }\n    ]'
    ) == merged([objects] * 2)
    assert columns.replace(b"1", b"1,\n            1").replace(b"2", b"2,\n            2") == merged([columns] * 2)


# ---------------------------------------------------------------- gRPC


@pytest.fixture(scope="module")
def grpc_replay() -> Iterator[GrpcReplay]:
    """The server."""
    with replaying_grpc(GRPC) as one:
        yield one


@pytest.fixture(scope="module")
def grpc_relay(grpc_replay: GrpcReplay) -> Iterator[Proxy]:
    """As ``relay``."""
    with running_in_front_of([grpc_replay], doors=["grpc"]) as one:
        yield one


@pytest.mark.parametrize("name", GRPC)
def test_a_relayed_grpc_answer_is_the_recorded_one(grpc_replay: GrpcReplay, grpc_relay: Proxy, name: str) -> None:
    """Code, text, initial and trailing metadata, message; the server saw the caller's message."""
    case = GRPC[name]
    sent = base64.b64decode(case["request_b64"])
    with grpc.insecure_channel(grpc_relay.grpc) as channel:
        call = channel.unary_unary(case["method"])
        try:
            message, ended = call.with_call(sent, timeout=30, metadata=[(CASE, name)])
        except grpc.RpcError as error:
            message, ended = b"", error
    found: Any = (ended.code().name, ended.details() or "", message)

    assert (case["code"], case["message"], base64.b64decode(case.get("response_b64", ""))) == found
    assert list(TRAILING) == [tuple(pair) for pair in ended.trailing_metadata()]
    assert list(INITIAL) == [tuple(pair) for pair in ended.initial_metadata()]
    assert sent == grpc_replay.asked[name]
