"""JSON templates against the general way: whatever a plan is found for, that reads the same."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from batchproxy.codecs import tfs_rest
from batchproxy.codecs.json_templates import JsonTemplates, NumberPlan, number_plan
from batchproxy.codecs.row_templates import RowPlan, row_plan
from batchproxy.codecs.tfs_rows import read_request
from batchproxy.core.columns import Columns
from batchproxy.core.errors import BatchProxyError
from batchproxy.core.shapes import UNDECLARED, Signature, TensorSpec
from tests.property.test_templates import packed

SIGNATURES = {
    "undeclared": UNDECLARED,
    **{
        dtype: Signature({"x": TensorSpec(dtype, None)}, {"y": TensorSpec(dtype, None)})
        for dtype in ("float32", "float64", "int32", "int64", "uint8", "bool", "string")
    },
}
TEXTS = """0 -0 -0.0 1 1.0 2.5 -3.25 0.1 123456789012345 1234567890.12345 9007199254740993 3000000000 1e5 1E2 1e400
0.1234567890123456 12345678901234567890 01 1. .5 +1 - 1e -1e-3 NaN true 256 [] 4294967296 1 2"""
NUMBERS = st.sampled_from(TEXTS.split())
OPENINGS = st.sampled_from(
    [
        '{"instances": ',
        '{"inputs":',
        '{"signature_name": "", "instances": ',
        '{"inputs": {"x": ',
        '{"instances": [{"x":',
    ]
)
SPACES = st.sampled_from(["", " ", "\n", "\t ", "  "])


@st.composite
def bodies(draw: st.DrawFn) -> str:
    """A predict body with an even array of numbers or two, some of which are none."""
    opening = draw(OPENINGS)
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))

    def array(axes: list[int]) -> str:
        if not axes:
            return draw(SPACES) + str(draw(NUMBERS)) + draw(SPACES)
        return "[" + ",".join(array(axes[1:]) for _ in range(axes[0])) + "]"

    closing = {"}": "}", '{"x": ': "}}", '[{"x":': "}]}"}
    end = next((closing[key] for key in closing if opening.endswith(key)), "}")
    return opening + array(shape) + draw(SPACES) + end


def read(body: bytes, signature: Signature) -> tuple[Columns, bool] | None:
    """What the general way makes of a body; None: an error."""
    try:
        envelope = tfs_rest.parse_body(body)
        found = tfs_rest.decode_predict(envelope, "serving_default", signature)
    except BatchProxyError:
        return None
    return found.columns, found.row_form


def renumbered(body: str, numbers: list[str], data: st.DataObject) -> str:
    """The body with others in place of some of its numbers."""
    more = iter(numbers)
    start = body.index("[") if "[" in body else 0
    pieces = [
        next(more) if part and part[0] in "0123456789-" and data.draw(st.booleans()) else part
        for part in _parts(body[start:])
    ]
    return body[:start] + "".join(pieces)


@given(st.sampled_from(sorted(SIGNATURES)), bodies(), st.lists(NUMBERS, min_size=60, max_size=60), st.data())
def test_whatever_is_found_is_what_the_general_way_reads(
    name: str, body: str, numbers: list[str], data: st.DataObject
) -> None:
    """Names, types, shapes, numbers and the form of the answer; a body that is refused there is never found."""
    signature = SIGNATURES[name]
    learned = read(body.encode(), signature)
    templates: JsonTemplates[NumberPlan[bool]] = JsonTemplates()
    if learned is None:
        return
    plan = number_plan(body.encode(), learned[0], learned[1], declared=signature.declared)
    templates.learn("path", body.encode(), plan)
    spaced = body[:-1] + data.draw(SPACES) + body[-1]
    for other in (body, renumbered(body, numbers, data), body.replace(" ", "", 1), body.replace("1", "[1]", 1), spaced):
        plan = templates.find("path", other.encode())
        columns = None if plan is None else plan.read(other.encode())
        if plan is None or columns is None:
            continue
        general = read(other.encode(), signature)
        assert general is not None, other
        assert packed(general[0]) == packed(columns)
        assert general[1] is plan.value
        assert [c.shape_class for c in general[0].values()] == [c.shape_class for c in columns.values()]


@given(st.sampled_from(sorted(SIGNATURES)), bodies(), st.lists(NUMBERS, min_size=60, max_size=60), st.data())
def test_bodies_of_a_kind_are_read_together_as_one_by_one(
    name: str, body: str, numbers: list[str], data: st.DataObject
) -> None:
    """Whatever is wrong with some of them."""
    signature = SIGNATURES[name]
    learned = read(body.encode(), signature)
    plan = learned and number_plan(body.encode(), *learned, declared=signature.declared)
    if not plan:
        return
    templates: JsonTemplates[NumberPlan[bool]] = JsonTemplates()
    templates.learn("path", body.encode(), plan)
    spaced = body[:-1] + data.draw(SPACES) + body[-1]
    odd = [body.replace("[", "0[", 1), body.replace("1", "", 1), body[:-1].replace("]", "]1", 1) + body[-1]]
    others = [body, spaced, *odd, *(renumbered(body, numbers[start:], data) for start in range(3))]
    kin = [other.encode() for other in others if templates.find("path", other.encode()) is plan]
    for some in (kin, kin[::-1], data.draw(st.permutations(kin))[:3]):
        due = [plan.read(other) for other in some]

        assert [each and packed(each) for each in due] == [each and packed(each) for each in plan.read_each(some)]

    strange = [*kin, *(other.encode() for other in others), b"", body.encode() + b"\0" + body.encode()]
    some = data.draw(st.lists(st.sampled_from(strange), min_size=1, max_size=4))
    found = plan.read_alike(some)

    assert found is None or all(templates.find("path", other) is plan for other in some)
    assert found is None or [packed(plan.read(other) or {}) for other in some] == [packed(each) for each in found]


@given(st.lists(st.lists(st.integers(-99, 99), min_size=2, max_size=2), min_size=1, max_size=9))
def test_usual_bodies_are_parsed_as_one(rows: list[list[int]]) -> None:
    """Nothing of them is read by itself."""
    texts = [b'{"instances": [[%d.5, %d]]}' % tuple(row) for row in rows]
    learned = read(texts[0], SIGNATURES["float32"])
    assert learned is not None
    plan = number_plan(texts[0], *learned, declared=True)
    assert plan is not None
    found = replace(plan, pack=lambda *_: b"").read_each(texts)

    assert [packed(plan.read(text) or {}) for text in texts] == [packed(columns or {}) for columns in found]


def _parts(text: str) -> list[str]:
    """Numbers, and what is between them."""
    parts = [""]
    inside = False
    for character in text:
        if (character in "0123456789-+.eE") != inside:
            inside = not inside
            parts.append("")
        parts[-1] += character
    return parts


@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=2), min_size=1, max_size=4))
def test_usual_bodies_are_found(rows: list[list[float]]) -> None:
    """Rows of decimals are told by their shape, in either form."""
    signature = SIGNATURES["float32"]
    for opening in ('{"instances": %s}', '{"inputs": %s}', '{"inputs": {"x": %s}}'):
        body = (opening % [[round(value, 4) for value in row] for row in rows]).encode()
        learned = read(body, signature)
        templates: JsonTemplates[NumberPlan[None]] = JsonTemplates()
        assert learned is not None
        templates.learn("path", body, number_plan(body, learned[0], None, declared=True))
        other = (opening % [[0.5, 1] for _ in rows]).encode()
        plan = templates.find("path", other)

        assert (plan is not None and plan.read(other) is not None) == (b"e" not in body[12:])
        assert templates.find("another path", other) is None


@given(bodies(), st.lists(NUMBERS, min_size=60, max_size=60), st.data())
def test_a_row_that_is_cut_out_is_what_the_general_way_cuts_out(
    body: str, numbers: list[str], data: st.DataObject
) -> None:
    """Its text, its shape class and its column's name; a body that is not taken there is never found."""
    learned = read_request(body.encode())
    templates: JsonTemplates[RowPlan[None]] = JsonTemplates()
    if learned is None:
        return
    templates.learn("path", body.encode(), row_plan(body.encode(), learned, None))
    spaced = body[:-1] + data.draw(SPACES) + body[-1]
    for other in (body, renumbered(body, numbers, data), body.replace(" ", "", 1), body.replace("1", "", 1), spaced):
        plan = templates.find("path", other.encode())
        columns = None if plan is None else plan.read(other.encode())
        if columns is None:
            continue
        general = read_request(other.encode())
        assert general is not None, other
        assert general.columns.keys() == columns.keys()
        for name, column in columns.items():
            due = general.columns[name]
            assert [bytes(text) for text in due.texts] == [bytes(text) for text in column.texts]
            assert (due.shape_class, due.nbytes, due.rows) == (column.shape_class, column.nbytes, column.rows)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=4))
def test_usual_rows_are_cut_out(row: list[float]) -> None:
    """One row in row form or in column form, with another row of the same length in its place."""
    for opening in ('{"instances": [%s]}', '{"inputs": [%s]}', '{"signature_name": "s", "instances": [%s]}'):
        body = (opening % row).encode()
        learned = read_request(body)
        templates: JsonTemplates[RowPlan[None]] = JsonTemplates()
        assert learned is not None
        templates.learn("path", body, row_plan(body, learned, None))
        other = (opening % [index + 0.5 for index in range(len(row))]).encode()
        plan = templates.find("path", other)

        assert plan is not None
        assert plan.read(other) is not None
