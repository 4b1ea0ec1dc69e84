"""The live page in a real browser: what a person sees after a few requests."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from batchproxy.core.overflow import OPENING
from tests.proxy import Proxy, running

CHROMIUM = [
    "chromium",
    "--headless",
    "--no-sandbox",  # as root, in CI
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--virtual-time-budget=2500",  # two looks at status.json, in the page's own time
    "--dump-dom",
]


def seen(proxy: Proxy, folder: Path) -> str:
    """The text of the page after its scripts have run."""
    command = [*CHROMIUM, f"--user-data-dir={folder}", f"{proxy.admin}/"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    body = re.sub(r"<(script|style)>.*?</\1>", "", done.stdout, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


@pytest.mark.slow
def test_the_page_shows_models_and_endpoints_as_they_are(tmp_path: Path) -> None:
    """Three good requests of two rows and a bad one: counts, batch size and endpoint are on the page."""
    with running({"half_plus_two": "onnx:batchproxy/demo/models/half_plus_two"}) as proxy:
        for _ in range(3):
            proxy.post("/v1/models/half_plus_two:predict", {"instances": [1.0, 2.0]})
        proxy.post("/v1/models/half_plus_two:predict", {"instances": ["no number"]})
        text = seen(proxy, tmp_path)
        batches = json.loads(proxy.get(f"{proxy.admin}/status.json")[1])["endpoints"][0]["learned"][0]["batches"]

    assert "batchproxy ready · version" in text
    model = re.search(r"half_plus_two half_plus_two 4 0 1 3 2\.0 \d+\.\d\d ms 0", text)
    assert model is not None, text
    endpoint = "onnx:batchproxy/demo/models/half_plus_two"
    assert f"{endpoint} half_plus_two up 0 of 2 0 0" in text
    assert 1 <= batches <= 3  # from one that took several times as long as those before nothing is learned
    learned = re.search(
        rf"{endpoint} 2\.0 2 / {OPENING} half_plus_two {batches} [\d.]+ ms [\d.]+ ms \d+ % [\d.]+\S \(1\.0 \S [\d.]+\)",
        text,
    )
    assert learned is not None, text
    assert "half_plus_two 100 % " in text.partition("Why batches left")[2]
