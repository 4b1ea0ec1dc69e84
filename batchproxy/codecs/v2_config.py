"""What Triton's configuration of a model says of its batches, through either door. Nothing else of it is read."""

from __future__ import annotations

import msgspec
from google.protobuf.message import DecodeError as ProtobufDecodeError

from batchproxy.core.errors import BackendProtocolError
from batchproxy.protos import v2_pb2 as pb


class _Config(msgspec.Struct):
    max_batch_size: int = 0


_CONFIG = msgspec.json.Decoder(_Config)


def decode_max_rows(message: bytes) -> int | None:
    """Rows that a model takes in a call at most, out of a ModelConfigResponse; None: 0, which is no batching there.

    Raises:
        BackendProtocolError: it is none.
    """
    try:
        return _rows(pb.ModelConfigResponse.FromString(message).config.max_batch_size)
    except ProtobufDecodeError:
        raise BackendProtocolError("the server's answer to ModelConfig is no ModelConfigResponse") from None


def read_max_rows(body: bytes) -> int | None:
    """The same out of the document of ``GET /v2/models/M/config``.

    >>> read_max_rows(b'{"name": "m", "max_batch_size": 8}'), read_max_rows(b'{"max_batch_size": 0}')
    (8, None)
    """
    try:
        return _rows(_CONFIG.decode(body).max_batch_size)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BackendProtocolError(f"the server's configuration of a model: {error}") from None


def _rows(size: int) -> int | None:
    return size if size > 0 else None
