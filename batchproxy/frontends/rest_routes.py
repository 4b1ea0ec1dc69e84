"""REST path -> what answers it. Bytes in, one answer out through ``respond``; no socket and no HTTP library here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from batchproxy.codecs import tfs_rest
from batchproxy.core.errors import BatchProxyError, Code, DecodeError, RequestError, TooLarge, Unavailable
from batchproxy.core.request import Reply, build_request
from batchproxy.frontends.call import Call
from batchproxy.frontends.directory import Directory
from batchproxy.observe import Observer

PROTOCOL = "rest"

MAX_BODY_BYTES = 256 << 20
"""A body, inflated, may be this long. TF Serving inflates up to 100 MiB and sets no other limit."""

_JSON = {"Content-Type": "application/json"}
_PAGE = {"Content-Type": "text/html", "Connection": "close"}  # libevent's own, and so is the next
_UNTYPED = {"Content-Type": "text/html; charset=ISO-8859-1"}


class RestAnswer(NamedTuple):
    """What goes back to the caller; an empty ``reason`` is the status's usual one."""

    status: int
    body: bytes
    headers: Mapping[str, str] = _JSON
    reason: str | None = None


Respond = Callable[[RestAnswer], None]


class PredictFormat:
    """Writes predict answers in the form of their request."""

    __slots__ = ("_row_form",)

    def __init__(self, row_form: bool) -> None:
        self._row_form = row_form

    def reply(self, reply: Reply) -> RestAnswer:
        return RestAnswer(200, tfs_rest.encode_predict(reply, row_form=self._row_form))

    def error(self, error: BatchProxyError) -> RestAnswer:
        return error_answer(error)


def error_answer(error: BatchProxyError) -> RestAnswer:
    """TF Serving's error document."""
    status, body = tfs_rest.encode_error(error)
    headers = _JSON
    if isinstance(error, Unavailable):
        headers = {**_JSON, "Retry-After": str(error.retry_after_s)}
    return RestAnswer(status, body, headers, tfs_rest.REASONS.get(status))


class RestRoutes:
    """Answers TF Serving's REST API for embedded models.

    Args:
        directory: the models.
        observer: told of each answered call.
        clock: monotonic seconds, the engines' own.
        timeout_s: how long an inference call may take; 0: for ever.
        deadline_header: request header that may shorten that, in milliseconds; lower case.
    """

    def __init__(
        self,
        directory: Directory,
        observer: Observer,
        clock: Callable[[], float],
        *,
        timeout_s: float,
        deadline_header: str | None,
    ) -> None:
        self._directory = directory
        self._observer = observer
        self._clock = clock
        self._timeout_s = timeout_s
        self._deadline_header = deadline_header

    def handle(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, respond: Respond
    ) -> Call[RestAnswer] | None:
        """Answer one request, now or later.

        Args:
            method: the HTTP method.
            path: path and query, as sent.
            headers: the request's, by case-insensitive name.
            body: the request's, inflated.
            respond: gets the answer, exactly once.

        Returns:
            The call that is under way, to be cancelled when the caller leaves; None where it was answered.
        """
        started = self._clock()
        model, verb = "", ""
        if (answer := _below_the_api(method, path, headers)) is not None:
            respond(answer)
            return None
        try:
            target = tfs_rest.parse_target(method, path)
            verb = target.verb
            if verb == "predict":
                return self._predict(target, headers, body, started, respond)
            model, answer = self._document(target)
        except BatchProxyError as error:
            answer = error_answer(error)
            code = error.code
        else:
            code = Code.OK
        self._observer.request_ended(model, verb, PROTOCOL, code, self._clock() - started)
        respond(answer)
        return None

    def too_large(self) -> RestAnswer:
        """The answer to a body over the limit."""
        return error_answer(
            TooLarge(f"the request's body is longer than {MAX_BODY_BYTES} bytes; send fewer rows at a time")
        )

    def _predict(
        self, target: tfs_rest.Target, headers: Mapping[str, str], body: bytes, started: float, respond: Respond
    ) -> Call[RestAnswer]:
        model, row_form = "", True
        try:
            envelope = tfs_rest.parse_body(body)
            served = self._directory.find(target.model, target.version, target.label)
            info = served.info
            model = info.name
            signature_name = envelope.signature_name
            signature = tfs_rest.signature_of(info, signature_name)
            decoded = tfs_rest.decode_predict(envelope, signature_name, signature)
            row_form = decoded.row_form
            deadline = self._deadline(headers, started)
            request = build_request(
                (model, info.version, signature_name), signature, decoded.columns, deadline=deadline
            )
        except BatchProxyError as error:
            refused = self._call(model, row_form, started, respond)
            refused.set_exception(error)
            return refused
        waiting = self._call(model, row_form, started, respond)
        waiting.start(served.engine, request)
        return waiting

    def _call(self, model: str, row_form: bool, started: float, respond: Respond) -> Call[RestAnswer]:
        return Call(PredictFormat(row_form), respond, partial(self._ended, model, started))

    def _ended(self, model: str, started: float, code: Code) -> None:
        self._observer.request_ended(model, "predict", PROTOCOL, code, self._clock() - started)

    def _deadline(self, headers: Mapping[str, str], started: float) -> float | None:
        """The sooner of the configured limit and the caller's header (R6).

        Raises:
            DecodeError: the header is no positive number of milliseconds.
        """
        limit_s = self._timeout_s or None
        text = headers.get(self._deadline_header) if self._deadline_header else None
        if text is not None:
            if not (text.isascii() and text.isdigit() and len(text) < 16):
                raise DecodeError(
                    f"header {self._deadline_header}: {text[:32]!r} is not a whole number of milliseconds"
                )
            asked_s = int(text) / 1000
            limit_s = asked_s if limit_s is None else min(limit_s, asked_s)
        return None if limit_s is None else started + limit_s

    def _document(self, target: tfs_rest.Target) -> tuple[str, RestAnswer]:
        if target.verb == "status":
            info = self._directory.find_status(target.model, target.version).info
            return info.name, RestAnswer(200, tfs_rest.encode_status([(info.version, "AVAILABLE")]))
        if target.verb == "metadata":
            info = self._directory.find(target.model, target.version, target.label).info
            return info.name, RestAnswer(200, tfs_rest.encode_metadata(info))
        self._directory.find(target.model, target.version, target.label)
        raise RequestError(f"{target.verb} is not answered for embedded models: use predict", code=Code.UNIMPLEMENTED)


def _below_the_api(method: str, path: str, headers: Mapping[str, str]) -> RestAnswer | None:
    """What TF Serving's HTTP layer answers by itself: paths outside ``/v1/`` and CORS preflights."""
    status = tfs_rest.outside(method, path)
    if status is not None:
        return RestAnswer(status, tfs_rest.error_page(status), _PAGE)
    if method == "OPTIONS":
        return RestAnswer(tfs_rest.preflight_status(headers.get("Origin")), b"", _UNTYPED)
    return None
