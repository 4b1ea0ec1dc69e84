"""Tests of ``batchproxy.demo.show``: what is told at the end. `tests/integration/test_demo.py` runs it all."""

from __future__ import annotations

import dataclasses
import io
import re
from typing import Any, cast

import pytest

from batchproxy.demo import show
from batchproxy.demo.proxy import Ports, Proxy, ProxyError
from batchproxy.demo.report import Progress, Result

RESULTS = [
    Result("mlp", 12000, 600, 12000, 4000.0, 1000.0, (0.3, 3.2)),
    Result("digits", 9000, 900, 9000, 3000.0, 2000.0, (0.02, 0.1), accuracy=(0.975, 0.975)),
]


class EndingProxy:
    """Serves until it fails."""

    ports = Ports(1, 2, 3)

    def wait(self) -> int:
        """It failed."""
        return 3

    def last_words(self) -> str:
        """Of its log."""
        return "out of memory"


def test_told_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    """Table, sentences, accuracy; nothing wrong is status 0."""
    status = show._tell(RESULTS, 256)
    out = capsys.readouterr().out

    assert 0 == status
    assert re.search(r"mlp +12,000 +600 +20.0", out)
    assert "Batching pays for mlp" in out
    assert "It does not pay for digits" in out
    assert "97.50 %" in out


def test_wrong_answers_fail(capsys: pytest.CaptureFixture[str]) -> None:
    """They are told on standard error, with status 1."""
    status = show._tell([RESULTS[0], dataclasses.replace(RESULTS[1], wrong=1)], 256)

    assert 1 == status
    assert "FAILED: digits: 1 answers are wrong" in capsys.readouterr().err


def test_ports_in_use_are_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody looks for the proxy where another server is."""
    monkeypatch.setattr(show, "choose_ports", lambda *, free: (Ports(7, 8501, 8502), [8500]))
    ports = show._ports(once=False, progress=Progress(io.StringIO()))

    assert 7 == ports.grpc
    assert "Ports in use: 8500. Taking free ones instead.\n" == capsys.readouterr().out


def test_a_proxy_that_ends_while_serving(capsys: pytest.CaptureFixture[str]) -> None:
    """What to try is printed; an end that nobody asked for is an error with its last words."""
    with pytest.raises(ProxyError, match="status 3:\nout of memory"):
        show._serve_on(cast("Proxy", cast("Any", EndingProxy())))
    out = capsys.readouterr().out

    assert "http://127.0.0.1:2/v1/models/half_plus_two:predict" in out
    assert "open http://127.0.0.1:3/" in out
