"""A module is a noun and does one thing; over 400 lines, it is two."""

from __future__ import annotations

from tests.packaging.repository import ROOT, tracked, written_by_us

MAX_LINES = 400


def test_no_file_is_too_long() -> None:
    """No file that we wrote has more than 400 lines."""
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in tracked() if written_by_us(path)}

    assert {} == {name: lines for name, lines in lengths.items() if lines > MAX_LINES}
