"""TF Serving's REST API: paths, bodies, answers, errors. Bytes in, bytes out; no HTTP connection and no look-up here.

A predict call is answered in TF Serving's order of checks: ``parse_target``, ``parse_body``, a look-up of the model,
``signature_of``, ``decode_predict``, the model itself, ``encode_predict``. So a broken body sent to an unknown
model is a parse error. Sources: tensorflow/serving ``model_servers/http_rest_api_handler.cc`` and
``http_rest_api_util.cc``; around it libevent 2.1.12's ``http.c``, whose own pages and words callers see as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast
from urllib.parse import unquote_to_bytes

from batchproxy.codecs import tfs_json
from batchproxy.codecs.tfs_documents import encode_metadata as encode_metadata
from batchproxy.codecs.tfs_documents import encode_status as encode_status
from batchproxy.codecs.tfs_echo import echo, quoted
from batchproxy.codecs.tfs_exact import exact_columns
from batchproxy.codecs.tfs_fast import Quick
from batchproxy.codecs.tfs_parse import MISSING, Members, parse
from batchproxy.core.columns import Array, ArrayColumn
from batchproxy.core.errors import BatchProxyError, DecodeError, RequestError
from batchproxy.core.request import Reply, Share
from batchproxy.core.shapes import DEFAULT_SIGNATURE, ModelInfo, Signature

METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"})
"""HTTP methods that reach the API; libevent answers 501 to the others."""

REASONS: Mapping[int, str] = {
    408: "Request Time-out",
    413: "Request Entity Too Large",
    414: "Request-URI Too Large",
    416: "Requested range not satisfiable",
    429: "Client Error",
    499: "Client Error",
    504: "Gateway Time-out",
    505: "HTTP Version not supported",
}
"""libevent's reason phrases where they are not today's usual ones (``http.c``, ``response_classes``)."""

PAGE_REASONS: Mapping[int, str] = {400: "Bad Request", 404: "Not Found", 501: "Not Implemented"}
"""The statuses of ``outside``, in words."""

CORS_HEADERS: Mapping[str, str] = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
"""On every answer under ``/v1/`` with ``--rest_api_enable_cors_support``."""

_INT64_MAX = 2**63 - 1
_API = re.compile(r"/v1/.*", re.IGNORECASE | re.ASCII)
_PREDICTION = re.compile(
    r"/v1/models/([^/:]+)(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?:(classify|regress|predict)",
    re.IGNORECASE | re.ASCII,
)
_STATUS = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?(?:/(metadata))?", re.IGNORECASE | re.ASCII
)
_CHARACTER = r"[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2}"
_URI = re.compile(rf"(?:{_CHARACTER})*(?:\?(?:{_CHARACTER}|\?)*)?(?:#(?:{_CHARACTER}|\?)*)?")


class Target(NamedTuple):
    """What a request asks for. At most one of ``version`` and ``label`` is set.

    Attributes:
        verb: ``predict``, ``classify``, ``regress``, ``status`` or ``metadata``.
        model: its name, never empty.
        version: the exact version asked for; None for none.
        label: the version label asked for; None for none.
    """

    verb: str
    model: str
    version: int | None = None
    label: str | None = None


class VersionOverflow(DecodeError):
    """A version number beyond 64 bits: answered with 400 and, alone among the errors, with an empty body."""


@dataclass(slots=True, eq=False)
class Envelope:
    """A parsed request body.

    Attributes:
        body: the bytes.
        quick: the body as orjson read it; None where only the exact way will do.
        sent_signature: as sent; empty for none.
    """

    body: bytes
    quick: Quick | None
    sent_signature: str
    _doc: Members | None = None

    @property
    def signature_name(self) -> str:
        """After defaulting, so never empty."""
        return self.sent_signature or DEFAULT_SIGNATURE

    @property
    def doc(self) -> Members:
        """The top level, read the exact way; the caller has seen that it can be read."""
        if self._doc is None:
            self._doc = parse(self.body)
        return self._doc


@dataclass(slots=True, eq=False)
class PredictCall:
    """A decoded predict call.

    Attributes:
        columns: input alias to column.
        row_form: whether it came as ``instances``; the answer takes the same form.
    """

    columns: dict[str, ArrayColumn]
    row_form: bool


# ---------------------------------------------------------------- paths


def outside(method: str, uri: str) -> int | None:
    """The status of libevent's own page for a request that never reaches the API; None where it does.

    Args:
        method: the HTTP method.
        uri: path and query, as sent.
    """
    if method not in METHODS:
        return 501
    if _URI.fullmatch(uri) is None:
        return 400
    return None if _API.fullmatch(uri) else 404


def error_page(status: int) -> bytes:
    """libevent's page for one of the statuses of ``outside``; it goes as ``text/html`` and closes the connection."""
    reason = PAGE_REASONS[status]
    return (
        f"<HTML><HEAD>\n<TITLE>{status} {reason}</TITLE>\n</HEAD><BODY>\n<H1>{reason}</H1>\n</BODY></HTML>\n".encode()
    )


def preflight_status(origin: str | None) -> int:
    """The status of an OPTIONS request with this ``Origin`` header; the body is empty, the type libevent's default."""
    return 200 if origin is not None and ("http://" in origin or "https://" in origin) else 400


def parse_target(method: str, uri: str) -> Target:
    """What a request under ``/v1/`` asks for.

    Args:
        method: the HTTP method; all but GET and POST are malformed here.
        uri: path and query, as sent: a query makes a POST malformed and is a part of a GET's model name.

    Raises:
        DecodeError: none of the routes.
        VersionOverflow: a version that is no 64-bit number.

    >>> parse_target("POST", "/v1/models/m/versions/7:predict")
    Target(verb='predict', model='m', version=7, label=None)
    """
    route = {"POST": _PREDICTION, "GET": _STATUS}.get(method)
    found = route.fullmatch(uri) if route else None
    if found is None:
        raise _malformed(method, uri)
    name, version, label, word = found.groups()
    number = None if version is None else int(version.lstrip("0")[:20] or "0")  # 2^63 has 19 digits
    if number is not None and number > _INT64_MAX:
        raise VersionOverflow(f"Failed to convert version: {version} to numeric.")
    if method == "GET":
        if not name:
            raise DecodeError("Missing model name in request.")
        verb = "metadata" if word == "metadata" else "status"  # /METADATA gives the status
    elif word in {"predict", "classify", "regress"}:
        verb = word
    else:
        raise _malformed(method, uri)  # the route ignores case, the verb does not
    return Target(verb, _unescaped(name), number, None if label is None else _unescaped(label))


def _malformed(method: str, uri: str) -> DecodeError:
    return DecodeError(f"Malformed request: {method} {uri}")


def _unescaped(text: str) -> str:
    return unquote_to_bytes(text).decode("utf-8", "surrogateescape") if "%" in text else text


# ---------------------------------------------------------------- predict


def parse_body(body: bytes) -> Envelope:
    """Read a predict request as far as it can be read without its model.

    Raises:
        DecodeError: no JSON, no object, or a signature name that is no string.
    """
    quick = Quick.of(body)
    if quick is not None:
        name = quick.doc.get("signature_name", "")
        if type(name) is str:
            return Envelope(body, quick, name)
    doc = parse(body)
    if not isinstance(doc, Members):
        raise DecodeError(f"JSON Value: {echo(doc)} Is not object")
    name = doc.find(b"signature_name")
    if name is MISSING:
        name = b""
    if not isinstance(name, bytes):
        raise DecodeError(
            f"JSON Value: {echo(doc)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return Envelope(body, None, name.decode("utf-8", "surrogateescape"), doc)


def signature_of(info: ModelInfo, name: str) -> Signature:
    """The signature called ``name``.

    Raises:
        RequestError: INVALID_ARGUMENT (gRPC answers another code and text).
    """
    signature = info.signatures.get(name)
    if signature is None:
        raise RequestError(f'Serving signature name: "{name}" not found in signature def')
    return signature


def decode_predict(envelope: Envelope, signature_name: str, signature: Signature) -> PredictCall:
    """Turn a request into columns by the dtypes of its signature.

    Args:
        envelope: from ``parse_body``.
        signature_name: the name of ``signature``, for an error text.
        signature: where it declares nothing, anything goes: named inputs as given, a plain value as the input ``x``;
            whole numbers are int64, decimals float32, booleans bool, text and base64 bytes.

    Raises:
        DecodeError: TF Serving's text; UNIMPLEMENTED for a dtype that has no JSON form, in column form.
    """
    taken = envelope.quick.columns(signature) if envelope.quick is not None else None
    if taken is None:
        taken = exact_columns(envelope.doc, signature, signature_name if envelope.sent_signature else "")
    arrays, row_form = taken
    return PredictCall({name: ArrayColumn(array) for name, array in arrays.items()}, row_form)


def encode_predict(reply: Reply, *, row_form: bool) -> bytes:
    """Write an answer in the form of its request.

    Args:
        reply: its columns are ``ArrayColumn``.
        row_form: whether the request came as ``instances``.

    Raises:
        RequestError: TF Serving's text: outputs without rows, with unequal numbers of them, without a JSON form.
        BackendProtocolError: an array that is no tensor.
    """
    if row_form and type(reply) is Share:
        rows: tfs_json.Rows | None = reply.whole.memo.get(tfs_json.Rows)
        if rows is None:
            rows = reply.whole.memo[tfs_json.Rows] = tfs_json.row_texts(_arrays(reply.whole))
        return tfs_json.framed(rows, reply.start, reply.stop)
    return tfs_json.predictions(_arrays(reply)) if row_form else tfs_json.outputs(_arrays(reply))


def _arrays(reply: Reply) -> dict[str, Array]:
    return {name: cast("ArrayColumn", column).array for name, column in reply.columns.items()}


# ---------------------------------------------------------------- errors


def encode_error(error: BatchProxyError) -> tuple[int, bytes]:
    r"""The status and the body of an error.

    >>> encode_error(DecodeError("no"))
    (400, b'{\n    "error": "no"\n}')
    """
    if isinstance(error, VersionOverflow):
        return 400, b""
    try:
        text = error.message.encode("utf-8", "surrogateescape")  # echoed bytes go back as they came
    except UnicodeEncodeError:  # half of a surrogate pair in some model's own text
        text = error.message.encode("utf-8", "replace")
    return error.http_status, b'{\n    "error": ' + quoted(text) + b"\n}"
