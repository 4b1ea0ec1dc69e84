"""Triton's ``max_batch_size``, out of either door's answer."""

from __future__ import annotations

import pytest

from batchproxy.codecs import v2_config
from batchproxy.core.errors import BackendProtocolError
from batchproxy.protos import v2_pb2 as pb


@pytest.mark.parametrize(("size", "rows"), [(0, None), (1, 1), (64, 64), (-1, None)])
def test_rows_at_most(size: int, rows: int | None) -> None:
    """Nothing is said by 0: that is no batching of Triton's own."""
    message = pb.ModelConfigResponse(config=pb.ModelConfig(max_batch_size=size)).SerializeToString()

    assert rows == v2_config.decode_max_rows(message)
    assert rows == v2_config.read_max_rows(b'{"name": "m", "max_batch_size": %d, "version_policy": {}}' % size)


def test_a_document_without_a_size() -> None:
    """As protobuf has it: 0."""
    assert v2_config.read_max_rows(b"{}") is None


@pytest.mark.parametrize("body", [b"", b"[]", b'{"max_batch_size": "8"}', b"\xff"])
def test_answers_that_are_none(body: bytes) -> None:
    """Either door's."""
    with pytest.raises(BackendProtocolError, match="configuration of a model"):
        v2_config.read_max_rows(body)
    with pytest.raises(BackendProtocolError, match="no ModelConfigResponse"):
        v2_config.decode_max_rows(b"\xff")
