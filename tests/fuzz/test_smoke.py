"""Each fuzz target, briefly and always with the same examples; ``make fuzz`` runs them for longer, with others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings

from tests.fuzz.__main__ import TARGETS
from tests.fuzz.inputs import cut, spoilt, weight
from tests.http1_messages import connect


@pytest.mark.parametrize("target", TARGETS, ids=[target.__name__ for target in TARGETS])
def test_target(target: Callable[[], None]) -> None:
    """A few hundred examples."""
    settings(settings.get_profile("ci"), max_examples=300)(target)()


def test_what_is_held_is_weighed() -> None:
    """However deep it is; what is shared with the program is not."""
    empty, full = connect(), connect()
    full.feed(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60\r\n\r\n" + b"x" * 50, 0.0)

    assert weight(empty) + 50 < weight(full) < weight(empty) + 5000


def test_edits() -> None:
    """Bytes left out, doubled, put in; and pieces of any sizes."""
    assert b"ac" == spoilt(b"abc", [(1, 1, b"")])
    assert b"abbc" == spoilt(b"abc", [(1, 1, None)])
    assert b"abcd" == spoilt(b"abc", [(3, 0, b"d")])
    assert [b"a", b"bc", b"d"] == cut(b"abcd", [1, 2])
    assert [b"abcd"] == cut(b"abcd", [])
