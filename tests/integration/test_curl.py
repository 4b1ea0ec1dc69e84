"""What the pages show of curl: typed as it stands there, and answered so; and the same before TF Serving."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.packaging.pages import Block, blocks
from tests.packaging.repository import ROOT
from tests.proxy import Proxy, running, running_in_front_of
from tests.tfserving.fixture import running_server

MODEL = "half_plus_two"
FILE = ROOT / "batchproxy" / "demo" / "models" / MODEL
ADDRESS = "http://localhost:8501"
SHOWN = [block for block in blocks("sh") if ADDRESS in block.text]


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    """With the model of the README."""
    with running({MODEL: f"onnx:{FILE}"}) as one:
        yield one


def said(proxy: Proxy, script: str) -> str:
    """What a shell prints."""
    script = script.replace(ADDRESS, proxy.rest).replace("curl ", "curl -sS --max-time 30 ")
    return subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=True).stdout


def steps(block: Block) -> list[tuple[str, str]]:
    """The commands of a block that ask the proxy, each with what it prints; empty where the page does not show it."""
    found: list[tuple[str, str]] = []
    script = ""
    for line in block.text.splitlines():
        if line.startswith("# ") and found:
            found[-1] = found[-1][0], line.removeprefix("# ")
        elif "curl " in line:
            found.append((f"{script}{line}", ""))
            script = ""
        elif "=" in line.split(" ")[0]:  # a variable
            script += f"{line}\n"
    return found


@pytest.mark.parametrize("block", SHOWN, ids=str)
def test_what_a_page_shows(proxy: Proxy, block: Block) -> None:
    """Each command is answered, and where the page has the answer, so."""
    for script, answer in steps(block):
        printed = said(proxy, script)

        assert "error" in answer or "error" not in printed
        assert not answer or answer == printed


def test_pages_show_both_protocols() -> None:
    """Else the test above were empty."""
    commands = [script for block in SHOWN for script, _ in steps(block)]

    assert any("/v1/" in command for command in commands)
    assert 6 == sum("/v2/" in command for command in commands)


def test_the_same_commands_before_tf_serving() -> None:
    """The Open Inference Protocol by hand, answered by a TensorFlow Serving, through either of its doors."""
    (block,) = (block for block in SHOWN if "/v2/" in block.text)
    infer, buffers = (script for script, _ in steps(block) if f"{MODEL}/infer" in script)
    with running_server(models=[MODEL]) as server:
        for door in ("grpc", "rest"):
            with running_in_front_of([server], doors=[door]) as before:
                numbers = [json.loads(said(before, script))["outputs"][0]["data"] for script in (infer, infer, buffers)]

                assert [[2.5, 3.0, 4.5], [2.5, 3.0, 4.5], [3.0]] == numbers
