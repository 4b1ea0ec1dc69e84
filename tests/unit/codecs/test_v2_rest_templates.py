"""REST requests told by their JSON: what is found, what teaches nothing, and how little is kept."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from batchproxy.codecs import v2_rest, v2_rest_templates
from batchproxy.codecs.json_templates import MAX_BODY
from batchproxy.codecs.v2_documents import Target
from batchproxy.codecs.v2_rest_templates import MAX_HEAD, RestTemplates

PATH = "/v2/models/m/infer"
X = '{"name": "x", "shape": [2], "datatype": "FP32", "data": [1.5, 2]}'
N = '{"name": "n", "shape": [1, 2], "datatype": "INT64", "data": [[3, 4]]}'
BUFFER = '{"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}'

TEXTS = '"a", ""'


def learnt(head: str, buffers: bytes = b"", times: int = 2) -> RestTemplates[str]:
    """What some of a request teach."""
    templates: RestTemplates[str] = RestTemplates()
    body, length = head.encode() + buffers, len(head.encode())
    call = v2_rest.parse_infer(Target("infer", "m"), body, length)
    for _ in range(times):
        templates.learn(PATH, body, length, call, "kind")
    return templates


def found(templates: RestTemplates[str], head: str, buffers: bytes = b"") -> tuple[bytes, list[list[float]]] | None:
    """The id and the numbers of a request that is known."""
    found = templates.find(PATH, head.encode() + buffers, len(head.encode()))
    if found is None:
        return None
    assert "kind" == found.value
    return found.id, [column.array.tolist() for column in found.columns.values()]  # type: ignore[attr-defined]


def test_other_numbers_and_ids() -> None:
    """Of several inputs, flat or nested; once is not enough to be remembered."""
    head = f'{{"id": "a", "inputs": [{X}, {N}]}}'
    other = head.replace("a", "another", 1).replace("1.5, 2", "3,  0.25").replace("3, 4", "3, -5")

    assert (b"another", [[3.0, 0.25], [[3, -5]]]) == found(learnt(head), other)
    assert found(learnt(head, times=1), other) is None
    assert found(learnt(head), other.replace("0.25", "0.25, 1")) is None


def test_other_buffers_and_ids() -> None:
    """Views of large ones; a body of another length is another matter."""
    head = f'{{"id":"1", "inputs": [{BUFFER}]}}'
    templates = learnt(head, bytes(8))

    assert (b"23", [[0.0, 2.0]]) == found(templates, head.replace('"1"', '"23"'), bytes(7) + b"@")
    assert found(templates, head, bytes(9)) is None
    assert found(templates, head.replace("FP32", "INT8"), bytes(8)) is None


@pytest.mark.parametrize(
    ("numbers", "known"),
    [("7, 9999999", True), ("7, 16777217", False), ("7.5, 16777217", True), ("7, 1e60", False), ("7, ", False)],
)
def test_numbers_that_decide_by_themselves(numbers: str, known: bool) -> None:
    """A whole number that a float32 does not hold is refused in the general way, beside a decimal it is rounded."""
    head = f'{{"inputs": [{X}]}}'

    assert known == (found(learnt(head), head.replace("1.5, 2", numbers)) is not None)


@pytest.mark.parametrize(
    ("head", "buffers"),
    [
        (f'{{"inputs": [{X}], "id": "last"}}', b""),
        (f'{{"id": "twice", "inputs": [{X}], "id": "twice"}}', b""),
        (f'{{"id": "\\u0041", "inputs": [{X}]}}', b""),
        (f'{{"inputs": [{X}], "\\u0069d": ""}}', b""),
        (f'{{"inputs": [{X}], "data": [1]}}', b""),
        (f'{{"inputs": [{X}, {BUFFER.replace("x", "b")}]}}', bytes(8)),
        (f'{{"inputs": [{X.replace("1.5", "NaN")}]}}', b""),
        (
            f'{{"inputs": [{N.replace("[1, 2]", "[2, 1]").replace("INT64", "FP32").replace("[3, 4]", "[3], [NaN]")}]}}',
            b"",
        ),
        (f'{{"inputs": [{X.replace("FP32", "FP16")}]}}', b""),
        (f'{{"inputs": [{X.replace("FP32", "BYTES").replace("1.5, 2", TEXTS)}]}}', b""),
        (f'{{"inputs": [{BUFFER.replace("FP32", "BOOL").replace("[2]", "[8]")}]}}', bytes(8)),
        (f'{{"inputs": [{BUFFER.replace("FP32", "BYTES").replace("[2]", "[2]")}]}}', bytes(8)),
        (f'{{"inputs": [{BUFFER.replace("[2]", "[0]").replace("8", "0")}], "a": 1}}', b""),
        (f'{{"inputs": [{BUFFER}]{" " * MAX_HEAD}}}', bytes(8)),
        (f'{{"inputs": [{X}]{" " * MAX_BODY}}}', b""),
        ('{"inputs": []}', b""),
    ],
)
def test_what_teaches_nothing(head: str, buffers: bytes) -> None:
    """Its values matter one by one, or its id may stand elsewhere, or it is too long to be compared."""
    assert found(learnt(head, buffers), head, buffers) is None


def test_what_was_learned_is_forgotten() -> None:
    """When it does not hold any longer."""
    for how, buffers in ((X, b""), (BUFFER, bytes(8))):
        templates = learnt(f'{{"inputs": [{how}]}}', buffers)
        before = found(templates, f'{{"inputs": [{how}]}}', buffers)
        templates.forget()

        assert before is not None
        assert found(templates, f'{{"inputs": [{how}]}}', buffers) is None


def test_no_more_is_kept_than_is_worth_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """One kind too many, and all begin anew."""
    monkeypatch.setattr(v2_rest_templates, "MAX_PLANS", 2)
    templates: RestTemplates[str] = RestTemplates()
    heads = [f'{{"inputs": [{BUFFER}], "a": "{kind}"}}' for kind in "abc"]
    for head in heads:
        body = head.encode() + bytes(8)
        call = v2_rest.parse_infer(Target("infer", "m"), body, len(head))
        for _ in range(2):
            templates.learn(PATH, body, len(head), call, "kind")

    assert [None, None] == [found(templates, head, bytes(8)) for head in heads[:2]]
    assert found(templates, heads[2], bytes(8)) is not None


def test_what_makes_no_plan_is_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes again and again, and each time the general way has to read it; long bodies and odd types are not."""
    plan = Mock(return_value=None)
    monkeypatch.setattr(v2_rest_templates, "_text_plan", plan)
    monkeypatch.setattr(v2_rest_templates, "MAX_PLANS", 1)
    learnt(f'{{"inputs": [{X}]}}', times=4)
    tried = plan.call_count
    learnt(f'{{"inputs": [{X.replace("FP32", "FP16")}]}}', times=4)
    long = X.replace("[2]", "[5000]").replace("1.5, 2", ", ".join(["1"] * 5000))
    learnt(f'{{"inputs": [{long}]}}', times=4)
    after = plan.call_count
    templates: RestTemplates[str] = RestTemplates()
    for head in [f'{{"inputs": [{X}], "a": "{kind}"}}' for kind in "aabbab"]:
        call = v2_rest.parse_infer(Target("infer", "m"), head.encode(), len(head))
        templates.learn(PATH, head.encode(), len(head), call, "kind")

    assert (1, 1) == (tried, after)
    assert 3 <= plan.call_count
    assert 1 == len(templates._hopeless)
