"""ModelInferResponses to the members of a batch: what protobuf would have written for each, whatever is in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.codecs import _dtypes
from batchproxy.codecs.v2_calls import Said
from batchproxy.codecs.v2_responses import encode_reply
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import RequestError
from batchproxy.core.request import Reply, Share
from batchproxy.protos import v2_pb2 as pb

NUMBERS = [row for row in _dtypes.TABLE if row.v2 and row.name != "string"]


def column_of(dtype: str, rows: int, width: int) -> ArrayColumn:
    """Rows that are all different; text where there are no numbers."""
    numbers = np.arange(rows * width).reshape(rows, width)
    if dtype == "string":
        return ArrayColumn(np.array([[b"%d" % item for item in row] for row in numbers.tolist()], np.object_))
    return ArrayColumn(numbers.astype(_dtypes.numpy_dtype(dtype)))


@given(
    st.lists(st.sampled_from([*(row.name for row in NUMBERS), "string"]), min_size=1, max_size=3),
    st.integers(0, 3),
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.text(st.characters(codec="utf-8"), max_size=3),
    st.booleans(),
)
def test_a_share_is_written_as_if_it_were_an_answer(
    dtypes: list[str], width: int, members: list[int], call_id: str, turned: bool
) -> None:
    """Each member's rows, its id, all parameters, in the order that it asked for."""
    rows = sum(members)
    columns = {f"y{at}": column_of(dtype, rows, width) for at, dtype in enumerate(dtypes) if width or dtype != "string"}
    whole = Reply(columns, 7)
    whole.memo[Said] = Said("7", {"a": 1}, {"y0": {"b": "c"}})
    outputs = tuple(reversed(columns)) if turned else ()
    start = 0
    for count in members:
        stop = start + count
        alone = Reply({name: column.take(start, stop) for name, column in columns.items()}, 7)
        alone.memo[Said] = whole.memo[Said]
        expected = pb.ModelInferResponse.FromString(encode_reply(alone, "m", call_id, outputs))
        share = Share(whole, start, stop)

        assert expected == pb.ModelInferResponse.FromString(encode_reply(share, "m", call_id, outputs))
        start = stop


def test_a_type_without_a_counterpart_is_refused_in_a_share_too() -> None:
    """By name."""
    whole = Reply({"y": ArrayColumn(np.zeros(2, np.complex64))}, 1)

    with pytest.raises(RequestError, match="'y' is of type DT_COMPLEX64"):
        encode_reply(Share(whole, 0, 1), "m")
