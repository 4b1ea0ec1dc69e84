"""What a server's answers give away reaches those who asked to know: with a scripted server behind each door."""

from __future__ import annotations

import grpc
import numpy as np
import pytest

from batchproxy.backends.tfserving import TfServingBackend
from batchproxy.codecs import tfs_grpc
from batchproxy.codecs.tfs_habits import Habits
from batchproxy.codecs.tfs_rows import read_request
from batchproxy.core.columns import ArrayColumn, TensorColumn
from batchproxy.core.errors import BackendRejected, BackendTooBig
from batchproxy.core.raw import GRPC, RawCall
from batchproxy.core.request import BatchKey, Reply
from tests.unit.scripted_doors import scripted

KEY = BatchKey("m", None, "serving_default")
COLUMNS = {"x": ArrayColumn(np.array([1.0, 2.0], np.float32))}
TEXT = "Task size 2 is larger than maximum input batch size 1"


async def test_a_merged_call_that_is_too_big() -> None:
    """By either door; a relayed one is answered as it was."""
    said: list[str] = []
    request = read_request(b'{"instances": [1.0, 2.0]}')
    assert request is not None
    async with scripted() as server:
        backend = TfServingBackend(grpc=server.grpc, rest=server.rest, habits=Habits(said.append))
        server.grpc_answers[tfs_grpc.PREDICT] = grpc.StatusCode.INVALID_ARGUMENT, TEXT
        server.rest_answers["POST /v1/models/m:predict"] = 400, b'{"error": "' + TEXT.encode() + b'"}'
        for columns in (COLUMNS, request.columns):
            with pytest.raises(BackendTooBig, match=TEXT):
                await backend.infer(KEY, columns)
        with pytest.raises(BackendRejected, match=TEXT) as caught:
            await backend.relay(RawCall(GRPC, tfs_grpc.PREDICT, "", (), b""), None)
        await backend.aclose()

    assert not isinstance(caught.value, BackendTooBig)
    assert [True] * 3 == [line.startswith(f"{backend.name} runs a batching of its own") for line in said]


async def test_answers_in_raw_buffers() -> None:
    """They are looked at as they come."""
    answer = Reply({"y": TensorColumn(np.array([1.0, 2.0], np.float32), content=True)}, 1)
    habits = Habits()
    async with scripted() as server:
        backend = TfServingBackend(grpc=server.grpc, habits=habits)
        server.grpc_answers[tfs_grpc.PREDICT] = tfs_grpc.encode_predict(answer, "m", "serving_default")
        await backend.infer(KEY, COLUMNS)
        await backend.aclose()

    assert habits.tensor_content
