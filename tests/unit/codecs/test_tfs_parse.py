"""The exact reader against the real engine: what rapidjson 1.1.0 said to some 900 texts, good and bad."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest

from batchproxy.codecs.tfs_echo import echo
from batchproxy.codecs.tfs_parse import MISSING, Members, parse
from batchproxy.core.errors import DecodeError

RECORDED = json.loads((Path(__file__).parents[2] / "golden" / "rapidjson.json").read_text())["cases"]
BODIES = [case["body"].encode("latin-1") for case in RECORDED]


def says(body: bytes) -> bytes:
    """Our answer in the recording's form."""
    try:
        return b"V" + echo(parse(body)).encode("utf-8", "surrogateescape")
    except DecodeError as error:
        return b"E" + error.message.encode()


def test_every_recorded_text_is_read_as_the_engine_reads_it() -> None:
    """The same values, the same refusals at the same offsets, the same echoes."""
    ours = {body: says(body) for body in BODIES}

    assert {body: case["says"].encode("latin-1") for body, case in zip(BODIES, RECORDED, strict=True)} == ours


def test_every_recorded_decimal_is_the_same_double() -> None:
    """To the last bit."""
    doubles = {case["body"]: case["double"] for case in RECORDED if "double" in case}
    ours = {body: struct.pack(">d", parse(body.encode("latin-1"))).hex() for body in doubles}

    assert len(doubles) > 300
    assert doubles == ours


def test_an_empty_body_has_no_offset() -> None:
    """TF Serving looks before the engine does."""
    with pytest.raises(DecodeError, match=r"^JSON Parse error: The document is empty$"):
        parse(b"")


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"[1, -0, -0.0, 2.0]", [1, 0, -0.0, 2.0]),
        (b'"a\\u0000b"', b"a\0b"),
        (b'"\xff\xfe"', b"\xff\xfe"),
        (b"[true, false, null]", [True, False, None]),
        (b"[] trailing", []),
        (b'"\\ud83d\\ude00"', "\N{GRINNING FACE}".encode()),
        (b'"\\udc00"', b"\xed\xb0\x80"),
    ],
)
def test_values_have_the_types_that_were_sent(body: bytes, value: Any) -> None:
    """Whole numbers are int, decimals float, strings bytes."""
    read = parse(body)

    assert repr(value) == repr(read)


@pytest.mark.parametrize("body", [b'"\\ud800"', b'"\\ud800\\u0041"', b'"\\ud800x"'])
def test_half_a_surrogate_pair_is_refused(body: bytes) -> None:
    """At least the first half; the second half alone passes."""
    with pytest.raises(DecodeError, match=r"surrogate pair in string is invalid. at offset: 1$"):
        parse(body)


def test_members_keep_their_order_and_the_first_of_a_name_is_found() -> None:
    """Names may repeat."""
    members = parse(b'{"b": 1, "a": {}, "b": 2}')

    assert isinstance(members, Members)
    assert [b"b", b"a", b"b"] == [name for name, _ in members.pairs]
    assert members.find(b"b") == 1
    assert members.find(b"c") is MISSING


@pytest.mark.parametrize(
    ("levels", "opening", "closing"), [(500_000, b"[", b"]"), (50_000, b'{"a":', b"}")], ids=["lists", "objects"]
)
def test_nesting_has_no_limit(levels: int, opening: bytes, closing: bytes) -> None:
    """Neither in reading nor in letting go of what was read."""
    value = parse(opening * levels + b"1" + closing * levels)
    depth = 0
    while value != 1:
        value = value[0] if isinstance(value, list) else value.find(b"a")
        depth += 1

    assert levels == depth


def test_nan_is_a_number() -> None:
    """As are the infinities."""
    values = parse(b"[NaN, Inf, -Infinity]")

    assert math.isnan(values[0])
    assert [math.inf, -math.inf] == values[1:]
