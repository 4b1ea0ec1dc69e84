"""Huffman-coded strings by the examples of RFC 7541; ``tests/property/test_headers.py`` has ``hpack`` as the judge."""

from __future__ import annotations

import pytest

from batchproxy.wire import huffman


@pytest.mark.parametrize(
    ("coded", "text"),
    [
        ("", b""),
        ("f1e3c2e5f23a6ba0ab90f4ff", b"www.example.com"),  # C.4.1
        ("a8eb10649cbf", b"no-cache"),  # C.4.2
        ("25a849e95bb8e8b4bf", b"custom-value"),  # C.4.3
        ("d07abe941054d444a8200595040b8166e082a62d1bff", b"Mon, 21 Oct 2013 20:13:21 GMT"),  # C.6.1
    ],
)
def test_examples(coded: str, text: bytes) -> None:
    """The RFC's own."""
    assert text == huffman.decode(bytes.fromhex(coded))


@pytest.mark.parametrize("coded", ["ffffffff", "ff", "00", "f1e3c2e5f23a6ba0ab90f400", "1fff"])
def test_faults(coded: str) -> None:
    """The end-of-string symbol, padding of eight bits, and padding with zeros (5.2)."""
    with pytest.raises(huffman.HuffmanError):
        huffman.decode(bytes.fromhex(coded))
