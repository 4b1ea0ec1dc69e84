"""gRPC's bytes: deadlines, texts, metadata, compression, shapes of answers."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.wire import grpc
from batchproxy.wire.headers import Decoder


def decoded(block: bytes) -> list[tuple[bytes, bytes]]:
    """The fields in a block."""
    return Decoder(1000, 1 << 20).decode(block)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"2H", 7200.0), (b"3M", 180.0), (b"5S", 5.0), (b"250m", 0.25), (b"17u", 17e-6), (b"99999999n", 0.099999999),
        (b"0S", 0.0), (b"", None), (b"S", None), (b"1", None), (b"123456789S", None), (b"-1S", None), (b"1.5S", None),
        (b"1s", None), (b" 1S", None), (b"1S,2S", None), (b"1S\n", None), (b"\xd9\xa1S", None),
    ],
)  # fmt: skip
def test_timeouts(value: bytes, seconds: float | None) -> None:
    """One to eight digits and a unit; nothing else."""
    assert (None if seconds is None else pytest.approx(seconds)) == grpc.timeout_s(value)


@given(st.text())
def test_percent_encoding(text: str) -> None:
    """What is sent is printable ASCII, and means the text, where it is not too long."""
    encoded = grpc.percent_encoded(text)
    meant = b"".join(
        bytes((int(part[:2], 16),)) + part[2:] if index else part for index, part in enumerate(encoded.split(b"%"))
    )

    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert text.encode("utf-8", "replace") == meant


@pytest.mark.parametrize("offset", range(4))
def test_long_texts_are_cut(offset: int) -> None:
    """Never within an escape."""
    encoded = grpc.percent_encoded("x" * offset + "\n" * 5000)

    assert 4090 < len(encoded) <= 4096
    assert b"%0A" == encoded[-3:]


def test_metadata() -> None:
    """Text as it is, bytes of ``-bin`` names in base64 without padding; and back."""
    pairs: list[grpc.Pair] = [("a", "b"), ("a", b"c"), ("x-bin", b"\0\xff"), ("y-bin", "AP8")]
    fields = decoded(grpc.metadata_fields(pairs))

    assert [(b"a", b"b"), (b"a", b"c"), (b"x-bin", b"AP8"), (b"y-bin", b"AP8")] == fields
    assert [("a", "b"), ("a", "c"), ("x-bin", b"\0\xff"), ("y-bin", b"\0\xff")] == list(grpc.metadata_pairs(fields))


def test_binary_metadata_of_others() -> None:
    """With padding, several joined, and what is no base64 at all."""
    fields = [(b"x-bin", b"AP8=, AQ"), (b"y-bin", b"A")]

    assert [("x-bin", b"\0\xff"), ("x-bin", b"\1"), ("y-bin", "A")] == list(grpc.metadata_pairs(fields))


@given(st.binary())
def test_any_bytes_are_metadata(value: bytes) -> None:
    """Binary values come back."""
    assert [("x-bin", value)] == list(grpc.metadata_pairs(decoded(grpc.metadata_fields([("x-bin", value)]))))


@pytest.mark.parametrize(
    ("name", "value"), [("A", "b"), ("a", "ä"), ("a", "b\n"), ("a b", "c"), ("a", " b"), ("", "b")]
)
def test_wrong_metadata(name: str, value: str) -> None:
    """What gRPC does not allow is not sent."""
    with pytest.raises(ValueError, match=r"cannot be gRPC metadata|codec can't encode"):
        grpc.metadata_fields([(name, value)])


def test_trailers() -> None:
    """Status, text where there is one, and metadata."""
    assert grpc.trailers(0, "") == grpc.DONE
    assert [(b"grpc-status", b"14"), (b"grpc-message", b"busy"), (b"a", b"b")] == decoded(
        grpc.trailers(14, "busy", [("a", "b")])
    )


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
@given(st.binary(max_size=300))
def test_compression(encoding: bytes, message: bytes) -> None:
    """What is compressed comes back, at its own length and not below."""
    packed = grpc.compress(encoding, message)
    judge = gzip.decompress if encoding == b"gzip" else zlib.decompress

    assert message == judge(packed)
    assert message == grpc.decompress(encoding, packed, len(message))
    if message:
        with pytest.raises(grpc.MessageTooLarge):
            grpc.decompress(encoding, packed, len(message) - 1)
    for broken in (packed[:-1], packed + b"x", b"junk"):
        with pytest.raises(grpc.MessageError):
            grpc.decompress(encoding, broken, 1000)


def test_bombs_are_not_unpacked() -> None:
    """A gigabyte of zeros in a megabyte costs what the limit allows."""
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()

    with pytest.raises(grpc.MessageTooLarge, match="more than 1000 bytes"):
        grpc.decompress(b"gzip", bomb, 1000)


def test_the_frames_of_an_answer_of_any_size() -> None:
    """Those too long for one are never packed, but can be made."""
    assert (1 << 25) + 5 == grpc.plain(1 << 25).size


@given(st.floats(min_value=1e-7, max_value=1e9))
def test_a_time_limit_that_is_written_is_read_as_at_least_as_long(seconds: float) -> None:
    """And hardly longer: eight digits are exact to a millionth, or to a microsecond."""
    read = grpc.timeout_s(grpc.timeout_value(seconds))

    assert read is not None
    assert min(seconds, 99_999_999.0) <= read * (1 + 1e-12)
    assert read <= seconds * (1 + 2e-5) + 1e-6


@given(st.text(max_size=200))
def test_a_status_text_survives(text: str) -> None:
    """Encoded and decoded; what is no text becomes question marks."""
    assert text.encode("utf-8", "replace").decode() == grpc.percent_decoded(grpc.percent_encoded(text))


@pytest.mark.parametrize(
    ("sent", "expected"), [(b"50%", "50%"), (b"%zz%41", "%zzA"), (b"\xff", "\ufffd"), (b"a ", "a ")]
)
def test_badly_encoded_texts_are_passed_on_as_they_are(sent: bytes, expected: str) -> None:
    """gRPC asks for leniency: a status text is for people."""
    assert expected == grpc.percent_decoded(sent)
