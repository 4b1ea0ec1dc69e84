"""The test server's REST door against what a real TF Serving answered: status, reason, headers and body, over sockets.

Before it bears witness against the proxy it must itself pass (``rest_*.json``, those with TF Serving's own batching
left out: the test server has none). Nothing here imports TensorFlow.
"""

from __future__ import annotations

import ast
import http.client
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.golden_cases import GOLDEN, Answer, Case, load_cases, same_answer
from tests.tfserving import json_read
from tests.tfserving.fixture import MODELS, Server, running_server
from tests.tfserving.json_write import echo

PLAIN = [
    "rest_predict_basic",
    "rest_json_parse",
    "rest_number_format",
    "rest_dtypes",
    "rest_strings",
    "rest_shapes",
    "rest_status_metadata",
    "rest_routing",
    "rest_transport",
    "rest_classify_regress",
]
FLAGGED = ["rest_cors", "rest_method_name_check", "rest_timeout", "rest_tensor_content_flag"]
CASES = load_cases(*PLAIN, *FLAGGED)
ITEMS: dict[str, dict[str, Any]] = {}
FLAGS: dict[str, str] = {}
for _group in (*PLAIN, *FLAGGED):
    _recorded = json.loads((GOLDEN / f"{_group}.json").read_text())
    for _item in _recorded["cases"]:
        ITEMS[_item["name"]] = _item
        FLAGS[_item["name"]] = _recorded.get("flags", "")

Servers = Callable[[str], Server]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """One server for each set of flags, started when it is first asked for."""
    running: dict[str, Server] = {}
    with ExitStack() as stack:

        def get(flags: str) -> Server:
            if flags not in running:
                models = ["half_plus_two", "slow", "strings", "int64_model", "example_tf2"] if flags else []
                running[flags] = stack.enter_context(running_server(*flags.split(), models=models))
            return running[flags]

        yield get


def ask(server: Server, case: Case) -> tuple[Answer, str, list[list[str]]]:
    """Sends a recorded request as it was sent; the answer, its reason and its headers but for the date."""
    connection = http.client.HTTPConnection(server.rest, timeout=30)
    item = ITEMS[case.name]["request"]
    if item.get("http_version") == "1.0":
        connection._http_vsn, connection._http_vsn_str = 10, "HTTP/1.0"  # type: ignore[attr-defined]
    try:
        connection.putrequest(case.method, case.path, skip_accept_encoding=True)
        for name, value in case.headers.items():
            connection.putheader(name, value)
        if "body" in item or "body_b64" in item:
            connection.putheader("Content-Length", str(len(case.body)))
        connection.endheaders(case.body)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    headers = [[name, value] for name, value in response.getheaders() if name != "Date"]
    return Answer(response.status, body), response.reason, headers


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.answers])
def test_answers_as_recorded(name: str, servers: Servers) -> None:
    """Each request gets one of its recorded answers, with the recorded reason and headers in their order."""
    answer, reason, headers = ask(servers(FLAGS[name]), CASES[name])

    assert same_answer(CASES[name], answer), answer.body.decode(errors="replace")
    assert ITEMS[name]["response"]["reason"] == reason
    assert without_length(ITEMS[name]["response"]["headers"]) == without_length(headers)
    assert str(len(answer.body)) == dict(headers).get("Content-Length", str(len(answer.body)))


def without_length(headers: list[list[str]]) -> list[list[str]]:
    """The length is that of the body; alternatives and other orders of keys have their own."""
    return [[name, "" if name == "Content-Length" else value] for name, value in headers]


def test_strings_kill_a_server_with_tensor_content() -> None:
    """With tensor_content on, strings end the process, and the next call finds nobody, as recorded."""
    died, refused = CASES["tensor_content_flag/strings"], CASES["tensor_content_flag/int64"]
    with running_server(*FLAGS[died.name].split(), models=["strings"]) as server:
        with pytest.raises(ConnectionResetError):  # RemoteDisconnected is one: FIN or RST, as the kernel has it
            ask(server, died)
        with pytest.raises((ConnectionRefusedError, ConnectionResetError)):
            ask(server, refused)

    assert "RemoteDisconnected" in ITEMS[died.name]["transport_error"]
    assert "ConnectionRefused" in ITEMS[refused.name]["transport_error"]


def test_every_case_is_asked() -> None:
    """No recorded file of the kind is forgotten, and only the two calls of the dying server have no answer."""
    files = {path.stem for path in GOLDEN.glob("rest_*.json")}

    assert {*PLAIN, *FLAGGED} == {name for name in files if not name.startswith("rest_batching")}
    assert {"tensor_content_flag/strings", "tensor_content_flag/int64"} == {
        name for name, case in CASES.items() if not case.answers
    }


def state_machine(body: bytes) -> json_read.Value:
    """The slow way, for bodies that would go the fast one."""
    return json_read._Reader(body).read()


READERS = {"as used": json_read.parse, "state machine": state_machine}


@pytest.mark.parametrize("reader", READERS)
def test_reads_json_as_the_engine_does(reader: str) -> None:
    """The reader and the echo say, for each recorded text, what rapidjson itself said."""
    wrong = []
    for case in json.loads((GOLDEN / "rapidjson.json").read_text())["cases"]:
        body = case["body"].encode("latin-1")
        if not body:
            continue  # TF Serving answers an empty body itself; a recorded REST case
        double = None
        try:
            value = READERS[reader](body)
            says = "V" + echo(value).encode(errors="surrogateescape").decode("latin-1")
            double = struct.pack(">d", value).hex() if isinstance(value, float) else None
        except json_read.ParseError as error:
            says = f"E{error}"
        if says != case["says"] or double != case.get("double"):
            wrong.append((body, case["says"], says))

    assert [] == wrong


def test_knows_nothing_of_the_proxy() -> None:
    """No file of the test server imports anything of batchproxy."""
    imported = []
    for path in (Path(__file__).parents[1] / "tfserving").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported += [(path.name, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                imported.append((path.name, node.module or ""))

    assert imported
    assert [] == [(name, module) for name, module in imported if module.split(".")[0] == "batchproxy"]
    assert {"tests.tfserving"} == {".".join(m.split(".")[:2]) for _, m in imported if m.split(".")[0] == "tests"}


def test_status_of_models_that_did_not_load() -> None:
    """A broken version is listed as ended with its reason and is not found; a base path without versions is unknown."""
    with running_server(config=MODELS / "unavailable.config") as server:
        broken = get(server, "/v1/models/broken")
        empty = get(server, "/v1/models/empty_base")
        metadata = get(server, "/v1/models/broken/metadata")

    (version,) = json.loads(broken.body)["model_version_status"]
    assert ("1", "END") == (version["version"], version["state"])
    assert version["status"]["error_message"]
    assert 404 == empty.status
    assert b"Could not find any versions of model empty_base" in empty.body
    assert 404 == metadata.status
    assert b"Servable not found for request: Latest(broken)" in metadata.body


def get(server: Server, path: str) -> Answer:
    """One GET."""
    connection = http.client.HTTPConnection(server.rest, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    answer = Answer(response.status, response.read())
    connection.close()
    return answer
