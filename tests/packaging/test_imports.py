"""Import rules: the table holds for every file, and a planted violation of each rule is found."""

from __future__ import annotations

import pytest

from tests.packaging.import_rules import ONLY, ROOMS, violations
from tests.packaging.repository import PACKAGE, ROOT, sources


def _faults(module: str, source: str) -> list[str]:
    return list(violations(module, source))


@pytest.mark.parametrize("path", sources(), ids=str)
def test_file_keeps_to_its_room(path: object) -> None:
    """Every file of the package imports, constructs and spawns only what its room may."""
    file = ROOT / str(path)
    parts = file.relative_to(PACKAGE).with_suffix("").parts

    assert [] == _faults(".".join(parts), file.read_text())


def test_tables_agree() -> None:
    """A package that only some rooms may import is on the list of exactly those rooms."""
    users = {package: {room for room, rules in ROOMS.items() if package in rules.packages} for package in ONLY}

    assert ONLY == users


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("core.lane", "import asyncio", "core is pure"),
        ("core.lane", "def late():\n    from time import monotonic", "core is pure"),
        ("core.lane", "if TYPE_CHECKING:\n    import logging", "core is pure"),
        ("codecs.tfs_rest", "import random", "codecs is pure"),
        ("wire.http1", "from socket import socket", "wire is pure"),
        ("core.lane", "import msgspec", "core may import numpy"),
        ("core.lane", "from batchproxy.codecs import tfs_grpc", "core may import nothing of ours"),
        ("codecs.tfs_rest", "from batchproxy.engine import Engine", "imports batchproxy.engine.Engine"),
        ("codecs.tfs_rest", "from batchproxy import engine", "imports batchproxy.engine"),
        ("codecs.tfs_rest", "import batchproxy", "imports batchproxy;"),
        ("wire.http1", "import batchproxy.core.request", "wire may import nothing of ours"),
        ("frontends.routes", "from batchproxy.backends.base import Backend", "imports batchproxy.backends.base"),
        ("backends.http", "from batchproxy.frontends import call", "imports batchproxy.frontends.call"),
        ("engine", "from batchproxy.backends.onnx import OnnxBackend", "imports batchproxy.backends.onnx"),
        ("client", "from batchproxy.app import run", "imports batchproxy.app.run"),
        ("client", "from batchproxy.frontends import routes", "imports batchproxy.frontends.routes"),
        ("config", "from batchproxy.core.scheduler import Scheduler", "imports batchproxy.core.scheduler"),
        ("core.lane", "from ..engine import Engine", "imports ..engine.Engine"),
        ("frontends.admin", "import prometheus_client", "only metrics may"),
        ("backends.callable", "import onnxruntime", "only backends.onnx, demo may"),
        ("backends.callable", "importlib.import_module('onnxruntime')", "only backends.onnx, demo may"),
        ("engine", "import onnx", "only demo, demo.export_models may"),
        ("engine", "import aiohttp", "the standard library only"),
        ("frontends.admin", "from aiohttp import web", "frontends may import msgspec"),
        ("backends.grpc_wire", "import grpc", "the standard library only"),
        ("engine", "asyncio.create_task(work())", "makes a task with create_task"),
        ("frontends.call", "loop.create_task(work())", "makes a task with create_task"),
        ("frontends.call", "ensure_future(work())", "makes a task with ensure_future"),
        ("frontends.call", "async with asyncio.TaskGroup(): pass", "makes a task with TaskGroup"),
        ("frontends.call", "engine = Engine('a')", "constructs Engine"),
        ("engine", "backends.onnx.OnnxBackend(path)", "constructs OnnxBackend"),
        ("frontends.admin", "RestListener(routes)", "constructs RestListener"),
        ("kitchen", "", "no room"),
    ],
)
def test_planted_violation_is_found(module: str, source: str, found: str) -> None:
    """Each rule, broken once, gives exactly one finding that names the rule."""
    faults = _faults(module, source)

    assert 1 == len(faults)
    assert found in faults[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tasks", "loop.create_task(work())"),
        ("app", "Engine('a'); RestListener(routes)"),
        ("client", "CallableBackend(function)"),
        ("core.lane", "import numpy as np\nfrom batchproxy.core.request import Entry"),
        ("engine", "from batchproxy.backends.base import Backend\nimport asyncio, time"),
        ("backends.onnx", "import onnxruntime"),
    ],
)
def test_allowed_is_not_found(module: str, source: str) -> None:
    """What the rules allow gives no finding."""
    assert [] == _faults(module, source)
