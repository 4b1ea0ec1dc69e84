"""Which answers get TF Serving's CORS fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from batchproxy.codecs.tfs_rest import CORS_HEADERS
from batchproxy.frontends.call import Call
from batchproxy.frontends.cors import CorsRoutes
from batchproxy.frontends.rest_answers import PassedOn, RestAnswer

JSON = {"Content-Type": "application/json"}
MODEL = "/v1/models/m"


class Told:
    """Routes that give every request one answer, and keep what they were asked."""

    def __init__(self, answer: RestAnswer) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, Mapping[str, str], bytes]] = []

    def handle(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, respond: Callable[[RestAnswer], None]
    ) -> Call[RestAnswer] | None:
        self.asked.append((method, path, headers, body))
        respond(self.answer)
        return None


def answered(answer: RestAnswer, method: str = "GET", path: str = MODEL) -> RestAnswer:
    """What a caller gets where the routes say ``answer``."""
    found: list[RestAnswer] = []
    CorsRoutes(Told(answer)).handle(method, path, {}, b"", found.append)
    (only,) = found
    return only


@pytest.mark.parametrize("status", [200, 404])
def test_our_own_answers_get_them(status: int) -> None:
    """Good or bad; their own fields stay."""
    found = answered(RestAnswer(status, b"{}", {**JSON, "Retry-After": "1"}, "Fine"))

    assert (status, b"{}", {**JSON, "Retry-After": "1", **CORS_HEADERS}, "Fine") == found


def test_the_shared_fields_are_not_changed() -> None:
    """The next answer begins with the usual ones."""
    answered(RestAnswer(200, b"{}"))

    assert JSON == RestAnswer(200, b"{}").headers


def test_a_servers_answer_keeps_its_own() -> None:
    """Whether that server has the option or not."""
    given = PassedOn(200, b"{}", {"content-type": "application/json"})

    assert given is answered(given)


@pytest.mark.parametrize(("method", "path"), [("GET", "/nope"), ("BREW", MODEL)])
def test_pages_of_the_layer_below_have_none(method: str, path: str) -> None:
    """As recorded (``cors/notfound``)."""
    page = RestAnswer(404, b"<HTML>", {"Content-Type": "text/html"})

    assert page is answered(page, method, path)


def test_the_request_is_handed_on_as_it_is() -> None:
    """Whatever is answered."""
    routes = Told(RestAnswer(200, b""))
    assert CorsRoutes(routes).handle("POST", MODEL, {"a": "b"}, b"body", lambda answer: None) is None

    assert [("POST", MODEL, {"a": "b"}, b"body")] == routes.asked
