"""What strangers send: pieces of the right thing, spoilt; and how much of it something keeps. No judgement here."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

from hypothesis import strategies as st

EDITS = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 3), st.one_of(st.binary(min_size=1, max_size=4), st.none())),
    max_size=4,
)
"""Where, how many bytes are taken away, and what is put there; None: what stands there comes twice."""

OURS = "batchproxy."
PLAIN = (bytes, bytearray, str, int, float, tuple, list, dict, set, frozenset, memoryview)


def spoilt(data: bytes, edits: Sequence[tuple[int, int, bytes | None]]) -> bytes:
    """``data`` with some of its bytes changed."""
    changed = bytearray(data)
    for at, size, new in edits:
        start = at % (len(changed) + 1)
        stop = start + size
        changed[start:stop] = changed[start:stop] * 2 if new is None else new
    return bytes(changed)


def near(corpus: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """One of these, as it is or spoilt; or anything."""
    return st.one_of(st.sampled_from(corpus), st.builds(spoilt, st.sampled_from(corpus), EDITS), st.binary(max_size=40))


def cut(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """``data`` in pieces of these sizes, in turn; as one where there are none."""
    pieces, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)] if sizes else len(data)
        pieces.append(data[at : at + size])
        at += size
        turn += 1
    return pieces


def weight(thing: object) -> int:
    """Bytes of memory held by an object of ours and all that can be reached from it, but for code and constants."""
    seen: set[int] = set()
    todo, size = [thing], 0
    while todo:
        one = todo.pop()
        kind = type(one)
        if id(one) in seen or not (kind in PLAIN or kind.__module__.startswith((OURS, "collections"))):
            continue
        seen.add(id(one))
        size += sys.getsizeof(one)
        todo += [held for held in gc.get_referents(one) if not isinstance(held, type)]
    return size
