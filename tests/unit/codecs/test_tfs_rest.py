"""Paths, bodies and errors of the REST API; ``tests/conformance/test_rest_golden.py`` has the recorded ones."""

from __future__ import annotations

import numpy as np
import pytest

from batchproxy.codecs import tfs_rest
from batchproxy.codecs.tfs_rest import Target, VersionOverflow
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import DecodeError, Draining, RequestError
from batchproxy.core.request import Reply
from batchproxy.core.shapes import UNDECLARED, ModelInfo, Signature, TensorSpec

NO_STRING = (
    "JSON Value: {\n    \"signature_name\": 5\n} not formatted correctly. 'signature_name' key must be a string value."
)
FLOAT = Signature({"x": TensorSpec("float32", (None,))}, {"y": TensorSpec("float32", (None,))})


@pytest.mark.parametrize(
    ("method", "uri", "target"),
    [
        ("POST", "/v1/models/m:predict", Target("predict", "m")),
        ("POST", "/V1/MODELS/m/VERSIONS/007:classify", Target("classify", "m", version=7)),
        ("POST", "/v1/models/m/labels/a%20b:regress", Target("regress", "m", label="a b")),
        ("POST", "/v1/models/a%2Fb+c%ff:predict", Target("predict", "a/b+c\udcff")),
        ("POST", "/v1/models/m/versions/" + "0" * 5000 + "1:predict", Target("predict", "m", version=1)),
        ("GET", "/v1/models/m", Target("status", "m")),
        ("GET", "/v1/models/m?x=1", Target("status", "m?x=1")),
        ("GET", "/v1/models/metadata", Target("status", "metadata")),
        ("GET", "/v1/models/m/METADATA", Target("status", "m")),
        ("GET", "/v1/models/m/labels/l/metadata", Target("metadata", "m", label="l")),
    ],
)
def test_targets(method: str, uri: str, target: Target) -> None:
    """Names are decoded after the path was taken apart."""
    ours = tfs_rest.parse_target(method, uri)

    assert target == ours


@pytest.mark.parametrize(
    ("method", "uri"),
    [
        ("POST", "/v1/models/m:PREDICT"),
        ("POST", "/v1/models/m:predict?x=1"),
        ("POST", "/v1/models/m/versions/1/labels/l:predict"),
        ("POST", "/v1/models/m/versions/\u0661:predict"),
        ("GET", "/v1/models/m:predict"),
        ("PUT", "/v1/models/m"),
    ],
)
def test_malformed_requests_are_repeated(method: str, uri: str) -> None:
    """With method, path and query."""
    with pytest.raises(DecodeError) as caught:
        tfs_rest.parse_target(method, uri)

    assert f"Malformed request: {method} {uri}" == caught.value.message


@pytest.mark.parametrize("uri", ["/v1/models", "/v1/models/versions/1", "/v1/models/labels/l/metadata"])
def test_a_missing_name_is_told(uri: str) -> None:
    """There is no list of all models."""
    with pytest.raises(DecodeError, match=r"^Missing model name in request\.$"):
        tfs_rest.parse_target("GET", uri)


def test_a_version_beyond_64_bits_has_no_body() -> None:
    """Alone among the errors."""
    with pytest.raises(VersionOverflow) as caught:
        tfs_rest.parse_target("GET", "/v1/models/m/versions/9223372036854775808")

    assert tfs_rest.encode_error(caught.value) == (400, b"")
    assert tfs_rest.parse_target("GET", "/v1/models/m/versions/9223372036854775807").version == 2**63 - 1


@pytest.mark.parametrize(
    ("method", "uri", "status"),
    [
        ("TRACE", "/v1/models/m", 501),
        ("GET", "/v1/models/%zz", 400),
        ("GET", "/v1/models/\u00e9", 400),
        ("GET", "/v2/models/m", 404),
        ("GET", "/", 404),
        ("OPTIONS", "/v1/models/m?a=b/c?d#e", None),
        ("PATCH", "/V1/", None),
    ],
)
def test_what_never_reaches_the_api(method: str, uri: str, status: int | None) -> None:
    """libevent answers by itself."""
    ours = tfs_rest.outside(method, uri)

    assert status == ours


def test_libevent_s_page() -> None:
    """HTML, with the reason twice."""
    page = tfs_rest.error_page(404)

    assert (b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n") == page


@pytest.mark.parametrize(("origin", "status"), [("https://a", 200), ("http://a", 200), ("ftp://a", 400), (None, 400)])
def test_preflight(origin: str | None, status: int) -> None:
    """An origin must be there, and be of the web."""
    ours = tfs_rest.preflight_status(origin)

    assert status == ours


@pytest.mark.parametrize(
    ("body", "sent", "name"),
    [
        (b"{}", "", "serving_default"),
        (b'{"signature_name": ""}', "", "serving_default"),
        (b'{"signature_name": "s"}', "s", "s"),
        (b'{"signature_name": "s"} and more', "s", "s"),
        (b'{"signature_name": "first", "signature_name": "last"}', "first", "first"),
        (b'{"signature_name": "\xff"}', "\udcff", "\udcff"),
        (b"{} and more", "", "serving_default"),
    ],
)
def test_the_signature_s_name(body: bytes, sent: str, name: str) -> None:
    """Read either way."""
    envelope = tfs_rest.parse_body(body)

    assert (sent, name) == (envelope.sent_signature, envelope.signature_name)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"[1]", "JSON Value: [1] Is not object"),
        (b"{", "JSON Parse error: Missing a name for object member. at offset: 1"),
        (
            b'{"signature_name": 5}',
            NO_STRING,
        ),
    ],
)
def test_bodies_that_are_refused_before_their_model_is_looked_for(body: bytes, text: str) -> None:
    """In TF Serving's words."""
    with pytest.raises(DecodeError) as caught:
        tfs_rest.parse_body(body)

    assert text == caught.value.message


def test_an_unknown_signature() -> None:
    """gRPC has another code and text."""
    info = ModelInfo("m", 1, {"serving_default": FLOAT})

    assert tfs_rest.signature_of(info, "serving_default") is FLOAT
    with pytest.raises(RequestError, match=r'^Serving signature name: "z" not found in signature def$'):
        tfs_rest.signature_of(info, "z")


@pytest.mark.parametrize(
    "body", [b'{"instances": [1, 2]}', b'{"instances": [1, 2]} more', b'{"instances": [1, 2, 3], "instances": []}']
)
def test_columns_come_out(body: bytes) -> None:
    """Read either way."""
    envelope = tfs_rest.parse_body(body)
    call = tfs_rest.decode_predict(envelope, envelope.signature_name, FLOAT)

    assert call.row_form
    assert [1, 2] == call.columns["x"].array.tolist()[:2]
    assert call.columns["x"].array.dtype == np.float32


def test_a_refusal_comes_from_the_exact_way() -> None:
    """Though the fast way has read the body, too."""
    envelope = tfs_rest.parse_body(b'{"instances": [1, "a"]}')

    assert envelope.quick is not None
    for _ in range(2):  # the second time the document is there already
        with pytest.raises(DecodeError, match=r"^Failed to process element: 1 of 'instances' list"):
            tfs_rest.decode_predict(envelope, envelope.signature_name, FLOAT)


@pytest.mark.parametrize(("sent", "named"), [(b"", "DEFAULT"), (b', "signature_name": "s"', "s")])
def test_a_signature_without_inputs_is_named(sent: bytes, named: str) -> None:
    """As it was sent."""
    envelope = tfs_rest.parse_body(b'{"inputs": 1%s}' % sent)

    with pytest.raises(DecodeError, match=rf"^Failed to get input map for signature: {named}$"):
        tfs_rest.decode_predict(envelope, envelope.signature_name, Signature())


def test_a_model_that_declares_nothing() -> None:
    """The plain value is its input x."""
    envelope = tfs_rest.parse_body(b'{"inputs": [1, 2]}')
    call = tfs_rest.decode_predict(envelope, envelope.signature_name, UNDECLARED)

    assert not call.row_form
    assert {"x": "int64"} == {name: column.array.dtype.name for name, column in call.columns.items()}


def test_an_answer_takes_the_form_of_its_request() -> None:
    """Rows or columns."""
    reply = Reply({"y": ArrayColumn(np.array([2.5], np.float32))}, 1)

    assert tfs_rest.encode_predict(reply, row_form=True) == b'{\n    "predictions": [2.5\n    ]\n}'
    assert tfs_rest.encode_predict(reply, row_form=False) == b'{\n    "outputs": [\n        2.5\n    ]\n}'


@pytest.mark.parametrize(
    ("message", "body"),
    [
        ('say "\u00e9"\n', '"say \\"\u00e9\\"\\n"'.encode()),
        ("\udcff", b'"\xff"'),
        ("\ud800", b'"?"'),
    ],
)
def test_errors_are_json_whatever_their_text(message: str, body: bytes) -> None:
    """Echoed bytes go back as they came."""
    status, ours = tfs_rest.encode_error(Draining(message))

    assert (503, b'{\n    "error": ' + body + b"\n}") == (status, ours)
