"""gRPC answers: what a server said, and what we say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from batchproxy.codecs import tfs_grpc
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import BackendRejected, Code, QueueFull
from batchproxy.core.raw import RawReply
from batchproxy.core.request import Reply, Share, Version
from batchproxy.frontends.grpc_answers import PredictFormat, RelayFormat, as_it_came, error_answer, our_error
from batchproxy.frontends.heavy import LONG_ANSWER

RAW = RawReply(0, "", [("a", "1")], b"body", [("b", "2")], compressed=True)
THEIRS = BackendRejected("as we tell it", code=Code.NOT_FOUND, raw=RawReply(5, "theirs", (), b"", [("c", "3")]))


def test_a_relay_passes_on_what_was_said() -> None:
    """Message, metadata, and whether it was compressed, unless that takes long."""
    answer = RelayFormat().reply(Reply({}, 0, raw=RAW))
    long = as_it_came(RawReply(0, "", (), bytes(LONG_ANSWER + 1), (), compressed=True))

    assert (Code.OK, "", b"body", [("a", "1")], [("b", "2")], True) == answer
    assert not long.compress
    with pytest.raises(AssertionError, match="This is a bug"):
        RelayFormat().reply(Reply({}, 0))


class Told:
    """A catalogue that hears which version answered."""

    def __init__(self) -> None:
        self.versions: list[int] = []

    def answered(self, model: str, asked: Version, version: int) -> None:
        """As a catalogue's."""
        self.versions.append(version)


@pytest.mark.parametrize("encode", [tfs_grpc.encode_predict, lambda reply, *_: str(reply.columns).encode()])
def test_shares_are_written_together_as_one_by_one(encode: Callable[[Reply, str, str], bytes]) -> None:
    """The version is told once for all; what went alone, or as it came, is not written so."""
    whole = Reply({"y": ArrayColumn(np.arange(4, dtype=np.float32))}, 7)
    told: Any = Told()
    form = PredictFormat("m", "s", (told, None), encode)
    shares = [Share(whole, 0, 1), Share(whole, 1, 3)]
    found = form.replies(shares)

    assert [7] == told.versions
    assert found == [form.reply(share).body for share in shares]
    assert form.replies([whole]) is None
    assert form.replies([Share(Reply({}, 0, raw=RAW), 0, 1)]) is None


def test_errors_are_the_servers_or_ours() -> None:
    """Its words and trailers, or ours, which say when trying again makes sense."""
    assert ("theirs", [("c", "3")]) == (error_answer(THEIRS).message, RelayFormat().error(THEIRS).trailers)
    assert ("as we tell it", ()) == (our_error(THEIRS).message, our_error(THEIRS).trailers)
    assert (("grpc-retry-pushback-ms", "1000"),) == error_answer(QueueFull("full")).trailers
