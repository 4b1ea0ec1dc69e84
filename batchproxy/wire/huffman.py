"""Huffman-coded strings of HPACK (RFC 7541, 5.2), a byte at a time. No header fields here.

The table is ``hpack``'s: a state machine over half bytes. Two of its steps are put together into one per byte; a
state's 256 steps are worked out when the state is first met, since most strings need few of the 256 states.
"""

from __future__ import annotations

from functools import cache

from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE

Step = tuple[int, bytes]


class HuffmanError(ValueError):
    """These bytes are no Huffman-coded string."""


def decode(data: bytes) -> bytes:
    """The string that ``data`` stands for.

    Raises:
        HuffmanError: the end-of-string symbol inside, or padding that is longer than seven bits or not all ones.
    """
    state = 0
    parts = []
    for byte in data:
        step = _steps(state)[byte]
        if step is None:
            raise HuffmanError("not a Huffman-coded string")
        state, text = step
        if text:
            parts.append(text)
    if state not in _ends():
        raise HuffmanError("a Huffman-coded string does not end where it may")
    return b"".join(parts)


@cache
def _steps(state: int) -> list[Step | None]:
    """Where each byte leads from a state, and what it says on the way; None: nowhere."""
    return [_step(state, byte) for byte in range(256)]


def _step(state: int, byte: int) -> Step | None:
    said = b""
    for half in (byte >> 4, byte & 15):
        state, flags, symbol = HUFFMAN_TABLE[state * 16 + half]
        if flags & HUFFMAN_FAIL:
            return None
        if flags & HUFFMAN_EMIT_SYMBOL:
            said += bytes((symbol,))
    return state, said


@cache
def _ends() -> frozenset[int]:
    """The states in which a string may end: the beginning, and those reached with a padding of ones."""
    return frozenset({0} | {state for state, flags, _ in HUFFMAN_TABLE if flags & HUFFMAN_COMPLETE})
