"""TF Serving's CORS option: fields added to the REST answers that are our own. No request is looked into here.

An answer that a server gave, whole or in part, keeps the fields which that server gave it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from batchproxy.codecs import tfs_rest
from batchproxy.frontends.call import Call
from batchproxy.frontends.listener import HttpRoutes
from batchproxy.frontends.rest_answers import PassedOn, RestAnswer


class CorsRoutes:
    """Routes whose own answers any web page may read (``--rest_api_enable_cors_support``).

    Args:
        routes: what answers.
    """

    def __init__(self, routes: HttpRoutes) -> None:
        self._routes = routes

    def handle(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, respond: Callable[[RestAnswer], None]
    ) -> Call[RestAnswer] | None:
        """As ``RestRoutes.handle``; pages of TF Serving's HTTP layer have no such fields, there as here."""
        if tfs_rest.outside(method, path) is None:
            respond = partial(_allow, respond)
        return self._routes.handle(method, path, headers, body, respond)


def _allow(respond: Callable[[RestAnswer], None], answer: RestAnswer) -> None:
    if type(answer) is not PassedOn:
        answer = answer._replace(headers={**answer.headers, **tfs_rest.CORS_HEADERS})
    respond(answer)
