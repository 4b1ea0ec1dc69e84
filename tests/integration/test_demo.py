"""``batchproxy demo`` as a user runs it, only shorter."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, "-m", "batchproxy", "demo", "--callers=16", "--seconds=0.4"]


@pytest.mark.slow
def test_once() -> None:
    """The table has every model, nothing is wrong or lost, calls are fewer than requests, and it ends with 0."""
    done = subprocess.run([*DEMO, "--once"], check=False, cwd=ROOT, capture_output=True, text=True, timeout=50)
    lines = [line.split() for line in done.stdout.splitlines()]
    figures = {words[0]: words[1:] for words in lines if words and words[0] in {"half_plus_two", "digits", "mlp"}}

    assert 0 == done.returncode, done.stderr
    assert {"half_plus_two", "digits", "mlp"} == set(figures)
    for requests, calls, mean, *_, wrong, lost in figures.values():
        assert 0 < int(calls.replace(",", "")) < int(requests.replace(",", ""))
        assert float(mean) > 1
        assert ("0", "0") == (wrong, lost)
    assert re.search(r"digits: (9\d\.\d\d) % .* through the proxy, \1 % when", done.stdout)
    assert re.search(r"Batching (pays|ought to pay) for mlp", done.stdout)
    assert re.search(r"It does not pay for (half_plus_two|digits)", done.stdout)  # both are next to nothing
    assert "Still serving" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_on_until_told_to_stop(number: signal.Signals) -> None:
    """What it says to try works; Ctrl-C and SIGTERM end it with 0, and the proxy with it."""
    with subprocess.Popen(DEMO, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as demo:
        assert demo.stdout is not None
        said = ""
        while "Ctrl-C ends it" not in said:
            line = demo.stdout.readline()
            assert line, said
            said += line
        url = re.search(r"http://\S+:predict", said)
        page = re.search(r"open (http://\S+)", said)
        assert url is not None
        assert page is not None
        with urllib.request.urlopen(url[0], data=b'{"instances": [1.0, 2.0, 5.0]}', timeout=10) as answer:
            predictions = json.load(answer)
        with urllib.request.urlopen(page[1], timeout=10) as answer:
            html = answer.read()
        demo.send_signal(number)
        status = demo.wait(20)

    assert {"predictions": [2.5, 3.0, 4.5]} == predictions
    assert b"<html" in html
    assert 0 == status
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(page[1], timeout=10)
