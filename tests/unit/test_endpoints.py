"""Endpoint strings: what parses, and what the errors suggest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.errors import ConfigError
from batchproxy.endpoints import (
    Kind,
    OnnxAddress,
    PythonAddress,
    ServerAddress,
    SourceAddress,
    parse,
    parse_address,
    server,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("onnx:models/digits", OnnxAddress("models/digits")),
        ("onnx:/models/a:b.onnx", OnnxAddress("/models/a:b.onnx")),
        ("python:package.module:predict", PythonAddress("package.module", "predict")),
        ("grpc://tf-0:8500", ServerAddress(grpc="tf-0:8500")),
        ("http://tf-0:8501", ServerAddress(rest="tf-0:8501")),
        ("grpcs://tf:8500,http://tf:8501", ServerAddress("tf:8500", "tf:8501", grpc_tls=True)),
        ("https://tf:8501", ServerAddress(rest="tf:8501", rest_tls=True)),
        ("dns+grpc://tf:1", SourceAddress(Kind.DNS, "tf", ServerAddress("tf:1"))),
        ("dns+grpc://tf:1,http://tf:2", SourceAddress(Kind.DNS, "tf", ServerAddress("tf:1", "tf:2"))),
        (
            "srv+v2+grpcs://_g._tcp.tf.local",
            SourceAddress(Kind.SRV, "_g._tcp.tf.local", ServerAddress("_g._tcp.tf.local:1", grpc_tls=True, v2=True)),
        ),
        ("file:servers.txt", SourceAddress(Kind.FILE, "servers.txt")),
        ("grpc://[::1]:8500,http://10.0.0.1:80", ServerAddress(grpc="[::1]:8500", rest="10.0.0.1:80")),
        ("grpc://unix:/run/tf,http://a_b.c:1".replace("tf,", "t:f,"), ServerAddress("unix:/run/t:f", "a_b.c:1")),
    ],
)
def test_known_schemes(text: str, expected: object) -> None:
    """A path, a module and a function, or the doors of a server come out; the name is what came in."""
    address = parse(text)

    assert expected == address
    assert text == address.name


def test_the_doors_of_a_server_have_one_order() -> None:
    """However they are written, the server has one name; a mapping means the same as a string."""
    address = parse("http://tf:8501,grpc://tf:8500")

    assert "grpc://tf:8500,http://tf:8501" == address.name
    assert server("tf:8500", "tf:8501") == address
    assert server(None, "tf:8501") == parse("http://tf:8501")
    assert server("grpcs://tf:8500", "https://tf:8501") == parse("https://tf:8501,grpcs://tf:8500")


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("models/digits", "'onnx:models/digits'"),
        ("onnx:", "write onnx:PATH"),
        ("onnx://models", "write onnx:PATH"),
        ("python:module", "write python:MODULE:FUNCTION"),
        ("python:my-module:f", "write python:MODULE:FUNCTION"),
        ("python:module:f.g", "write python:MODULE:FUNCTION"),
        ("python:.module:f", "write python:MODULE:FUNCTION"),
        ("onxn:x", "did you mean 'onnx'?"),
        ("ftp:x", "known: onnx:PATH, python:MODULE:FUNCTION, grpc://HOST:PORT, http://HOST:PORT"),
        ("tf:8500", "has no scheme; write 'grpc://tf:8500' or 'http://tf:8500'"),
        ("unix:/run/tf.sock", "write grpc://unix:/PATH"),
        ("grpc:tf:8500", "'grpc:tf:8500' is not grpc://HOST:PORT or http://HOST:PORT"),
        ("grpc://tf:8500,", "'' is not grpc://HOST:PORT or http://HOST:PORT"),
        ("grpc://tf:8500,tf:8501", "'tf:8501' is not grpc://HOST:PORT or http://HOST:PORT"),
        ("grpc://tf:8500,v2+http://tf:8501", "the doors of one server speak the same protocol"),
        ("v2+grpc://tf:8500,http://tf:8501", "the doors of one server speak the same protocol"),
        ("v2+grpc://tf", "the grpc door: expected host:port such as 'tf-0:8500', got 'tf'"),
        ("v2+onnx:x", "unknown scheme 'v2+onnx'"),
        ("grpc://tf:8500,grpcs://tf:8500", "two grpc doors"),
        ("dns+grpc://10.0.0.1:1", "10.0.0.1 is an address already; leave dns+ away"),
        ("dns+grpc://a:1,http://b:1", "dns+ looks one name up; its doors have a and b"),
        ("dns+grpc://unix:/run/tf", "dns+ looks one name up; its doors have none"),
        ("dns+onnx:x", "unknown scheme 'dns+onnx'"),
        ("srv+grpc://tf:8500", "write srv+grpc://RECORD without a port, such as srv+grpc://_grpc._tcp.tf.local"),
        ("srv+grpc://_g._tcp.tf,http://_h._tcp.tf", "write srv+grpc://RECORD without a port"),
        ("file:", "write file:PATH"),
        ("file:///etc/x", "write file:PATH"),
        ("grpcs://unix:/run/tf.sock", "write unix:/PATH, from the root"),
        ("https://tf", "the rest door: expected host:port such as 'tf-0:8501', got 'tf'"),
        ("grpc://a:1,grpc://b:1", "two grpc doors; a comma joins the grpc and the http door of one server"),
        ("http://a:1,http://b:1,grpc://a:2", "two http doors"),
        ("grpc://tf", "the grpc door: expected host:port such as 'tf-0:8500', got 'tf'"),
        ("grpc://tf:0", "the grpc door: 'tf:0' has port 0; name the port that the server listens on"),
        (
            "http://tf:8501/v1",
            "the rest door: expected host:port such as 'tf-0:8501', got 'tf:8501/v1'; leave the path",
        ),
        ("http://u:p@tf:8501", "the rest door: expected host:port"),
        ("http://unix:/run/tf.sock", "TF Serving has no Unix socket for REST"),
        ("grpc://unix:run/tf.sock", "write unix:/PATH, from the root"),
        ("grpc://unix:8500", "write unix:/PATH, from the root"),
    ],
)
def test_wrong_endpoints_name_themselves_and_the_fix(text: str, fix: str) -> None:
    """The error repeats the string and says what would be right."""
    with pytest.raises(ConfigError) as caught:
        parse(text)

    assert repr(text) in caught.value.message
    assert fix in caught.value.message


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("v2+grpc://triton:8001", ServerAddress("triton:8001", v2=True)),
        ("v2+http://triton:8000,v2+grpc://triton:8001", ServerAddress("triton:8001", "triton:8000", v2=True)),
        ("v2+grpcs://ovms:9000", ServerAddress("ovms:9000", grpc_tls=True, v2=True)),
        ("v2+grpc://unix:/run/triton.sock", ServerAddress("unix:/run/triton.sock", v2=True)),
    ],
)
def test_servers_of_the_open_inference_protocol(text: str, address: ServerAddress) -> None:
    """The doors are told by their schemes; the name is read as the same address again."""
    found = parse(text)

    assert address == found
    assert address == parse(address.name)


@pytest.mark.parametrize(
    ("grpc", "rest", "expected"),
    [
        (None, None, "a server needs a door, as in {grpc: 'tf-0:8500', rest: 'tf-0:8501'}"),
        (
            "grpc://tf:8500",
            None,
            "the grpc door: expected host:port such as 'tf-0:8500', got 'grpc://tf:8500'; leave the scheme away",
        ),
        (None, "tf", "the rest door: expected host:port such as 'tf-0:8501', got 'tf'"),
    ],
)
def test_wrong_doors(grpc: str | None, rest: str | None, expected: str) -> None:
    """The door and the fix are named."""
    with pytest.raises(ConfigError) as caught:
        server(grpc, rest)

    assert expected == caught.value.message


PIECES = st.sampled_from(["grpc", "http", "s", "onnx", "://", ":", ",", "unix:/", "tf", "8500", "[::1]", "/", "@", " "])


@given(st.text() | st.lists(PIECES, max_size=12).map("".join))
def test_any_text_parses_or_is_a_config_error(text: str) -> None:
    """No text breaks the parser, and a name is read as what it names."""
    try:
        address = parse(text)
    except ConfigError:
        return

    assert address == parse(address.name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0:8501", ("0.0.0.0", 8501)),
        ("[::1]:80", ("::1", 80)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    """Host and port come apart, brackets come off."""
    assert expected == parse_address(text)


@pytest.mark.parametrize(
    "text",
    ["", "8501", ":8501", "a:", "a:65536", "a:-1", "::1:80", "[1:2]:80", "[::1%\n]:80", "http://a:1", "a b:1", "a@b:1"],
)
def test_what_is_no_address(text: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(ConfigError, match="expected host:port such as"):
        parse_address(text)


@given(st.text())
def test_any_text_is_an_address_or_a_config_error(text: str) -> None:
    """No text breaks the parser, and a port fits 16 bits."""
    try:
        host, port = parse_address(text)
    except ConfigError:
        return

    assert host
    assert 0 <= port <= 65535
