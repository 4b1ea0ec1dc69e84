"""Recorded answers of a real TF Serving, asked of a running proxy over real sockets, one by one and all at once.

``tests/conformance`` compares the codec; here the whole way is compared: listener, routes, engine, batches, backend.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conformance.test_rest_golden import DEVIATIONS
from tests.golden_cases import Answer, Case, load_cases, same_answer
from tests.proxy import Proxy, running
from tests.twins import TWINS

GROUPS = (
    "rest_predict_basic",
    "rest_json_parse",
    "rest_number_format",
    "rest_dtypes",
    "rest_strings",
    "rest_shapes",
)
MODELS = sorted(set(TWINS) - {"multi_version"})  # recorded with two versions at once, served here with one
CASES = {
    name: case for name, case in load_cases(*GROUPS).items() if name not in DEVIATIONS and "multi_v" not in case.path
}


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    """Every twin behind one proxy."""
    with running({name: f"python:tests.served_twins:{name}" for name in MODELS}) as one:
        yield one


def ask(proxy: Proxy, case: Case) -> Answer:
    """What the proxy answers, through the standard library's client, which sends the path as it is."""
    connection = http.client.HTTPConnection(proxy.rest.removeprefix("http://"), timeout=30)
    try:
        connection.putrequest(case.method, case.path, skip_accept_encoding=True)
        for name, value in {**case.headers, "Content-Length": str(len(case.body))}.items():
            connection.putheader(name, value)
        connection.endheaders(case.body)
        answer = connection.getresponse()
        return Answer(answer.status, answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("name", CASES)
def test_the_answer_over_a_socket_is_the_recorded_one(proxy: Proxy, name: str) -> None:
    """Status and body, numbers as text."""
    answer = ask(proxy, CASES[name])

    assert same_answer(CASES[name], answer), (CASES[name].answers, answer)


def test_asked_all_at_once_everybody_gets_the_recorded_answer(proxy: Proxy) -> None:
    """Good and bad requests mixed, four of each, in whatever batches they form."""
    cases = [case for case in CASES.values() for _ in range(4)]
    with ThreadPoolExecutor(64) as callers:
        answers = list(callers.map(lambda case: ask(proxy, case), cases))
    wrong = [(case, answer) for case, answer in zip(cases, answers, strict=True) if not same_answer(case, answer)]

    assert [] == wrong
