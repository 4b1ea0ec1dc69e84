"""Answers cut by their bytes; ``tests/property/test_tfs_splice.py`` has the laws."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from batchproxy.codecs.tfs_splice import RESULTS, JsonAnswer, read_answer, read_results, splice
from batchproxy.core.errors import BackendProtocolError

ODD = b'{ "predictions" :[ 1 ,2,  3\n,\t4 ] , "more": {"predictions": [9]}} \n'
"""A layout that is nobody's."""


def cut(columns: Mapping[str, JsonAnswer], start: int, stop: int) -> bytes:
    """The answer of some rows."""
    return splice({name: column.take(start, stop) for name, column in columns.items()})


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (0, 4, ODD),
        (0, 1, ODD.replace(b" ,2,  3\n,\t4", b"")),
        (1, 3, ODD.replace(b"1 ,", b"").replace(b"\n,\t4", b"")),
        (3, 4, ODD.replace(b"1 ,2,  3\n,\t", b"")),
        (2, 2, ODD.replace(b"1 ,2,  3\n,\t4", b"")),
    ],
)
def test_any_layout(start: int, stop: int, expected: bytes) -> None:
    """White space need not be regular, and what stands around the array is kept."""
    assert expected == cut(read_answer(ODD, row_form=True), start, stop)


def test_several_outputs_in_column_form() -> None:
    """Each is cut on its own; the text between them is kept, whatever order they are handed in."""
    body = b'{"outputs": {"a": [1, 2, 3], "b": [\n"x",\n"y",\n"z"] } }'
    columns = read_answer(body, row_form=False)
    backwards = {name: columns[name].take(1, 3) for name in ("b", "a")}

    assert ["a", "b"] == list(columns)
    assert b'{"outputs": {"a": [2, 3], "b": [\n"y",\n"z"] } }' == splice(backwards)


def test_outputs_of_unequal_length() -> None:
    """They say so, and the answer as a whole is still itself."""
    body = b'{"outputs": {"a": [1, 2], "b": 7, "c": []}}'
    columns = read_answer(body, row_form=False)

    assert [2, None, 0] == [column.rows for column in columns.values()]
    assert {None} == {column.rank for column in columns.values()}
    assert body == splice(columns)
    assert 5 == sum(column.nbytes for column in columns.values())


@pytest.mark.parametrize("value", [b"7", b'{"b64": "QQ=="}', b'"[1, 2]"', b"NaN"])
def test_rank_0(value: bytes) -> None:
    """A lone output without rows, be it base64 data, is one column without rows."""
    body = b'{"outputs": ' + value + b"}"
    columns = read_answer(body, row_form=False)

    assert {"outputs": None} == {name: column.rows for name, column in columns.items()}
    assert body == splice(columns)


def test_an_output_called_b64() -> None:
    """Beside another it is an output as any other."""
    columns = read_answer(b'{"outputs": {"b64": ["QQ=="], "x": [1]}}', row_form=False)

    assert {"b64": 1, "x": 1} == {name: column.rows for name, column in columns.items()}


def test_what_is_no_json() -> None:
    """NaN and the infinities are kept as they stand; in strings and names they were no trouble in the first place."""
    body = b'{"outputs": {"NaN": ["NaN]", "\\"Infinity,", "\xff"], "x": [-Infinity, NaN, Infinity]}}'
    columns = read_answer(body, row_form=False)

    assert b'{"outputs": {"NaN": ["\\"Infinity,"], "x": [NaN]}}' == cut(columns, 1, 2)


@pytest.mark.parametrize(
    ("body", "row_form"),
    [
        (b"", True),
        (b"OK", True),
        (b"[1]", True),
        (b'{"error": "no"}', True),
        (b'{"outputs": [1]}', True),
        (b'{"predictions": [1]}', False),
        (b'{"predictions": [1], "predictions": [2]}', True),
        (b'{"predictions": [1]} {', True),
        (b'{"predictions": [NaN, \x00]}', True),
        (b'{"predictions": [nan]}', True),
        (b'{"predictions": [NaN, "' + b'\\"' * 500_000 + b"\\", True),
        (b'{"outputs": {}}', False),
        (b'{"outputs": {"a": [1], "a": [1]}}', False),
    ],
    ids=lambda value: value[:30].decode() if isinstance(value, bytes) else value,
)
def test_no_answer(body: bytes, row_form: bool) -> None:
    """What cannot be taken apart is said to be no answer, without a word of it."""
    with pytest.raises(BackendProtocolError, match="the server's answer to a merged REST") as caught:
        read_answer(body, row_form)

    assert 502 == caught.value.http_status


def test_a_missing_column_is_a_bug() -> None:
    """Its place would show rows that are not the caller's."""
    columns = read_answer(b'{"outputs": {"a": [1, 2], "b": [3, 4]}}', row_form=False)

    with pytest.raises(ValueError, match="1 of the answer's 2 columns to splice; this is a bug"):
        splice({"a": columns["a"]})


@pytest.mark.parametrize(
    ("bodies", "expected"),
    [
        ((b'{"predictions": [1, 2\n]}', b'{"predictions": [3\n]}'), b'{"predictions": [1, 2, 3\n]}'),
        ((b'{"predictions": [1\n]}', b'{"predictions": [3]}'), b'{"predictions": [1, 3\n]}'),
        ((b'{"predictions": [\n  1\n]}', b'{"predictions": [3]}'), b'{"predictions": [\n  1,\n  3\n]}'),
    ],
)
def test_joined(bodies: tuple[bytes, bytes], expected: bytes) -> None:
    """Rows of another answer are put between the first one's surroundings, with its separators."""
    first, second = (read_answer(body, row_form=True)["predictions"] for body in bodies)
    joined = first.concat([second])

    assert first.shape_class == second.shape_class
    assert expected == splice({"predictions": joined})
    assert splice({"predictions": second}) == bodies[1]
    assert f"JsonAnswer({joined.rows} rows)" == repr(joined)


def test_slices_of_slices() -> None:
    """Rows are counted from where the slice begins, through all its pieces."""
    answer = read_answer(b'{"predictions": [0, 1, 2, 3]}', row_form=True)["predictions"]
    woven = answer.take(2, 4).concat([answer.take(0, 2)])

    assert b'{"predictions": [3, 0]}' == splice({"predictions": woven.take(1, 3)})
    assert 4 == woven.rows


@pytest.mark.parametrize(
    ("body", "slices"),
    [
        (b'{\n    "results": [2.5, NaN, 4.5]\n}', [b'{\n    "results": [2.5]\n}', b'{\n    "results": [NaN, 4.5]\n}']),
        (
            b'{\n    "results": [[["a", 1.0]], [["]", -Infinity], ["", 0.5]], []\n    ]\n}',
            [
                b'{\n    "results": [[["a", 1.0]]\n    ]\n}',
                b'{\n    "results": [[["]", -Infinity], ["", 0.5]], []\n    ]\n}',
            ],
        ),
    ],
    ids=["regress", "classify"],
)
def test_results(body: bytes, slices: list[bytes]) -> None:
    """Answers to regress and classify are cut as those to predict are; the layout is that of a recorded answer."""
    columns = read_results(body)
    results = columns[RESULTS]

    assert 3 == results.rows
    assert slices == [splice({RESULTS: results.take(0, 1)}), splice({RESULTS: results.take(1, 3)})]
    assert body == splice(columns)


def test_no_results() -> None:
    """As for predict."""
    with pytest.raises(BackendProtocolError, match="is no JSON object with 'results'"):
        read_results(b'{"predictions": [1]}')
