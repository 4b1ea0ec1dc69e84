"""REST answers and the formats that write them: from columns, from a slice of a server's answer, or as it came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple, cast

from multidict import CIMultiDict

from batchproxy.codecs import tfs_json, tfs_rest, tfs_splice
from batchproxy.core.errors import BackendError, BatchProxyError, Code, DeadlineExceeded, Unavailable
from batchproxy.core.raw import Header, RawReply
from batchproxy.core.request import Reply, Share
from batchproxy.frontends.call import TooLong
from batchproxy.frontends.heavy import LONG_ANSWER, Heavy

_JSON = {"Content-Type": "application/json"}
_PAGE = {"Content-Type": "text/html", "Connection": "close"}  # libevent's own, and so is the next
_UNTYPED = {"Content-Type": "text/html; charset=ISO-8859-1"}


TIMED_OUT = "Timed out waiting for notification"
"""What ``--rest_api_timeout_in_ms`` makes TensorFlow say (``common_runtime/direct_session.cc``)."""


class RestAnswer(NamedTuple):
    """What goes back to the caller; no ``reason``: the status's usual one. A relay's headers may repeat a name."""

    status: int
    body: bytes
    headers: Mapping[str, str] = _JSON
    reason: str | None = None


class RestAnswers(NamedTuple):
    """Answers that differ in nothing but their bodies.

    Attributes:
        like: all of them, but for the body.
        bodies: of each.
    """

    like: RestAnswer
    bodies: Sequence[bytes]


class PassedOn(RestAnswer):
    """What a server said, or a slice of it: its header fields are that server's matter."""

    __slots__ = ()


_LIKE = RestAnswer(200, b"")


class PredictFormat:
    """Writes columns as TF Serving's JSON, in the form of the request.

    Args:
        row_form: that form.
        heavy: writes what is long; None: nothing is too long.
    """

    __slots__ = ("_heavy", "_row_form")

    def __init__(self, row_form: bool, heavy: Heavy | None = None) -> None:
        self._row_form = row_form
        self._heavy = heavy

    def reply(self, reply: Reply) -> RestAnswer:
        if type(reply) is Share and self._row_form:
            rows = reply.whole.memo.get(tfs_json.Rows)  # written already, for another share
            if rows is not None:
                return tuple.__new__(RestAnswer, (200, tfs_json.framed(rows, reply.start, reply.stop), _JSON, None))
        if self._heavy is not None:
            whole = reply.whole if self._row_form and type(reply) is Share else reply  # its rows are written once
            if type(whole) is Share or tfs_json.Rows not in whole.memo:
                nbytes = 0
                for column in whole.columns.values():
                    nbytes += column.nbytes
                if nbytes > LONG_ANSWER:
                    key = None if whole is reply else (PredictFormat, id(whole))
                    raise TooLong(self._heavy, partial(self._write, reply), key)
        return self._write(reply)

    def replies(self, replies: Sequence[Reply]) -> RestAnswers | None:
        """The answers to the members of one call; None: each is to be written by itself."""
        first = replies[0]
        if type(first) is not Share or not self._row_form:
            return None
        memo = first.whole.memo
        if tfs_json.Rows not in memo:
            _ = self.reply(first)  # writes them, if they are not too long to be written here
        return RestAnswers(_LIKE, tfs_json.framed_each(memo[tfs_json.Rows], cast("Sequence[Share]", replies)))

    def _write(self, reply: Reply) -> RestAnswer:
        return RestAnswer(200, tfs_rest.encode_predict(reply, row_form=self._row_form))

    def error(self, error: BatchProxyError) -> RestAnswer:
        return our_error(error)


class RelayFormat:
    """Passes on what a server said: as it came, or this caller's slice of it."""

    def reply(self, reply: Reply) -> RestAnswer:
        if type(reply) is not Share:
            if reply.raw is not None:
                return _as_it_came(reply.raw)
            body = tfs_splice.splice(cast("Mapping[str, tfs_splice.JsonAnswer]", reply.columns))
            return PassedOn(200, body, _fields_of_merged(tuple(reply.headers)))
        like, (body,) = _slices([reply])
        return like._replace(body=body)

    def replies(self, replies: Sequence[Reply]) -> RestAnswers | None:
        """The answers to the members of one call; None: each is to be written by itself."""
        return _slices(cast("Sequence[Share]", replies)) if type(replies[0]) is Share else None

    def error(self, error: BatchProxyError) -> RestAnswer:
        raw = error.raw if isinstance(error, BackendError) else None
        return _as_it_came(raw) if raw is not None else our_error(error)


def _slices(shares: Sequence[Share]) -> RestAnswers:
    """What a server said, for each of those who share it."""
    whole = shares[0].whole
    columns = cast("Mapping[str, tfs_splice.JsonAnswer]", whole.columns)
    fields = whole.memo.get(_fields_of_merged)
    if fields is None:
        fields = whole.memo[_fields_of_merged] = _fields_of_merged(tuple(whole.headers))
    bodies = [tfs_splice.cut(columns, share.start, share.stop) for share in shares]
    return RestAnswers(PassedOn(200, b"", fields), bodies)


def _as_it_came(raw: RawReply) -> RestAnswer:
    headers = raw.headers
    return PassedOn(raw.status, raw.body, _same(headers) if type(headers) is tuple else _fields(headers), raw.message)


@lru_cache(maxsize=256)  # as ``_same``
def _fields_of_merged(headers: tuple[Header, ...]) -> Mapping[str, str]:
    """The fields of a server's answer to a merged call; the date is our own, as the answer is."""
    fields = _fields(headers)
    fields.popall("Date", None)
    if fields.keys() == {"content-type"}:
        return {"Content-Type": fields["Content-Type"]}
    return fields


def _fields(headers: Sequence[Header]) -> CIMultiDict[str]:
    return CIMultiDict((name, value if isinstance(value, str) else value.decode("latin-1")) for name, value in headers)


_same = lru_cache(maxsize=256)(_fields)  # one object for the equal heads of a server's answers


def our_error(error: BatchProxyError) -> RestAnswer:
    """TF Serving's error document; a call whose time was up, here or on its way, is told in TF Serving's words."""
    if error.code is Code.DEADLINE_EXCEEDED and not (isinstance(error, BackendError) and error.raw is not None):
        error = DeadlineExceeded(TIMED_OUT)
    status, body = tfs_rest.encode_error(error)
    return RestAnswer(status, body, {**_JSON, **retry_after(error)}, tfs_rest.REASONS.get(status))


def retry_after(error: BatchProxyError) -> Mapping[str, str]:
    """The field that says when to come again, where that may help (R7)."""
    if error.code is not Code.UNAVAILABLE:
        return {}
    return {"Retry-After": str(error.retry_after_s if isinstance(error, Unavailable) else Unavailable.retry_after_s)}


def below_the_api(method: str, path: str, origin: str | None) -> RestAnswer | None:
    """What TF Serving's HTTP layer answers by itself: paths outside ``/v1/`` and CORS preflights.

    Args:
        method: the HTTP method.
        path: path and query, as sent.
        origin: the ``Origin`` header.
    """
    status = tfs_rest.outside(method, path)
    if status is not None:
        return RestAnswer(status, tfs_rest.error_page(status), _PAGE)
    if method == "OPTIONS":
        return RestAnswer(tfs_rest.preflight_status(origin), b"", _UNTYPED)
    return None
