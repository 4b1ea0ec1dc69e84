"""Recorded REST answers: how to load them, and when an answer is the same. No test lives here.

Objects of several keys are unordered (TF Serving's order is random); numbers are compared as text, white space counts.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from batchproxy.codecs.tfs_parse import Members, parse

GOLDEN = Path(__file__).parent / "golden"

ANSWERED_OTHERWISE: Mapping[str, str] = {
    "routing/get_v2": "a path of the Open Inference Protocol, which the proxy speaks for servers that do not",
}
"""Cases whose answer is another than the direct one, and why: the table of ``docs/protocols.md``."""

INIT_OP = b"__saved_model_init_op"
"""A signature that TensorFlow 2 adds to every export. Only a SavedModel has it, so it is left out of comparisons."""

_INIT_OP_LINES = re.compile(rb'\n  "' + INIT_OP + rb'": \{\n.*?\n  \}', re.DOTALL)


class Answer(NamedTuple):
    """Status and body."""

    status: int
    body: bytes


class Case(NamedTuple):
    """One recorded request and the answers that are right; several where the server's varied.

    Attributes:
        name: unique over all files.
        method: of HTTP.
        path: with its query, as sent.
        headers: those sent.
        body: as sent.
        answers: empty where none came.
    """

    name: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    answers: tuple[Answer, ...]


def load_cases(*groups: str) -> dict[str, Case]:
    """The cases of ``tests/golden/<group>.json`` by name; those of several requests at once are left out."""
    cases = {}
    for group in groups:
        for item in json.loads((GOLDEN / f"{group}.json").read_text())["cases"]:
            if "request" in item:
                cases[item["name"]] = _case(item)
    return cases


def _case(item: Mapping[str, Any]) -> Case:
    request = item["request"]
    recorded = [item["response"]] if "response" in item else []
    answers = tuple(Answer(answer["status"], _body(answer)) for answer in [*recorded, *item.get("alternatives", [])])
    return Case(item["name"], request["method"], request["path"], request.get("headers", {}), _body(request), answers)


def _body(item: Mapping[str, Any]) -> bytes:
    if "body_b64" in item:
        return base64.b64decode(item["body_b64"])
    return str(item.get("body", "")).encode()


def same_answer(case: Case, answer: Answer) -> bool:
    """Whether this is one of the recorded answers."""
    return any(
        recorded.status == answer.status and _canonical(recorded.body) == _canonical(answer.body)
        for recorded in case.answers
    )


def _canonical(body: bytes) -> object:
    """The body itself; if it has an object of several keys, its content and its lines, both without their order.

    The lines are there for white space and number texts. Commas move with the keys.
    """
    if not body.startswith(b"{"):
        return body
    content = _unordered(parse(body))
    if not _several_keys(content):
        return body
    return content, sorted(line.rstrip(b",") for line in _INIT_OP_LINES.sub(b"", body).split(b"\n"))


def _unordered(value: Any) -> Any:
    if isinstance(value, Members):
        return {name: _unordered(item) for name, item in value.pairs if name != INIT_OP}
    if isinstance(value, list):
        return [_unordered(item) for item in value]
    return repr(value)  # NaN is itself, -0.0 is not 0.0, and 1 is not 1.0


def _several_keys(content: Any) -> bool:
    if isinstance(content, dict):
        return len(content) > 1 or any(map(_several_keys, content.values()))
    return isinstance(content, list) and any(map(_several_keys, content))
