"""Log lines: one format, and repeats are counted."""

from __future__ import annotations

import logging

import pytest

from batchproxy import log
from batchproxy.events import Events
from batchproxy.log import Notices, configure


def test_configure_formats_lines_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """One handler, however often it is called."""
    logger = logging.getLogger("batchproxy")
    before = logger.handlers[:], logger.level, logger.propagate
    configure()
    configure()
    logging.getLogger("batchproxy.test").info("a line")
    logger.handlers[:], logger.level, logger.propagate = before

    line = capsys.readouterr().err
    assert 1 == line.count("a line")
    assert line.endswith("INFO batchproxy.test: a line\n")


def test_a_repeated_notice_is_told_when_its_number_doubles(caplog: pytest.LogCaptureFixture) -> None:
    """The first time at once, then at 2, 4, 8."""
    notices = Notices(logging.getLogger("test"))
    for _ in range(9):
        notices("batching is off")
    notices("another")

    assert [
        "batching is off",
        "batching is off (2 times so far)",
        "batching is off (4 times so far)",
        "batching is off (8 times so far)",
        "another",
    ] == caplog.messages


def test_what_is_told_is_counted_though_it_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at the metric sees each time."""
    counted = Events()
    monkeypatch.setattr(log, "events", counted)
    logger = logging.getLogger("batchproxy")
    before = logger.handlers[:], logger.level, logger.propagate
    configure()
    notices = Notices(logging.getLogger("batchproxy.test"))
    for _ in range(5):
        notices("model 'm': batching is off from now on: x")
    logging.getLogger("batchproxy.test").info("model %r: version %d answers now, before it was %d", "m", 5, 4)
    logger.handlers[:], logger.level, logger.propagate = before

    assert (5, 1) == (counted.counts["batching_off"], counted.counts["version_changed"])
