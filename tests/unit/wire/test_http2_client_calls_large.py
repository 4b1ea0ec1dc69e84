"""What becomes of compressed and of large answers to our own gRPC calls."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable, Sequence

import pytest

from batchproxy.wire import frames
from batchproxy.wire.budget import LARGE_BYTES, Budget
from batchproxy.wire.http2_client_call import Fate
from batchproxy.wire.http2_head import Refusal
from batchproxy.wire.unpack import QUICK_BYTES, QUICK_TEXT_BYTES
from tests.http2_host import DONE, GOOD, Host

ZIPPED: Sequence[tuple[str, str]] = (*GOOD, ("grpc-encoding", "gzip"))


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)]
)
@pytest.mark.parametrize("pieces", [1, 3])
def test_compressed_answers(encoding: str, pack: Callable[[bytes], bytes], pieces: int) -> None:
    """gzip and deflate, in one frame or in several; the encoding alone means nothing."""
    host = Host()
    call = host.start()
    whole = host.data(pack(b"answer" * 50), compressed=int(encoding != "identity"))[9:]
    size = -(-len(whole) // pieces)
    host.say(host.headers([*GOOD, ("grpc-encoding", encoding)]))
    for at in range(0, len(whole), size):
        host.say(frames.frame(frames.DATA, 0, 1, whole[at : at + size]))
    host.say(host.headers(DONE, ends=True))

    assert (Fate.STATUS, 0, "") == (call.fate, call.code, call.text)
    assert b"answer" * 50 == call.message


RANDOM = random.Random(1).randbytes(QUICK_BYTES + 1)


@pytest.mark.parametrize(
    ("text", "packed", "code", "said"),
    [
        (bytes(QUICK_TEXT_BYTES + 1), zlib.compress(bytes(QUICK_TEXT_BYTES + 1)), 0, ""),
        (RANDOM, zlib.compress(RANDOM), 0, ""),
        (None, RANDOM, 13, "the message is not deflate data: "),
    ],
    ids=["long inflated", "long as sent", "broken"],
)
def test_what_takes_long_to_inflate_is_left_to_a_thread(
    text: bytes | None, packed: bytes, code: int, said: str
) -> None:
    """Then the call has ended without its message; whether there is one is not known before."""
    host = Host()
    call = host.start()
    whole = host.data(packed, compressed=1)[9:]
    host.say(host.headers([*GOOD, ("grpc-encoding", "deflate")]))
    for at in range(0, len(whole), 16_384):
        host.say(frames.frame(frames.DATA, 0, 1, whole[at : at + 16_384]))
    [ended] = host.say(host.headers(DONE, ends=True))
    left = ended.packed

    assert (call, Fate.STATUS, 0, None) == (ended, ended.fate, ended.code, ended.message)
    assert left is not None
    if text is not None:
        assert text == left.whole()
        return
    with pytest.raises(Refusal) as caught:
        left.whole()
    assert (code, True) == (caught.value.code, caught.value.text.startswith(said))


def test_large_answers_are_charged_until_they_are_handed_on() -> None:
    """From their prefix on; they never wait, however much is held. A call that is given up is charged no longer."""
    budget = Budget(1000)
    budget.charge(1000)
    host = Host()
    host.client.requests._budget = budget
    calls = [host.start(), host.start()]
    whole = host.data(bytes(LARGE_BYTES + 1))[9:]
    for stream in (1, 3):
        host.say(host.headers(GOOD, stream), frames.frame(frames.DATA, 0, stream, whole[:16_384]))
    both = budget.held
    host.client.give_up(calls[1])
    one = budget.held
    for at in range(16_384, len(whole), 16_384):
        host.say(frames.frame(frames.DATA, 0, 1, whole[at : at + 16_384]))
    host.say(host.headers(DONE, ends=True))

    assert (2 * LARGE_BYTES + 1002, LARGE_BYTES + 1001, 1000) == (both, one, budget.held)
    assert bytes(LARGE_BYTES + 1) == calls[0].message
