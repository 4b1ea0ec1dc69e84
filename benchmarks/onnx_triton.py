"""A real Triton as a process, each model in it several times: with and without its dynamic batching. No load here.

Its wheel carries no backend for ONNX; the models are run by onnxruntime in its Python backend (``onnx_triton_model``),
with the options that our own sessions have.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

from benchmarks.servers import HOST, Server, free_ports
from tests.servers.fixture import SHARED_MEMORY, Doors, triton

CAP = 128
"""Rows that a call may have, of every model: ``max_batch_size``."""

BATCHING: Mapping[str, str] = {
    "": "",
    "-default": "dynamic_batching { }",
    "-32": "dynamic_batching { preferred_batch_size: [ 32 ] max_queue_delay_microseconds: 2000 }",
    "-64": "dynamic_batching { preferred_batch_size: [ 64 ] max_queue_delay_microseconds: 5000 }",
}
"""What is appended to a model's name, and what its configuration says then: nothing is Triton's own default, which
batches nothing. The two with a delay are for half of 64 callers, and for all; no others were tried."""

MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory, which outlives a process that is killed
MODEL = Path(__file__).with_name("onnx_triton_model.py")


class Triton(Server):
    """Triton, which counts rows and calls itself, and has a process for each model."""

    def launch(self, line: list[str], environment: Mapping[str, str]) -> None:
        """Run its command."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                line,
                env=os.environ | dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _ready(self) -> bool:
        try:
            with closing(urllib.request.urlopen(f"http://{HOST}:{self.ports['rest']}/v2/health/ready", timeout=10)):
                return True
        except OSError:  # of which urllib's own errors are some
            return False

    def batches(self, model: str) -> tuple[float, float]:
        """(calls of a model, rows in them) since the start."""
        url = f"http://{HOST}:{self.ports['metrics']}/metrics"
        with closing(urllib.request.urlopen(url, timeout=10)) as answer:
            return read_batches(answer.read().decode(), model)

    def stop(self) -> None:
        """End it and its children, at once: it has nothing to lose."""
        if self._process is not None:
            with suppress(ProcessLookupError):  # it ended by itself, and its children with it
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for left in MEMORY.glob(SHARED_MEMORY.format(port=self.ports["rest"]) + "*"):
            left.unlink(missing_ok=True)


def read_batches(text: str, model: str) -> tuple[float, float]:
    """(calls of a model, rows in them) out of Triton's metrics; zeros where they are not there."""
    found = dict(
        re.findall(rf'^nv_inference_(exec_count|count){{model="{re.escape(model)}",[^}}]*}} (\S+)$', text, re.MULTILINE)
    )
    return float(found.get("exec_count", 0)), float(found.get("count", 0))


def start(models: Mapping[str, tuple[Path, tuple[int, ...], tuple[int, ...]]], threads: int, folder: Path) -> Triton:
    """Start Triton with each model once for every way of batching: ``mlp``, ``mlp-default``...

    Args:
        models: name to file, axes of a row of ``x``, and of ``y``.
        threads: of each onnxruntime session.
        folder: for its files.

    Raises:
        RuntimeError: its environment is not there; the text says how to make it.
    """
    home = folder / "triton"
    repository = home / "models"
    for name, (file, x, y) in models.items():
        for suffix, batching in BATCHING.items():
            version = repository / f"{name}{suffix}" / "1"
            version.mkdir(parents=True)
            shutil.copy(MODEL, version / "model.py")
            text = config(name + suffix, file, x, y, threads, batching)
            (version.parent / "config.pbtxt").write_text(text)
    rest, grpc, metrics = free_ports(3)
    server = Triton("triton", folder)
    server.ports = {"rest": rest, "grpc": grpc, "metrics": metrics}
    command = triton(home, Doors(rest, grpc, metrics), repository)
    server.launch(list(command.line), command.environment)
    return server


def config(name: str, file: Path, x: tuple[int, ...], y: tuple[int, ...], threads: int, batching: str) -> str:
    """A model's ``config.pbtxt``."""
    return (
        f'name: "{name}"\nbackend: "python"\nmax_batch_size: {CAP}\n'
        f'input [ {{ name: "x" data_type: TYPE_FP32 dims: {list(x)} }} ]\n'
        f'output [ {{ name: "y" data_type: TYPE_FP32 dims: {list(y)} }} ]\n'
        "instance_group [ { count: 1 kind: KIND_CPU } ]\n"
        f'parameters {{ key: "file" value: {{ string_value: "{file}" }} }}\n'
        f'parameters {{ key: "threads" value: {{ string_value: "{threads}" }} }}\n'
        f"{batching}\n"
    )
