"""Members, elements and shapes of JSON text; ``tests/property/test_tfs_rows.py`` has the laws."""

from __future__ import annotations

import msgspec
import pytest

from batchproxy.codecs.tfs_text import canonical, common_shape, elements, members, outside_strings, skeleton


def found(text: bytes, source: bytes | None = None, start: int = 0) -> dict[str, tuple[bytes, int]] | None:
    """``members`` with the values as bytes."""
    taken = members(text, source, start)
    return None if taken is None else {name: (bytes(value), at) for name, (value, at) in taken.items()}


def shape_of(array: bytes) -> object:
    """The shape that the elements of this array share."""
    raw = msgspec.Raw(array)
    found = common_shape(raw, elements(raw) or [])
    return None if found is None else found[0]


def test_members_stand_where_they_say() -> None:
    """White space, other values and the end of the text do not move them."""
    taken = found(b' { "a" : [1, 2] ,"b":"x}", "" :{}\n} ')

    assert {"a": (b"[1, 2]", 9), "b": (b'"x}"', 21), "": (b"{}", 31)} == taken


def test_members_of_an_inner_object() -> None:
    """Offsets count in the whole text."""
    text = b'{"outer": {"a": 1}, "a": 2}'

    assert {"a": (b"1", 16)} == found(text, b'{"a": 1}', 10)


def test_no_members() -> None:
    """An object may be empty."""
    assert {} == found(b"{ }")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[1]",
        b'{"a": NaN}',
        b'{"a": 1} x',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"\xff": 1}',
        b'{"\\u0061": 1}',
        b'{"a": 1, "\\u0061": 1}',
        b'{"a": 1, "a": 2}',
        b'{"a": 1, "a": 1}',
        b'{"a": 12, "a": 1}',
        b'{"a": 1, "a": 12}',
        b'{"a": [1], "b": 2, "a": [1]}',
        b'{"a": "x", "b": 1, "b": 1}',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda text: text[:30].decode("latin-1"),
)
def test_unsure(text: bytes) -> None:
    """What another parser could read in another way, or not at all, has no members."""
    assert members(text) is None


def test_elements() -> None:
    """In order, without the white space around them."""
    taken = elements(msgspec.Raw(b'[ 1.50 , [2,3],"a, b" ]'))

    assert taken is not None
    assert [b"1.50", b"[2,3]", b'"a, b"'] == [bytes(item) for item in taken]
    assert elements(msgspec.Raw(b"1")) is None


@pytest.mark.parametrize(
    ("text", "bones"),
    [
        (b" -1.5E+3 ", b""),
        (b"[1, [2e5,\t3]]", b"[,[,]]"),
        (b"[]", b"[_]"),
        (b"[1]", b"[]"),
        (b"[[ ], [5]]", b"[[_],[]]"),
        (b"[true, false, null]", b"[tru,tru,null]"),
        (b'"[1,2]"', b'""'),
        (b'["a\\"b,", "\\\\", 3]', b'["","",]'),
        (b'{"a 1" : 1, "false": [], "": "x"}', b'{"a 1":,"false":[_],"":""}'),
        (b'{"a\\":": 1}', b'{"a\\":":}'),
        (b'{"b64": "QQ=="}', b'{"b64":""}'),
        (b'{"b64": 5}', b'{"b64":}'),
        (b"{}", b"{}"),
    ],
)
def test_skeletons(text: bytes, bones: bytes) -> None:
    """Names, brackets and words stay; numbers, strings and white space go."""
    assert bones == skeleton(text)


@pytest.mark.parametrize(
    ("bones", "ordered"),
    [
        (b"[,[,]]", b"[,[,]]"),
        (b'{"b":,"a":}', b'{"a":,"b":}'),
        (b'[{"b":[,],"a":{"d":{},"c":""}},]', b'[{"a":{"c":"","d":{}},"b":[,]},]'),
        (b'{"b":,"a":[],"a":}', b'{"a":[],"a":,"b":}'),
        (b'{"a\\":b":,"a\\":":[],"a":null}', b'{"a":null,"a\\":":[],"a\\":b":}'),
    ],
)
def test_order_of_members(bones: bytes, ordered: bytes) -> None:
    """Members are in the order of their names; those of one name keep theirs."""
    assert ordered == canonical(bones)


def test_a_very_long_object_keeps_its_order() -> None:
    """Sorting is bounded."""
    bones = b'{"b":,"a":[' + b"," * 5000 + b"]}"

    assert bones == canonical(bones)


def test_shapes_in_common() -> None:
    """Rows of one shape have it in common, whatever order their members come in."""
    assert b"[,]" == shape_of(b"[[1,2],[3, 4.5]]")
    assert b"" == shape_of(b"[1, 2.5]")
    assert b'{"a":,"b":""}' == shape_of(b'[{"a":1,"b":"x"},{"b":"y","a":2}]')
    assert b'{"a":,"a\\"":}' == shape_of(b'[{"a":1,"a\\"":2}]')
    assert b'{"a":{"b":},"b":[{"b":},]}' == shape_of(b'[{"a":{"b":1},"b":[{"b":2},3]}]')


@pytest.mark.parametrize(
    ("array", "ranks"),
    [
        (b"[1, 2]", {"": 0}),
        (b"[[], []]", {"": 1}),
        (b"[[[1, 2], [3, 4]]]", {"": 2}),
        (b'["[["]', {"": 0}),
        (b'[{"b64": "QQ=="}]', {"": 0}),
        (b'[{"b64": "QQ==", "a": 1}]', {"b64": 0, "a": 0}),
        (b'[{"a": [[1]], "b": "x", "c": {"b64": "QQ=="}, "d": []}]', {"a": 2, "b": 0, "c": 0, "d": 1}),
        (b'[{"a": [' + b"1," * 5000 + b"1]}]", {"a": 1}),
        (b"[" + b"[" * 300 + b"]" * 300 + b"]", {"": 255}),
    ],
)
def test_ranks(array: bytes, ranks: dict[str, int]) -> None:
    """Of a row that is an object, the ranks of its members; base64 data is no object."""
    raw = msgspec.Raw(array)
    found = common_shape(raw, elements(raw) or [])

    assert found is not None
    assert ranks == found[1]


@pytest.mark.parametrize(
    "array",
    [
        b"[[1],[]]",
        b"[1,[1]]",
        b"[[1,2],[3,4,5]]",
        b'["a",1]',
        b'["a",{"b64":"QQ=="}]',
        b"[true,null]",
        b'[{"a":1},{"b":1}]',
        b'[{"a":1},{"a":1,"b":2}]',
        b'[{"a":1,"a":[1]},{"a":[1],"a":1}]',
        b'[{"a":1,"b":2,"a":3}]',
        b'[{"a":1,"a":3},{"a":1,"a":3}]',
        b'[{"\\u0061":1,"a":3}]',
        b'[{"a":1,"a":[' + b"1," * 5000 + b"1]}]",
        b"[[" + b",".join([b"1"] * 1000) + b"],2,3]",
    ],
)
def test_no_shape_in_common(array: bytes) -> None:
    """Rows that differ in more than their numbers and strings have none, nor rows of which a name comes twice.

    Of those TF Serving takes every value, so that the rows behind them move: what mates would get is another's.
    """
    assert shape_of(array) is None


def test_long_shapes_are_digests() -> None:
    """Two long shapes of one length are told apart, and nothing long is kept."""
    first = shape_of(b"[[" + b"1," * 400 + b"[2,3]]]")
    second = shape_of(b"[[" + b"1," * 399 + b"[2,3],1]]")
    again = shape_of(b"[[" + b"7, " * 400 + b"[8,9]]]")

    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    assert first[0] == second[0]
    assert first != second
    assert first == again


def test_strings_stay_untouched() -> None:
    """Without a mark only what is outside of strings is changed."""
    text = b'{"NaN": [NaN, "NaN \\" NaN", "NaN"]}'

    assert b'{"NaN": [111, "NaN \\" NaN", "NaN"]}' == outside_strings(text, lambda plain: plain.replace(b"NaN", b"111"))


def test_rows_with_a_name_that_is_no_text_have_no_shape() -> None:
    """The server says what it makes of them."""
    assert shape_of(b'[{"\xff": 1}]') is None
