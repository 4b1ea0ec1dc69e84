"""Which bodies a plan is made for; the law that it holds by is in tests/property/test_json_templates.py."""

from __future__ import annotations

import numpy as np
import pytest

from batchproxy.codecs import json_templates as module
from batchproxy.codecs.json_templates import JsonTemplates, NumberPlan, number_plan
from batchproxy.core.columns import ArrayColumn, Columns, ListColumn, PackedColumn

ONE = b'{"instances": [[1.5, 2, 3]]}'
ROW: Columns = {"x": ArrayColumn(np.array([[1.5, 2, 3]], np.float32))}


def learned(body: bytes = ONE, columns: Columns = ROW, *, declared: bool = True) -> JsonTemplates[NumberPlan[str]]:
    """Templates that met one body."""
    templates: JsonTemplates[NumberPlan[str]] = JsonTemplates()
    templates.learn("path", body, number_plan(body, columns, "value", declared=declared))
    return templates


def read(templates: JsonTemplates[NumberPlan[str]], body: bytes, path: str = "path") -> dict[str, ArrayColumn] | None:
    """The input of a body of a kind that was met; None: the general way must read it."""
    plan = templates.find(path, body)
    return None if plan is None else plan.read(body)


def test_bodies_that_differ_in_numbers_share_a_plan() -> None:
    """The numbers become the bytes of an array, without one being made."""
    body = b'{"instances": [[-4.25,5,\n6.5]]}'
    templates = learned()
    plan, columns = templates.find("path", body), read(templates, body)

    assert plan is not None
    assert columns is not None
    assert "value" == plan.value
    assert isinstance(columns["x"], PackedColumn)
    assert np.array([-4.25, 5, 6.5], np.float32).tobytes() == columns["x"].data
    assert [[-4.25, 5, 6.5]] == columns["x"].array.tolist()


def test_more_axes() -> None:
    """Rows of rows, in the order of their reading."""
    array = np.arange(12, dtype=np.int64).reshape(2, 3, 2)
    body = b'{"inputs": %s}' % str(array.tolist()).encode()
    columns = read(learned(body, {"x": ArrayColumn(array)}), body)

    assert columns is not None
    assert array.tolist() == columns["x"].array.tolist()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"instances":[[1.5, 2, 3]]}', id="another beginning"),
        pytest.param(b'{"instances": 0[[1.5, 2, 3]]}', id="a number before the array"),
        pytest.param(b'{"instances": [[1.5, 2, 3]]0}', id="a number behind it"),
        pytest.param(b'{"instances": [[1.5, 2, 3]]}1', id="another end"),
        pytest.param(b'{"instances": [[1.5, 2], [3]]}', id="another shape"),
        pytest.param(b'{"instances": [[1.5, 2, 3, 4]]}', id="more numbers"),
        pytest.param(b'{"instances": [[1.5, 2, 3e0]]}', id="an exponent"),
        pytest.param(b'{"instances": [[1.5, 2, 0.1234567890123456]]}', id="more digits than a double has"),
        pytest.param(b'{"instances": [[1.5, 2, ]]}', id="a number is missing"),
        pytest.param(b'{"instances": [[1.5, 2, 03]]}', id="not JSON"),
        pytest.param(b'{"instances": [[1.5, 2, "3"]]}', id="text"),
    ],
)
def test_bodies_that_are_read_in_the_general_way(body: bytes) -> None:
    """It may find the same, or an error; nobody knows before."""
    assert read(learned(), body) is None


def test_white_space_around_the_array() -> None:
    """It means nothing."""
    columns = read(learned(), b'{"instances":  [[1.5, 2, 4]]\n}')

    assert columns is not None
    assert [[1.5, 2, 4]] == columns["x"].array.tolist()


def test_kinds_that_differ_in_digits_of_a_name() -> None:
    """Equal skeletons, and each has its own plan; only so many are kept of those that are alike."""
    templates: JsonTemplates[NumberPlan[str]] = JsonTemplates()
    bodies = [
        b'{"signature_name": "v%d", "instances": [[1.5, 2, 3]]}' % number for number in range(module.MAX_ALIKE + 1)
    ]
    for body in (*bodies, bodies[-1]):
        templates.learn("path", body, number_plan(body, ROW, body.decode(), declared=True))
    found = [templates.find("path", body) for body in bodies]

    assert found[0] is None
    assert [body.decode() for body in bodies[1:]] == [plan.value for plan in found[1:] if plan is not None]


def test_another_path() -> None:
    """A plan holds for one model."""
    assert read(learned(), ONE, "other") is None


def test_models_that_declare_nothing() -> None:
    """There the numbers decide: all of them whole are whole numbers."""
    templates = learned(declared=False)

    assert read(templates, b'{"instances": [[1, 2.0, 3]]}') is not None
    assert read(templates, b'{"instances": [[1, 2, 3]]}') is None


def test_whole_numbers() -> None:
    """Decimals and what does not fit are errors, or wrap, in the general way."""
    templates = learned(b'{"instances": [[1, 2]]}', {"x": ArrayColumn(np.array([[1, 2]], np.int32))})

    assert read(templates, b'{"instances": [[3, -4]]}') is not None
    assert read(templates, b'{"instances": [[3.0, -4]]}') is None
    assert read(templates, b'{"instances": [[3000000000, 4]]}') is None


@pytest.mark.parametrize(
    ("body", "columns"),
    [
        pytest.param(b"{}", ROW, id="no array"),
        pytest.param(b'{"instances": [{"x": [1.5, 2, 3]}]}', ROW, id="names between the brackets"),
        pytest.param(b'{"instances": [[1.5, 2, 3]]}' + b" " * module.MAX_BODY, ROW, id="long"),
        pytest.param(b'{"instances": [[1.5, 2, 3]]}', {**ROW, "z": ROW["x"]}, id="two inputs"),
        pytest.param(b'{"instances": [[1.5, 2, 3]]}', {"x": ListColumn([1])}, id="no array"),
        pytest.param(b'{"instances": [[1]]}', {"x": ArrayColumn(np.array([[1]], np.uint8))}, id="a narrow type"),
        pytest.param(b'{"instances": [[1.5, 2, 3e0]]}', ROW, id="an exponent"),
        pytest.param(b'{"instances": [[1.5, 2, 4]]}', ROW, id="read otherwise"),
        pytest.param(b'{"instances": []}', {"x": ArrayColumn(np.zeros((0, 3), np.float32))}, id="empty"),
        pytest.param(
            b'{"instances": [%s1]}' % (b"1," * module.MAX_SKELETON),
            {"x": ArrayColumn(np.ones(module.MAX_SKELETON + 1, np.float32))},
            id="many numbers",
        ),
    ],
)
def test_no_plan(body: bytes, columns: Columns) -> None:
    """Of these nothing is remembered."""
    assert read(learned(body, columns), body) is None


def test_whole_numbers_of_a_model_that_declares_nothing() -> None:
    """One decimal among the next ones would change their type."""
    body, columns = b'{"instances": [[1, 2]]}', {"x": ArrayColumn(np.array([[1, 2]], np.int64))}

    assert read(learned(body, columns, declared=False), body) is None


def test_the_store_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many kinds, all are forgotten."""
    monkeypatch.setattr(module, "MAX_PLANS", 2)
    templates = learned()
    for path in ("b", "c"):
        templates.learn(path, ONE, number_plan(ONE, ROW, path, declared=True))

    assert [False, False, True] == [templates.find(path, ONE) is not None for path in ("path", "b", "c")]
