"""How REST answers are written: from columns, from a slice, as they came, or as an error."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.codecs import tfs_splice
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import (
    BackendRejected,
    BackendUnavailable,
    BatchProxyError,
    Code,
    DeadlineExceeded,
    QueueFull,
)
from batchproxy.core.raw import RawReply
from batchproxy.core.request import Reply, Share
from batchproxy.frontends.call import TooLong
from batchproxy.frontends.heavy import LONG_ANSWER, Heavy
from batchproxy.frontends.rest_answers import PassedOn, PredictFormat, RelayFormat, below_the_api, our_error

RAW = RawReply(418, "I'm a teapot", [("Set-Cookie", "a"), ("set-cookie", "b"), ("x-bin", b"\xe9")], b"\x00body")
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("row_form", "body"),
    [(True, b'{\n    "predictions": [1.0\n    ]\n}'), (False, b'{\n    "outputs": [\n        1.0\n    ]\n}')],
)
def test_columns_are_written_in_the_form_of_the_request(row_form: bool, body: bytes) -> None:
    """TF Serving's layout of both."""
    answer = PredictFormat(row_form).reply(Reply({"y": ArrayColumn(np.ones(1, np.float32))}, 1))

    assert (200, body, JSON, None) == tuple(answer)


@pytest.mark.parametrize("row_form", [True, False])
async def test_a_share_is_written_as_an_answer_of_its_own(row_form: bool) -> None:
    """In either form, whoever was answered before."""
    whole = Reply({"y": ArrayColumn(np.arange(5, dtype=np.float32))}, 1)
    heavy = Heavy(lambda: 0.0)
    form = PredictFormat(row_form, heavy)
    found = [form.reply(Share(whole, start, stop)) for start, stop in ((0, 1), (1, 3), (3, 5))]
    due = [form.reply(Reply(Share(whole, start, stop).columns, 1)) for start, stop in ((0, 1), (1, 3), (3, 5))]
    heavy.close()

    assert due == found


SPANS = st.lists(st.integers(1, 3), min_size=1, max_size=6)


def spans(sizes: Sequence[int], left_out: int) -> list[tuple[int, int]]:
    """(start, stop) of shares of such sizes, without one of them."""
    stops = list(accumulate(sizes))
    found = [(stop - size, stop) for size, stop in zip(sizes, stops, strict=True)]
    return [span for number, span in enumerate(found) if number != left_out] or found


@given(SPANS, st.integers(-3, 6), st.integers(0, 2))
def test_answers_to_shares_are_written_together_as_one_by_one(sizes: list[int], left_out: int, filler: int) -> None:
    """Also where somebody has left, and where the call was padded."""
    rows = sum(sizes) + filler
    whole = Reply({"y": ArrayColumn(np.arange(2 * rows, dtype=np.float32).reshape(rows, 2))}, 1)
    form = PredictFormat(row_form=True)
    shares = [Share(whole, *span) for span in spans(sizes, left_out)]
    said = form.replies(shares)

    assert said is not None
    assert [form.reply(share) for share in shares] == [said.like._replace(body=body) for body in said.bodies]


def test_some_answers_are_not_written_together() -> None:
    """Those in column form, those to calls that went alone, and those that went as they came."""
    alone = Reply({"y": ArrayColumn(np.ones(2, np.float32))}, 1)

    assert PredictFormat(row_form=False).replies([Share(alone, 0, 1), Share(alone, 1, 2)]) is None
    assert PredictFormat(row_form=True).replies([alone]) is None
    assert RelayFormat().replies([alone]) is None


@given(SPANS, st.integers(-3, 6))
def test_slices_of_a_servers_answer_are_written_together_as_one_by_one(sizes: list[int], left_out: int) -> None:
    """With its headers, as its own."""
    merged = tfs_splice.read_answer(b'{"predictions": %b}' % str(list(range(sum(sizes)))).encode(), row_form=True)
    whole = Reply(merged, 0, headers=[("content-type", "application/json")])
    form = RelayFormat()
    shares = [Share(whole, *span) for span in spans(sizes, left_out)]
    said = form.replies(shares)

    assert said is not None
    assert [form.reply(share) for share in shares] == [said.like._replace(body=body) for body in said.bodies]
    assert {PassedOn} == {type(form.reply(share)) for share in shares} | {type(said.like)}


def test_shares_of_a_servers_answer_have_its_headers_but_its_date() -> None:
    """Their own rows; the date is that of our answer."""
    merged = tfs_splice.read_answer(b'{"predictions": [1.0, 2.0, 3.0]}', row_form=True)
    plain = Reply(merged, 0, headers=[("content-type", "application/json"), ("date", "then")])
    more = Reply(merged, 0, headers=[("content-type", "application/json"), ("x-more", "1")])
    answers = [RelayFormat().reply(share) for share in (Share(plain, 0, 1), Share(plain, 1, 3), Share(more, 0, 1))]

    assert [b'{"predictions": [1.0]}', b'{"predictions": [2.0, 3.0]}', b'{"predictions": [1.0]}'] == [
        answer.body for answer in answers
    ]
    assert [JSON, JSON, {"content-type": "application/json", "x-more": "1"}] == [dict(a.headers) for a in answers]


def test_an_answer_is_passed_on_as_it_came() -> None:
    """Status, reason, repeated fields in order, body."""
    answer = RelayFormat().reply(Reply({}, 0, raw=RAW))

    assert (418, "I'm a teapot", b"\x00body") == (answer.status, answer.reason, answer.body)
    assert [("Set-Cookie", "a"), ("set-cookie", "b"), ("x-bin", "\xe9")] == list(answer.headers.items())


def test_a_slice_of_a_merged_answer_is_written_with_the_servers_headers() -> None:
    """Its own rows, in the layout of an answer of their own."""
    merged = tfs_splice.read_answer(b'{\n    "predictions": [1.0, 2.0, 3.0\n    ]\n}', row_form=True)
    columns = {name: column.take(1, 3) for name, column in merged.items()}
    answer = RelayFormat().reply(Reply(columns, 0, headers=[("Content-Type", "application/json")]))

    assert (200, b'{\n    "predictions": [2.0, 3.0\n    ]\n}') == (answer.status, answer.body)
    assert JSON == dict(answer.headers)


def test_the_servers_own_error_is_passed_on_but_only_where_it_was_relayed() -> None:
    """What a server said to a call that we made ourselves is written as our document."""
    error = BackendRejected("no", code=Code.NOT_FOUND, raw=RAW)
    relayed, bridged = RelayFormat().error(error), PredictFormat(row_form=True).error(error)

    assert 418 == relayed.status
    assert (404, b'{\n    "error": "no"\n}') == bridged[:2]


def test_errors_of_ours_say_when_to_come_again() -> None:
    """Only those that will pass."""
    full, bad = our_error(QueueFull("full")), our_error(BatchProxyError("late", code=Code.DEADLINE_EXCEEDED))

    gone = our_error(BackendUnavailable("http://tf:8501: connection refused"))

    assert (503, {**JSON, "Retry-After": "1"}, None) == (full.status, full.headers, full.reason)
    assert (503, {**JSON, "Retry-After": "1"}) == (gone.status, gone.headers)
    assert (504, JSON, "Gateway Time-out") == (bad.status, bad.headers, bad.reason)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (DeadlineExceeded("Deadline Exceeded"), "Timed out waiting for notification"),
        (BackendRejected("s: no answer in time", code=Code.DEADLINE_EXCEEDED), "Timed out waiting for notification"),
        (BackendRejected("so says it", code=Code.DEADLINE_EXCEEDED, raw=RawReply(4, "so", (), b"")), "so says it"),
    ],
)
def test_a_callers_time_is_up_in_tf_servings_words(error: BatchProxyError, text: str) -> None:
    """Wherever we noticed; a server that says so itself has its own."""
    answer = our_error(error)

    assert (504, f'{{\n    "error": "{text}"\n}}'.encode()) == (answer.status, answer.body)


@pytest.mark.parametrize(
    ("method", "path", "origin", "status"),
    [
        ("GET", "/elsewhere", None, 404),
        ("BREW", "/v1/models/m", None, 501),
        ("OPTIONS", "/v1/models/m", "https://a", 200),
        ("OPTIONS", "/v1/models/m", None, 400),
        ("POST", "/v1/models/m:predict", None, None),
    ],
)
def test_what_the_http_layer_answers_by_itself(method: str, path: str, origin: str | None, status: int | None) -> None:
    """As libevent does below TF Serving."""
    answer = below_the_api(method, path, origin)

    assert status == (answer.status if answer is not None else None)


async def test_long_answers_of_one_batch_are_one_piece_of_work() -> None:
    """Their rows are printed together: whoever has begun does it for all; columns are each caller's own."""
    heavy = Heavy(lambda: 0.0)
    whole = Reply({"y": ArrayColumn(np.zeros((LONG_ANSWER, 2), np.float32))}, 1)
    keys = []
    for row_form, reply in ((True, Share(whole, 0, 1)), (True, Share(whole, 1, 2)), (False, Share(whole, 0, 9000))):
        with pytest.raises(TooLong) as postponed:
            PredictFormat(row_form, heavy).reply(reply)
        keys.append(postponed.value.key)
    with pytest.raises(TooLong) as alone:
        PredictFormat(True, heavy).reply(whole)
    heavy.close()

    assert keys[0] is not None
    assert keys[0] == keys[1]
    assert [None, None] == [keys[2], alone.value.key]
