"""Real servers of the Open Inference Protocol as processes, each in its own environment (``make servers``). No tests.

Nothing of them is imported here. They listen on free loopback ports, are waited for by their own readiness routes, and
end with their children.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.servers import mlp
from tests.servers.zoo import GATE, MLP_FILE, MODELS, TOGETHER, WINDOW_S, WITHOUT, ZOO, Model, Tensor

ROOT = Path(__file__).parents[2]

PORTS = range(30_000, 32_768)
"""Which Linux gives to no connection and no other test: a server binds its ports seconds after they were found free."""

LOOK_S = 0.05
"""How often a server that starts is asked whether it is ready."""

MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux has it (shm_overview(7))
SHARED_MEMORY = "triton-{port}-"
"""What the names of a Triton's shared memory begin with: two on one machine would take each other's."""

CRASH = b"boost::interprocess::lock_exception"
"""What a Triton says that aborts while its Python models load: now and then one does on a busy machine
(triton-inference-server/server#8882). Then it is started again."""

STARTS = 3
"""How often it may be started in all."""

_TRITON_TYPES = {"BYTES": "STRING"}
"""Where a Triton configuration has another word than the protocol."""

_TRITON_BATCHER = (
    f"dynamic_batching {{ preferred_batch_size: [ {TOGETHER} ] max_queue_delay_microseconds: {int(1e6 * WINDOW_S)}\n"
    "  default_queue_policy {\n"
    "    timeout_action: REJECT allow_timeout_override: true default_timeout_microseconds: 300000000 } }\n"
)
"""Callers may say how long they wait, which is not its default; only where there is a longer limit is theirs heeded."""


class Doors(NamedTuple):
    """The ports that a server is to listen on; ``metrics`` where it wants a third."""

    rest: int
    grpc: int
    metrics: int


class Command(NamedTuple):
    """How a server is started: its command line, and what its environment has beside ours."""

    line: Sequence[str]
    environment: Mapping[str, str]


class RealServer:
    """A running server.

    Args:
        kind: ``triton``, ``mlserver`` or ``kserve``.
        doors: where it listens.
        start: starts it, anew each time.
        log: where it writes.

    Attributes:
        gate: the pipe at which calls of ``zoo.COMPANY`` may wait.
        kind: ``triton``, ``mlserver`` or ``kserve``.
        metrics: where Prometheus asks those that have a port for it.
        rest: ``127.0.0.1:PORT``.
        grpc: likewise.
        process: whose group it is.
    """

    def __init__(self, kind: str, doors: Doors, start: Callable[[], subprocess.Popen[bytes]], log: Path) -> None:
        self.kind = kind
        self.rest = f"127.0.0.1:{doors.rest}"
        self.grpc = f"127.0.0.1:{doors.grpc}"
        self.metrics = f"127.0.0.1:{doors.metrics}"
        self.process = start()
        self.gate = log.with_name("gate")
        self._log = log
        self._start = start
        self._starts = 1

    def wait(self, models: Sequence[str]) -> None:
        """Returns when it is ready, and each of the models.

        Raises:
            RuntimeError: it ended before that; with what it wrote.
        """
        for path in ("/v2/health/ready", *(f"/v2/models/{name}/ready" for name in models)):
            while not self._says_yes(path):
                try:
                    status = self.process.wait(LOOK_S)
                except subprocess.TimeoutExpired:
                    continue
                said = self._log.read_bytes()
                if CRASH not in said or self._starts == STARTS:
                    raise RuntimeError(f"{self.kind} ended with {status} before it was ready:\n{said.decode()}")
                self.stop()  # its children are left
                self.process = self._start()
                self._starts += 1

    def _says_yes(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.rest}{path}", timeout=10) as answer:
                return int(answer.status) == 200
        except OSError:  # of which urllib's own errors are some
            return False

    def stop(self) -> None:
        """End it and its children, at once: it has nothing to lose."""
        with suppress(ProcessLookupError):  # it ended by itself, and its children with it
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for left in MEMORY.glob(SHARED_MEMORY.format(port=self.rest.rpartition(":")[2]) + "*"):
            left.unlink(missing_ok=True)


@contextmanager
def running_servers(kinds: Sequence[str], models: Sequence[str] = tuple(MODELS)) -> Iterator[dict[str, RealServer]]:
    """Servers by kind, started together, for as long as the block lasts.

    Args:
        kinds: keys of ``KINDS``.
        models: names of ``zoo.ZOO``, but for those of ``zoo.WITHOUT``.
    """
    served = {kind: [name for name in models if name not in WITHOUT.get(kind, ())] for kind in kinds}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = folder / "mlp.onnx"
        file.write_bytes(mlp.make())
        servers = {}
        for kind, doors in zip(kinds, _free_doors(len(kinds)), strict=True):
            home = folder / kind
            home.mkdir()
            os.mkfifo(home / "gate")
            command = KINDS[kind](home, doors, served[kind])
            more = {"PYTHONPATH": str(ROOT), MLP_FILE: str(file), GATE: str(home / "gate")}
            servers[kind] = RealServer(kind, doors, partial(_start, command, home, more), home / "log")
            stack.callback(servers[kind].stop)
        for server in servers.values():
            server.wait(served[server.kind])
        yield servers


def _start(command: Command, home: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with (home / "log").open("wb") as log:
        return subprocess.Popen(
            command.line,
            cwd=home,
            env={**os.environ, **environment, **command.environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def python_of(kind: str) -> Path:
    """The interpreter of a server's environment.

    Raises:
        RuntimeError: there is none.
    """
    python = ROOT / f".venv-{kind}" / "bin" / "python"
    if not python.exists():
        raise RuntimeError(f"{kind} cannot be started: there is no {python}; make it with: make servers")
    return python


def _triton(home: Path, doors: Doors, models: Sequence[str]) -> Command:
    repository = home / "models"
    for name in models:
        version = repository / name / "1"
        version.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("triton_model.py"), version / "model.py")
        (repository / name / "config.pbtxt").write_text(_triton_config(name, ZOO[name]))
    command = triton(home, doors, repository)
    beside_the_stub = home / "backends" / "python" / "tests" / "servers"  # it looks here, and at no PYTHONPATH
    beside_the_stub.mkdir(parents=True)
    for name in ("zoo.py", "dlpack.py"):
        shutil.copy(Path(__file__).with_name(name), beside_the_stub)
    return command


def triton(home: Path, doors: Doors, repository: Path) -> Command:
    """Triton's server from the wheel ``nvidia-pytriton``, with its Python backend and the stub for our Python.

    Args:
        home: folder for the backend.
        doors: where it listens.
        repository: of its models.
    """
    python = python_of("triton")
    site = next(python.parents[1].glob("lib/python*/site-packages"))
    there = site / "pytriton" / "tritonserver"
    backend = home / "backends" / "python"
    shutil.copytree(there / "backends" / "python", backend)
    stub = there / "python_backend_stubs" / site.parent.name.removeprefix("python") / "triton_python_backend_stub"
    shutil.copy(stub, backend)
    line = [
        str(there / "bin" / "tritonserver"),
        *(f"--model-repository={repository}", f"--backend-directory={home / 'backends'}"),
        *(f"--http-port={doors.rest}", f"--grpc-port={doors.grpc}", f"--metrics-port={doors.metrics}"),
        *("--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--metrics-address=127.0.0.1"),
        *("--model-control-mode=none", "--allow-gpu-metrics=false", "--http-thread-count=2"),
        f"--backend-config=python,shm-region-prefix-name={SHARED_MEMORY.format(port=doors.rest)}",
    ]
    libraries = f"{site / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}"
    environment = {
        "LD_LIBRARY_PATH": libraries,
        "PATH": f"{python.parent}:{os.environ['PATH']}",  # by which the stub finds its packages
        "OMP_NUM_THREADS": "1",
    }
    return Command(line, environment)


def _triton_config(name: str, model: Model) -> str:
    def listed(tensors: Sequence[Tensor]) -> str:
        entries = (
            f'{{ name: "{spec.name}" data_type: TYPE_{_TRITON_TYPES.get(spec.datatype, spec.datatype)} '
            f"dims: {list(spec.row) if model.cap else [model.rows or -1, *spec.row]} }}"
            for spec in tensors
        )
        return f"[ {', '.join(entries)} ]"

    return (
        f'name: "{name}"\nbackend: "python"\nmax_batch_size: {model.cap}\n'
        f"input {listed(model.inputs)}\noutput {listed(model.outputs)}\n"
        "instance_group [ { count: 1 kind: KIND_CPU } ]\n"
        + (_TRITON_BATCHER if model.batched else "")
        + ("model_transaction_policy { decoupled: true }\n" if model.decoupled else "")
    )


def _mlserver(home: Path, doors: Doors, models: Sequence[str]) -> Command:
    settings = {
        "host": "127.0.0.1",
        "http_port": doors.rest,
        "grpc_port": doors.grpc,
        "metrics_port": doors.metrics,
        "parallel_workers": 0,
        "debug": False,
    }
    (home / "settings.json").write_text(json.dumps(settings))
    for name in models:
        described: dict[str, object] = {
            "name": name,
            "implementation": "tests.servers.mlserver_model.ZooModel",
            "inputs": [_described(spec) for spec in ZOO[name].inputs],
            "outputs": [_described(spec) for spec in ZOO[name].outputs],
        }
        if ZOO[name].batched:
            described |= {"max_batch_size": TOGETHER, "max_batch_time": WINDOW_S}
        (home / name).mkdir()
        (home / name / "model-settings.json").write_text(json.dumps(described))
    return Command([str(python_of("mlserver").with_name("mlserver")), "start", str(home)], {})


def _kserve(home: Path, doors: Doors, models: Sequence[str]) -> Command:
    ports = [str(doors.rest), str(doors.grpc)]
    return Command([str(python_of("kserve")), "-m", "tests.servers.kserve_server", *ports, *models], {})


def _described(spec: Tensor) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": [-1, *spec.row]}


KINDS: dict[str, Callable[[Path, Doors, Sequence[str]], Command]] = {
    "triton": _triton,
    "mlserver": _mlserver,
    "kserve": _kserve,
}
"""A server's name, and what makes its command."""


def _free_doors(count: int) -> list[Doors]:
    """Ports that are free now, for so many servers."""
    ports: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as place, suppress(OSError):
            place.bind(("127.0.0.1", port))
            ports.append(port)
        if len(ports) == 3 * count:
            break
    return [Doors(*ports[3 * at : 3 * at + 3]) for at in range(count)]
