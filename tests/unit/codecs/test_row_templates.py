"""Which bodies a row is cut out of; the law that it holds by is in tests/property/test_json_templates.py."""

from __future__ import annotations

import pytest

from batchproxy.codecs.json_templates import JsonTemplates
from batchproxy.codecs.row_templates import RowPlan, row_plan
from batchproxy.codecs.tfs_rows import JsonRows, read_request

ONE = b'{"instances": [[1.5, 2]]}'


def plan_of(body: bytes) -> RowPlan[str] | None:
    """The plan for a body that can be read."""
    found = read_request(body)
    assert found is not None
    return row_plan(body, found, "value")


def cut(body: bytes, met: bytes = ONE) -> dict[str, JsonRows] | None:
    """What is cut out of a body after another one was met."""
    templates: JsonTemplates[RowPlan[str]] = JsonTemplates()
    templates.learn("path", met, plan_of(met))
    plan = templates.find("path", body)
    return None if plan is None else plan.read(body)


def test_the_row_is_cut_out_as_it_is() -> None:
    """White space within it included, around it not."""
    columns = cut(b'{"instances": [ [3,  4e5]\n]}')

    assert columns is not None
    assert [b"[3,  4e5]"] == [bytes(text) for text in columns["instances"].texts]
    assert 28 == columns["instances"].nbytes


def test_white_space_around_the_array_is_no_part_of_the_row() -> None:
    """A bracket too many was, and what rode with it was refused."""
    for body in (b'{"instances": [[3, 4]] }', b'{"instances":  [[3, 4]]}'):
        columns = cut(body)

        assert columns is not None
        assert [b"[3, 4]"] == [bytes(text) for text in columns["instances"].texts]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"instances": [[3, ]]}', id="a number is missing"),
        pytest.param(b'{"instances": [[3, 04]]}', id="not JSON"),
        pytest.param(b'{"instances": [[3, 4]]}1', id="another end"),
        pytest.param(b'{"instances": [[3, 4], [5, 6]]}', id="another shape"),
        pytest.param(b'{"inputs": [[3, 4]]}', id="another form"),
    ],
)
def test_bodies_that_are_read_in_the_general_way(body: bytes) -> None:
    """It may find the same, or pass them on."""
    assert cut(body) is None


def test_an_empty_list_is_no_list_of_one_number() -> None:
    """Though without the number they look the same."""
    assert cut(b'{"instances": [[7]]}', met=b'{"instances": [[1]]}') is not None
    assert cut(b'{"instances": [[ ]]}', met=b'{"instances": [[1]]}') is None
    assert cut(b'{"instances": [ ]}', met=b'{"instances": [1]}') is None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"instances": [[1, 2], [3, 4]]}', id="two rows"),
        pytest.param(b'{"instances": [{"x": [1, 2]}]}', id="names between the brackets"),
        pytest.param(b'{"inputs": {"x": [[1, 2]]}}', id="inputs by name"),
        pytest.param(b'{"instances": ["a"]}', id="text"),
    ],
)
def test_no_plan(body: bytes) -> None:
    """Of these nothing is remembered."""
    assert plan_of(body) is None
