"""A clone stands alone: nothing in it names a folder of the machine it was written on."""

from __future__ import annotations

import re
from pathlib import Path

from tests.packaging.repository import ROOT, tracked

# Written so that this file does not find itself.
OUTSIDE = re.compile(rb"\.\./" + rb"shared|(?<![\w.])/(work|farm|root)/")
NOT_OURS = {Path("LICENSE")}


def test_no_path_of_this_machine() -> None:
    """No tracked file, whatever its kind, mentions a path outside the clone that only our machine has."""
    found = {
        str(path): match[0].decode()
        for path in tracked()
        if path not in NOT_OURS and (match := OUTSIDE.search((ROOT / path).read_bytes()))
    }

    assert {} == found


def test_pattern_finds_what_it_should() -> None:
    """The pattern finds such paths, and leaves other words alone."""
    bad = [b"see ../" + b"shared/x", b"open('/" + b"work/main')", b"\n/" + b"root/.cache"]
    good = [b"https://x.org/network/a", b"a shared/ folder", b"frame/work/x", b"/tmp/work"]

    assert all(OUTSIDE.search(text) for text in bad)
    assert not any(OUTSIDE.search(text) for text in good)
