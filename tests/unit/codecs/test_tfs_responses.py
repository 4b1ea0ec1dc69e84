"""Answers of a batch's members, with protobuf as the judge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.codecs import tfs_responses
from batchproxy.codecs.tfs_responses import encode_each, encode_predict
from batchproxy.core.columns import ArrayColumn, Column, ListColumn, TensorColumn
from batchproxy.core.errors import BackendProtocolError
from batchproxy.core.request import Reply, Share
from batchproxy.protos import tfs_pb2 as pb

ROWS = 7


@st.composite
def outputs(draw: st.DrawFn) -> dict[str, Column]:
    """Up to three tensors of seven rows, as a model or as a server gave them."""
    found: dict[str, Column] = {}
    for alias in draw(st.lists(st.sampled_from(["y", "scores", "é"]), min_size=1, max_size=3, unique=True)):
        kind = draw(st.sampled_from(["float32", "float64", "complex64", "bool", "int64", "float16", "object"]))
        shape = (ROWS, *draw(st.sampled_from([(), (2,), (0,), (2, 3)])))
        array = np.arange(np.prod(shape)).reshape(shape).astype("int8").astype(kind)
        if kind == "object":
            array = np.array([b"%d" % n for n in range(array.size)] or [b""], object)[: array.size].reshape(shape)
        if draw(st.booleans()):
            array = np.asfortranarray(array)
        extras = draw(st.sampled_from([b"", b"\xf8\x06\x01"]))
        found[alias] = TensorColumn(array, draw(st.booleans()), extras) if draw(st.booleans()) else ArrayColumn(array)
    return found


@given(outputs(), st.sampled_from([b"", b"\xf8\x06\x02"]), st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_shares_are_written_as_by_protobuf(columns: dict[str, Column], extras: bytes, sizes: list[int]) -> None:
    """Equal messages, and equal bytes where there is one output: a map's order is nobody's promise."""
    whole = Reply(columns, 3, extras)
    shares = []
    start = 0
    for size in sizes:
        stop = min(start + size, ROWS)
        shares.append(Share(whole, start, stop))
        start = stop if stop < ROWS else 0
    for share, found in zip(shares, encode_each(shares, "m", "s"), strict=True):
        due = encode_predict(Reply(share.columns, 3, extras), "m", "s")

        assert pb.PredictResponse.FromString(due) == pb.PredictResponse.FromString(found)
        assert len(columns) > 1 or due == found == encode_predict(share, "m", "s")


def test_what_is_common_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each number of rows."""
    asked: list[int] = []
    real = tfs_responses._frame

    def counted(whole: Reply, model: str, signature_name: str, rows: int) -> tfs_responses.Frame | None:
        asked.append(rows)
        return real(whole, model, signature_name, rows)

    monkeypatch.setattr(tfs_responses, "_frame", counted)
    for column in (ArrayColumn(np.zeros(ROWS, np.float32)), ArrayColumn(np.zeros(ROWS, np.int64))):
        whole = Reply({"y": column}, 1)
        for start, stop in ((0, 1), (1, 3), (3, 4), (4, 5), (5, 7)):
            encode_predict(Share(whole, start, stop), "m", "s")

    assert [1, 2, 1, 2] == asked


def test_large_answers_are_not_copied_as_a_whole() -> None:
    """They are sliced where they lie."""
    array = np.arange(4 * tfs_responses.COPIED, dtype=np.float32).reshape(ROWS + 1, -1)
    whole = Reply({"y": ArrayColumn(array)}, 1)
    message = encode_predict(Share(whole, 2, 3), "m", "s")
    (frame,) = whole.memo.values()

    assert isinstance(frame.rest[0][0], memoryview)
    assert array[2].tolist() == list(pb.PredictResponse.FromString(message).outputs["y"].float_val)


def test_outputs_that_are_no_tensors() -> None:
    """Alone or as a share: an error that names model and output."""
    for reply in (Reply({"y": ListColumn([1, 2])}, 1), Share(Reply({"y": ListColumn([1, 2])}, 1), 0, 1)):
        with pytest.raises(BackendProtocolError) as caught:
            encode_predict(reply, "m", "s")

        assert "model 'm': output 'y' is no array. This is a bug." == caught.value.message


def test_a_type_that_tensorflow_has_not() -> None:
    """As above, with the type."""
    column = ArrayColumn(np.zeros(2, "datetime64[s]"))
    for reply in (Reply({"y": column}, 1), Share(Reply({"y": column}, 1), 0, 1)):
        with pytest.raises(BackendProtocolError, match="model 'm', output 'y'"):
            encode_predict(reply, "m", "s")
