"""Tests of ``batchproxy.demo.check``: it must see every kind of wrong answer, or the demo's zero means nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchproxy.demo.check import check
from batchproxy.demo.data import Workload
from batchproxy.protos import tfs_pb2

WORKLOAD = Workload(
    "m",
    Path(),
    "x",
    np.zeros((3, 1), np.float32),
    {"label": np.array([4, 5, 6]), "score": np.array([[0.25, 100.0], [0.5, 200.0], [0.75, 300.0]], np.float32)},
    labels=np.array([4, 5, 9]),
)
SINGLE = Workload("one", Path(), "x", np.zeros(2, np.float32), {"y": np.array([2.0, 2.5], np.float32)})


def body(label: Any, score: Any) -> bytes:
    """An answer in TF Serving's row form."""
    return json.dumps({"predictions": [{"label": label, "score": score}]}).encode()


def message(label: int, score: list[float], *, content: bool = True) -> bytes:
    """A PredictResponse, its values as bytes or in the typed fields."""
    answer = tfs_pb2.PredictResponse()
    for name, number, field, array in (
        ("label", 9, "int64_val", np.array([label])),
        ("score", 1, "float_val", np.array([score], np.float32)),
    ):
        tensor = answer.outputs[name]
        tensor.dtype = number
        for size in array.shape:
            tensor.tensor_shape.dim.add(size=size)
        if content:
            tensor.tensor_content = array.tobytes()
        else:
            getattr(tensor, field).extend(array.ravel().tolist())
    return answer.SerializeToString()


def test_right_answers() -> None:
    """Both wire forms, and what the last digits of a matrix product may do."""
    verdict = check(
        WORKLOAD,
        [(0, body(4, [0.25, 100.0])), (1, body(5, [0.5 + 9e-7, 200.0002]))],
        [(2, message(6, [0.75, 300.0])), (2, message(6, [0.75, 300.0], content=False))],
    )

    assert (0, "") == (verdict.wrong, verdict.first)
    assert 2 / 3 == verdict.accuracy
    assert 2 / 3 == verdict.direct


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (body(5, [0.25, 100.0]), "label is [5], expected [4]"),
        (body(5, [0.5, 200.0]), "m, row 0"),
        (body(4, [0.2500021, 100.0]), "score is"),
        (body(4, [0.25, 100.0003]), "score is"),
        (body(4, [0.25]), "(1, 1), expected float32 (1, 2)"),
        (body(4, [float("nan"), 100.0]), "unreadable"),
        (json.dumps({"predictions": [{"label": 4}]}).encode(), "outputs ['label'], expected ['label', 'score']"),
        (json.dumps({"predictions": [{"label": 4, "score": [0.25, 100]}] * 2}).encode(), "(2,)"),
        (b'{"error": "no"}', "unreadable (KeyError"),
        (b"", "unreadable"),
    ],
)
def test_wrong_rest_answers(answer: bytes, text: str) -> None:
    """Another row's answer, a number too far off, a row too many or few, an output missing, no JSON."""
    verdict = check(WORKLOAD, [(0, answer), (1, body(5, [0.5, 200.0]))], [])

    assert 1 == verdict.wrong
    assert text in verdict.first


@pytest.mark.parametrize(
    "answer",
    [message(5, [0.25, 100.0]), message(4, [float("nan"), 100.0]), message(4, [0.25]), b"", b"\xff"],
)
def test_wrong_grpc_answers(answer: bytes) -> None:
    """The same in messages; NaN is never near a number."""
    assert 1 == check(WORKLOAD, [], [(0, answer)]).wrong


def test_dtype_of_messages() -> None:
    """A dtype that nobody has is named; a wrong one is wrong whatever the values are."""
    strange = tfs_pb2.PredictResponse()
    strange.outputs["label"].dtype = 99
    floats = message(4, [0.25, 100.0])
    other = tfs_pb2.PredictResponse.FromString(floats)
    other.outputs["label"].dtype = 23

    assert "dtype 99" in check(WORKLOAD, [], [(0, strange.SerializeToString())]).first
    assert "label is uint64" in check(WORKLOAD, [], [(0, other.SerializeToString())]).first


def test_single_output_and_no_labels() -> None:
    """With one output TF Serving leaves its name out; without labels there is no accuracy."""
    verdict = check(SINGLE, [(1, b'{"predictions": [2.5]}'), (0, b'{"predictions": [2.5]}')], [])

    assert 1 == verdict.wrong
    assert verdict.accuracy is None
    assert verdict.direct is None


def test_one_wrong_label_spoils_its_row() -> None:
    """A row counts as right only if every answer to it was."""
    right, wrong = body(4, [0.25, 100.0]), body(5, [0.25, 100.0])
    verdict = check(WORKLOAD, [(0, right), (0, wrong), (0, right)], [])

    assert 0.0 == verdict.accuracy
    assert 1.0 == verdict.direct  # of row 0, the only one that was asked for
