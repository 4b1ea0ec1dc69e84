"""REST answers of the Open Inference Protocol: alone, and as shares of the answer to a batch."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.codecs import v2_rest_answers
from batchproxy.codecs.v2_calls import InferCall, Said
from batchproxy.codecs.v2_rest import encode_reply
from batchproxy.codecs.v2_rest_answers import Wanted
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import RequestError
from batchproxy.core.request import Reply, Share
from tests.unit.codecs.test_v2_responses import NUMBERS, column_of


@given(
    st.lists(st.sampled_from([*(row.name for row in NUMBERS), "string", "odd"]), min_size=1, max_size=3),
    st.integers(0, 3),
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.text(st.characters(codec="utf-8"), max_size=3),
    st.sampled_from(["all", "turned", "some"]),
    st.booleans(),
    st.booleans(),
)
def test_a_share_is_written_as_if_it_were_an_answer(
    dtypes: list[str], width: int, members: list[int], call_id: str, order: str, every: bool, said: bool
) -> None:
    """Each member's rows, its id, all parameters, in the order and the form that it asked for."""
    rows = sum(members)
    columns = {
        f"y{at}": column_of("float32" if dtype == "odd" else dtype, rows, width) for at, dtype in enumerate(dtypes)
    }
    if width and "odd" in dtypes:
        columns[f"y{dtypes.index('odd')}"].array[-1, 0] = np.nan
    whole = Reply(columns, 7)
    if said:
        whole.memo[Said] = Said("7", {"a": 1}, {"y0": {"b": "c"}})
    outputs = {"all": (), "turned": tuple(reversed(columns)), "some": ("y0",)}[order]
    asked = {"y0": {"binary_data": not every}} if order == "some" else {}
    call = InferCall("m", None, call_id, {}, outputs, {"binary_data_output": every}, {}, asked)
    start = 0
    for count in members:
        stop = start + count
        alone = Reply({name: column.take(start, stop) for name, column in columns.items()}, 7)
        alone.memo |= {key: value for key, value in whole.memo.items() if key is Said}

        assert encode_reply(alone, call) == encode_reply(Share(whole, start, stop), call)
        start = stop


def test_what_was_done_for_another_member() -> None:
    """With equally many rows and equal wishes: only put together; of long answers the whole is printed once."""
    whole = Reply({"y": ArrayColumn(np.arange(6, dtype=np.float32).reshape(3, 2))}, 7)
    wanted = Wanted("m", (), False, ())
    first, second = Share(whole, 0, 1), Share(whole, 2, 3)
    before = v2_rest_answers.written(second, wanted, b""), v2_rest_answers.to_print(second, wanted)
    v2_rest_answers.write(first, wanted, b"a")
    after = v2_rest_answers.written(second, wanted, b"b")

    assert (None, 24) == before
    assert after is not None
    assert ("b", [4.0, 5.0], None) == (json.loads(after[0])["id"], json.loads(after[0])["outputs"][0]["data"], after[1])
    assert v2_rest_answers.written(Share(whole, 0, 2), wanted, b"") is None
    assert v2_rest_answers.written(second, wanted._replace(model="another"), b"") is None
    assert 0 == v2_rest_answers.to_print(first, wanted._replace(every=True))


def test_members_that_are_written_one_by_one() -> None:
    """Where text or odd numbers are among the values: only their own are to be printed."""
    whole = Reply({"y": ArrayColumn(np.array([[np.nan], [1.0], [2.0]]))}, 7)
    wanted = Wanted("m", (), False, ())
    before = v2_rest_answers.to_print(Share(whole, 1, 2), wanted)
    body, _ = v2_rest_answers.write(Share(whole, 1, 2), wanted, b"")

    assert (24, 8) == (before, v2_rest_answers.to_print(Share(whole, 1, 2), wanted))
    assert [1.0] == json.loads(body)["outputs"][0]["data"]
    assert v2_rest_answers.written(Share(whole, 1, 2), wanted, b"") is None


def test_an_id_that_is_no_text() -> None:
    """Half a character, which only JSON's escapes can say."""
    assert b'?\\"' == v2_rest_answers.quoted('\ud800"')


def test_a_type_without_a_counterpart_is_refused_in_a_share_too() -> None:
    """By name."""
    whole = Reply({"y": ArrayColumn(np.zeros(2, np.complex64))}, 1)

    with pytest.raises(RequestError, match="'y' is of type DT_COMPLEX64"):
        encode_reply(Share(whole, 0, 1), InferCall("m", None, "", {}))
