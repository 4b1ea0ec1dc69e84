"""Raw rows against what a real TF Serving was asked and answered (``tests/golden/rest_*.json``).

Every recorded predict answer is cut and put together again; every request that it answered well is taken apart, but
for those in one table, whose entries must stay true.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from batchproxy.codecs.tfs_parse import Members, parse
from batchproxy.codecs.tfs_rows import read_request, write_request
from batchproxy.codecs.tfs_splice import read_answer, splice
from tests.golden_cases import GOLDEN, Case, load_cases

PREDICT = {
    case.name: case
    for case in load_cases(*(path.stem for path in sorted(GOLDEN.glob("rest_*.json")))).values()
    if case.method == "POST" and case.path.endswith(":predict") and case.answers
}

RANK_0 = "an input of rank 0"
MIXED = "text and base64 data among the rows: of one type, but not of one shape"
NOT_PLAIN = "no plain JSON, or not in one way"
NO_ROWS = "no rows"
RELAYED: dict[str, str] = {
    "json_parse/invalid_utf8_in_unknown_key": NOT_PLAIN,
    "json_parse/nan_inf": NOT_PLAIN,
    "json_parse/trailing_garbage_accepted": NOT_PLAIN,
    "json_parse/two_documents": NOT_PLAIN,
    "number_format/special_nan_in": NOT_PLAIN,
    "predict_basic/duplicate_instances_key": NOT_PLAIN,
    "predict_basic/row_duplicate_key": "a name twice in a row: both values are taken, and the rows behind it move",
    "predict_basic/inputs_object_empty_list": NO_ROWS,
    "shapes/any_rank_col_0": RANK_0,
    "shapes/any_rank_col_4": NO_ROWS,
    "shapes/any_rank_str_scalar": RANK_0,
    "shapes/scalar_in_col": RANK_0,
    "shapes/two_col_batch_mismatch": "inputs of unequal length",
    "strings/b64_and_plain_mixed": MIXED,
    "strings/bytes_out": MIXED,
    "strings/col_b64_scalar": RANK_0,
    "strings/matrix": MIXED,
    "strings/plain_then_b64": MIXED,
}
"""Requests that TF Serving answered well and that are not taken apart, and why."""


class Recorded(NamedTuple):
    """A recorded answer with status 200.

    Attributes:
        body: its bytes.
        row_form: its form.
    """

    body: bytes
    row_form: bool


ANSWERS = {
    f"{case.name} {index}": Recorded(answer.body, b'"predictions"' in answer.body)
    for case in PREDICT.values()
    for index, answer in enumerate(case.answers)
    if answer.status == 200
}


def content(value: Any) -> Any:
    """What was read, comparable: numbers as their values' texts."""
    if isinstance(value, Members):
        return {name: content(item) for name, item in value.pairs}
    return [content(item) for item in value] if isinstance(value, list) else repr(value)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_answers_are_cut_and_joined(answer: Recorded) -> None:
    """Each slice has the rows of the slice, and the slices together are the answer, byte for byte."""
    columns = read_answer(answer.body, answer.row_form)
    key = b"predictions" if answer.row_form else b"outputs"
    sizes = {column.rows for column in columns.values()}
    rows = min((size for size in sizes if size), default=0) if len(sizes) == 1 else 0
    whole = content(parse(answer.body).find(key))

    assert answer.body == splice(columns)
    for cut in {1, rows // 2, rows - 1} & set(range(1, rows)):
        left, right = (
            {name: column.take(start, stop) for name, column in columns.items()}
            for start, stop in ((0, cut), (cut, rows))
        )
        assert [sliced(whole, 0, cut), sliced(whole, cut, rows)] == [
            content(parse(splice(piece)).find(key)) for piece in (left, right)
        ]
        assert answer.body == splice({name: column.concat([right[name]]) for name, column in left.items()})


def sliced(value: Any, start: int, stop: int) -> Any:
    """Some rows of an answer, or of each of its outputs."""
    if isinstance(value, dict):
        return {name: item[start:stop] for name, item in value.items()}
    return value[start:stop]


def test_many_answers_have_rows_to_cut() -> None:
    """The cases above are not empty: 54 answers in row form were known when the rule was made."""
    cut = [
        answer
        for answer in ANSWERS.values()
        if answer.row_form and read_answer(answer.body, row_form=True)["predictions"].rows
    ]

    assert len(cut) >= 54


@pytest.mark.parametrize("case", PREDICT.values(), ids=PREDICT)
def test_requests_are_taken_apart(case: Case) -> None:
    """What is taken is written with the same meaning; of what was answered well only the table is not taken."""
    request = read_request(case.body)
    well = any(answer.status == 200 for answer in case.answers)

    if well:
        assert (case.name in RELAYED) == (request is None)
    if request is not None and b"1e400" not in case.body:  # a number that only the server refuses
        written = parse(write_request(request.columns, request.sent_signature, request.row_form))
        read = parse(case.body)
        for key in (b"instances", b"inputs", b"signature_name"):
            assert content(read.find(key)) == content(written.find(key))


def test_the_table_is_current() -> None:
    """It names recorded cases only."""
    assert set() == RELAYED.keys() - PREDICT.keys()
