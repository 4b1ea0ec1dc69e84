"""Which requests are taken apart, and what is made of them; ``tests/property/test_tfs_rows.py`` has the laws."""

from __future__ import annotations

import pytest

from batchproxy.codecs.tfs_rows import LONG, JsonRows, RawPredict, read_request, write_request
from batchproxy.core.shapes import DEFAULT_SIGNATURE, UNDECLARED, Signature, TensorSpec


def taken(body: bytes) -> RawPredict:
    """A request that must be taken."""
    request = read_request(body)
    assert request is not None
    return request


def rows_of(request: RawPredict) -> dict[str, list[bytes]]:
    """The texts of its rows."""
    return {name: [bytes(text) for text in column.texts] for name, column in request.columns.items()}


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b'{"instances": [1.50, 2]}', {"instances": [b"1.50", b"2"]}),
        (b'{"id": {"x": [1]}, "instances": [[1, 2]], "y": "\\n"}', {"instances": [b"[1, 2]"]}),
        (b'{"instances": [{"a": "x,", "b": [1]}]}', {"instances": [b'{"a": "x,", "b": [1]}']}),
        (b'{"instances": [{"b64": "QQ=="}]}\n', {"instances": [b'{"b64": "QQ=="}']}),
        (b'{"instances": ["\xff"]}', {"instances": [b'"\xff"']}),
        (b'{"inputs": [[1], [2]]}', {"inputs": [b"[1]", b"[2]"]}),
        (b'{"inputs" : {"inputs": [[1]] , "b": ["x"]}}', {"inputs": [b"[1]"], "b": [b'"x"']}),
        (b'{"inputs": {"b64": ["x"]}}', {"b64": [b'"x"']}),
    ],
)
def test_rows(body: bytes, rows: dict[str, list[bytes]]) -> None:
    """Rows are the texts as sent."""
    request = taken(body)

    assert rows == rows_of(request)
    assert {None} == {column.rank for column in request.columns.values()}
    assert (b"instances" in body) == request.row_form


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b"{}",
        b'{"examples": [1]}',
        b'{"instances": [1], "inputs": [1]}',
        b'{"instances": [1], "instances": [2]}',
        b'{"inputs": [1], "inputs": [1]}',
        b'{"signature_name": "a", "instances": [1], "signature_name": "b"}',
        b'{"instances": [1], "\\u0069nstances": [2]}',
        b'{"instances": [1], "\\u0078": [2]}',
        b'{"instances": [1], "signature_name": 5}',
        b'{"instances": [1], "signature_name": null}',
        b'{"instances": [1], "signature_name": "\\u0061"}',
        b'{"instances": [1], "signature_name": "\xff"}',
        b'{"instances": []}',
        b'{"instances": 1}',
        b'{"instances": {"a": [1]}}',
        b'{"instances": null}',
        b'{"instances": [1, [2]]}',
        b'{"instances": [NaN]}',
        b'{"instances": [Infinity]}',
        b'{"instances": [1]} x',
        b'{"instances": [1]}{"instances": [1]}',
        b'\xef\xbb\xbf{"instances": [1]}',
        b'{"instances": [' + b"[" * 500_000 + b"]" * 500_000 + b"]}",
        b" " * LONG + b'{"more": [1], "instances": 5}',
        b" " * LONG + b'{"instances": [1, 2 3]}',
        b'{"instances": [1], "more": 1e400}',
        b'{"more": [{"a": -1E+400}], "inputs": [1]}',
        b'{"more": ' + b"1" * 310 + b', "instances": [1], "signature_name": "a"}',
        b'{"inputs": 5}',
        b'{"inputs": []}',
        b'{"inputs": {}}',
        b'{"inputs": {"b64": "QQ=="}}',
        b'{"inputs": {"a": 5}}',
        b'{"inputs": {"a": []}}',
        b'{"inputs": {"a": [1], "b": [1, 2]}}',
        b'{"inputs": {"a": [1], "b": 1}}',
        b'{"inputs": {"a": [1], "a": [2]}}',
        b'{"inputs": {"a": [1], "\\u0062": [2]}}',
    ],
    ids=lambda body: body.strip()[:50].decode("latin-1"),
)
def test_relayed(body: bytes) -> None:
    """What is not sure to be understood as TF Serving does, or has no rows to join, is left alone."""
    assert read_request(body) is None


def test_signature_names() -> None:
    """What was sent is kept beside what it means."""
    unnamed, empty, named = (
        taken(b"{%b}" % members)
        for members in (
            b'"instances": [1]',
            b'"signature_name": "", "instances": [1]',
            b'"signature_name": "caf\xc3\xa9", "instances": [1]',
        )
    )

    assert (None, DEFAULT_SIGNATURE) == (unnamed.sent_signature, unnamed.signature_name)
    assert ("", DEFAULT_SIGNATURE) == (empty.sent_signature, empty.signature_name)
    assert ("café", "café") == (named.sent_signature, named.signature_name)


def test_what_may_not_be_joined() -> None:
    """Form, signature as sent and shape of the rows tell columns apart."""
    columns = [
        next(iter(taken(body).columns.values()))
        for body in (
            b'{"instances": [1]}',
            b'{"inputs": [1]}',
            b'{"inputs": {"inputs": [1]}}',
            b'{"inputs": {"instances": [1]}, "signature_name": ""}',
            b'{"instances": [1], "signature_name": "a"}',
            b'{"instances": [[1]]}',
            b'{"instances": ["1"]}',
            b'{"instances": [{"a": 1}]}',
            b'{"instances": [true]}',
            b'{"instances": [null]}',
        )
    ]

    assert len(columns) == len({column.shape_class for column in columns})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"instances": [1]}', b'{"instances": [2.5e3, -1], "id": 7}'),
        (b'{"instances": [true]}', b'{"instances": [false]}'),
        (b'{"instances": [{"a": 1, "b": "x"}]}', b'{"instances": [{"b": "y]", "a": 2}]}'),
        (b'{"instances": ["]"]}', b'{"instances": ["\\",["]}'),
    ],
)
def test_what_may_be_joined(one: bytes, other: bytes) -> None:
    """Numbers, the content of strings, the order of members and keys that are ignored do not matter."""
    (column,), (mate,) = (taken(body).columns.values() for body in (one, other))

    assert column.shape_class == mate.shape_class


def test_columns() -> None:
    """Rows are taken and joined in order; a slice is charged the body that it keeps alive."""
    body = b'{"instances": [1, 2, 3]}'
    column = taken(body).columns["instances"]
    mate = taken(b'{"instances": [4]}').columns["instances"]
    cut = column.take(1, 3)
    joined = cut.concat([mate, mate])

    assert (3, 2, 4) == (column.rows, cut.rows, joined.rows)
    assert [b"2", b"3", b"4", b"4"] == [bytes(text) for text in joined.texts]
    assert len(body) == column.nbytes == cut.nbytes
    assert len(body) + 2 * mate.nbytes == joined.nbytes
    assert column.shape_class == joined.shape_class
    assert "JsonRows(3 rows, instances)" == repr(column)


def test_a_body_is_charged_once() -> None:
    """However many columns it has."""
    body = b'{"inputs": {"a": [1], "b": [2]}}'

    assert len(body) == sum(column.nbytes for column in taken(body).columns.values())


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances":[1]}',
        b'{"instances":[[1.50, 2e3],[3, 4]]}',
        b'{"signature_name":"a/b","instances":[{"a": 1}]}',
        b'{"signature_name":"","inputs":["x",  "y"]}'.replace(b",  ", b","),
        b'{"inputs":{"a":[[1]],"b":["x"]}}',
        b'{"signature_name":"s","inputs":{"a":[[1],[2]]}}',
    ],
)
def test_written_as_read(body: bytes) -> None:
    """A request without white space between its parts is written as it came."""
    request = taken(body)

    assert body == write_request(request.columns, request.sent_signature, request.row_form)


def test_merged() -> None:
    """The rows of two requests, untouched, in one."""
    first, second = (taken(b'{"inputs": {"a": [%b], "b": [[0]]}}' % row).columns for row in (b"1.50", b"2e+00"))
    merged: dict[str, JsonRows] = {name: first[name].concat([second[name]]) for name in first}

    assert b'{"inputs":{"a":[1.50,2e+00],"b":[[0],[0]]}}' == write_request(merged, None, row_form=False)


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        (b'{"instances":[{"a":[1,2],"b":[3,4]}]}', True),
        (b'{"instances":[{"a":[1,2],"b":3}]}', False),
        (b'{"instances":[{"a":[[1,2]],"b":[3,4]}]}', False),
        (b'{"instances":[{"a":[1,2],"c":3}]}', True),
        (b'{"inputs":{"a":[[1,2]],"b":[[3,4]]}}', True),
        (b'{"inputs":{"a":[[1,2]],"b":[3]}}', False),
        (b'{"inputs":{"a":[[1,2]],"b":[{"b64":"QQ=="}]}}', False),
        (b'{"instances":[[1,2]]}', True),
    ],
)
def test_rows_fit_where_the_ranks_are_the_declared_ones(body: bytes, fits: bool) -> None:
    """What the signature does not name is the server's to refuse."""
    signature = Signature({"a": TensorSpec("float32", (None, 2)), "b": TensorSpec("float32", (None, 2))})
    request = read_request(body)

    assert request is not None
    assert fits == request.fits(signature)


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        (b'{"instances":[{"a":[1,2],"b":[3,4]}]}', True),
        (b'{"instances":[{"a":[1,2],"b":3}]}', False),
        (b'{"inputs":{"a":[[1,2]],"b":[3]}}', False),
        (b'{"inputs":{"a":[1],"b":[3]}}', True),
    ],
)
def test_inputs_of_unknown_rank_must_agree(body: bytes, fits: bool) -> None:
    """A graph would broadcast one along an axis of the other, which among others is their rows."""
    request = read_request(body)

    assert request is not None
    assert fits == request.fits(Signature({"a": TensorSpec("float32"), "b": TensorSpec("float32")}))


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        (b'{"instances":[[1,2]]}', True),
        (b'{"instances":[1]}', False),
        (b'{"inputs":[[1,2]]}', True),
        (b'{"inputs":[[[1,2]]]}', False),
        (b'{"instances":[{"a":[1,2]}]}', True),
        (b'{"instances":[{"a":1}]}', False),
    ],
)
def test_a_lone_input_needs_no_name(body: bytes, fits: bool) -> None:
    """It is the signature's only one; of unknown rank it fits anyhow."""
    request = read_request(body)

    assert request is not None
    assert fits == request.fits(Signature({"a": TensorSpec("float32", (None, 2))}))
    assert request.fits(Signature({"a": TensorSpec("float32")}))
    assert request.fits(UNDECLARED)
