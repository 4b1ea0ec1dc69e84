"""gRPC answers: what a server said, and what we say."""

from __future__ import annotations

import pytest

from batchproxy.core.errors import BackendRejected, Code, QueueFull
from batchproxy.core.raw import RawReply
from batchproxy.core.request import Reply
from batchproxy.frontends.grpc_answers import RelayFormat, as_it_came, error_answer, our_error
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


def test_errors_are_the_servers_or_ours() -> None:
    """Its words and trailers, or ours, which say when trying again makes sense."""
    assert ("theirs", [("c", "3")]) == (error_answer(THEIRS).message, RelayFormat().error(THEIRS).trailers)
    assert ("as we tell it", ()) == (our_error(THEIRS).message, our_error(THEIRS).trailers)
    assert (("grpc-retry-pushback-ms", "1000"),) == error_answer(QueueFull("full")).trailers
