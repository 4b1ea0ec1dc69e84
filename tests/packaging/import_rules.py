"""Who may import whom, as a table, and the reading of a source file that checks it. Imports nothing of batchproxy.

The table is the architecture's drawing. A module belongs to the room with the longest name that it begins with;
a module without a room is a fault, so that a new one is placed on purpose.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass

PURE_BANS = frozenset({"asyncio", "aiohttp", "grpc", "socket", "time", "random", "logging", "threading"})
"""What waits, sends, logs, draws lots or reads a clock."""


@dataclass(frozen=True)
class Room:
    """What the modules of one room may use.

    Args:
        rooms: modules of ours, by prefix, beside the room itself.
        packages: packages of others, by prefix.
        pure: whether ``PURE_BANS`` holds.
        seeded: whether it may import ``random.Random`` all the same: lots that a seed decides.
    """

    rooms: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    pure: bool = False
    seeded: bool = False


ROOMS = {
    "core": Room(packages=("numpy",), pure=True),
    "protos": Room(packages=("google.protobuf",), pure=True),
    "codecs": Room(
        rooms=("core", "protos"), packages=("google.protobuf", "ml_dtypes", "msgspec", "numpy", "orjson", "simdjson"),
        pure=True,
    ),
    "wire": Room(packages=("hpack", "httptools"), pure=True),
    # drives the core in virtual time; nothing but the command, the benchmarks and the tests imports it
    "simulation": Room(rooms=("core",), packages=("numpy",), pure=True, seeded=True),
    "tasks": Room(),
    "events": Room(pure=True),
    "log": Room(rooms=("events",)),
    "_version": Room(),
    "observe": Room(rooms=("core",)),
    "answering": Room(rooms=("core",)),
    "handover": Room(rooms=("core.errors",)),
    "fleet": Room(rooms=("core", "backends.base", "tasks")),
    "canary": Room(rooms=("core", "fleet", "tasks")),
    "lending": Room(rooms=("core", "backends.base", "fleet")),
    "relays": Room(rooms=("core", "backends.base", "observe")),
    "engine": Room(
        rooms=("core", "answering", "backends.base", "canary", "fleet", "lending", "log", "observe", "relays", "tasks")
    ),
    "histograms": Room(rooms=("core.errors",), packages=("numpy",)),
    "metrics": Room(rooms=("core", "engine", "histograms", "observe"), packages=("prometheus_client",)),
    "status": Room(rooms=("core", "engine", "metrics")),
    "state": Room(rooms=("core", "engine", "log"), packages=("orjson",)),
    "backends": Room(
        rooms=("core", "codecs", "endpoints", "tasks", "wire.budget", "wire.unpack"), packages=("numpy",)
    ),
    "backends.connecting": Room(),
    "backends.grpc": Room(
        rooms=("core", "tasks", "wire.unpack", "backends.grpc_terms", "backends.tls"), packages=("grpc",)
    ),
    "backends.grpc_terms": Room(rooms=("core",)),
    "backends.grpc_wire": Room(
        rooms=(
            "core", "wire", "backends.base", "backends.grpc_terms", "backends.grpc_wire_connections",
            "backends.grpc_wire_streams", "backends.tls", "tasks",
        )
    ),
    "backends.grpc_wire_streams": Room(rooms=("core", "wire", "backends.grpc_wire_connections", "tasks")),
    "backends.grpc_wire_connections": Room(rooms=("backends.connecting", "tasks", "wire")),
    "backends.http": Room(rooms=("core", "codecs", "wire", "backends.http_connections", "backends.tls")),
    "backends.http_connections": Room(rooms=("backends.connecting", "wire")),
    "backends.tls": Room(rooms=("core.errors",)),
    "backends.onnx_versions": Room(rooms=("backends", "core", "codecs"), packages=("numpy",)),
    "backends.onnx": Room(rooms=("backends", "core", "codecs"), packages=("ml_dtypes", "numpy", "onnxruntime")),
    "backends.unhurried": Room(rooms=("core", "tasks", "wire.unpack", "backends.base", "backends.grpc_wire")),
    "catalogue": Room(rooms=("core", "tasks")),
    "frontends": Room(
        rooms=("core", "codecs", "wire", "engine", "catalogue", "observe", "tasks", "_version"),
        packages=("msgspec", "multidict", "numpy", "orjson"),
    ),
    "discovery": Room(rooms=("core.errors", "endpoints", "log"), packages=("dns",)),
    "documents": Room(rooms=("core.errors",), packages=("yaml",)),
    "endpoints": Room(rooms=("core.errors", "documents")),
    "config": Room(rooms=("core.errors", "core.policy", "documents", "endpoints"), packages=("msgspec",)),
    "batching_parameters": Room(
        rooms=("core.errors", "core.policy", "config", "documents", "protos"), packages=("google.protobuf", "msgspec")
    ),
    "flags": Room(rooms=("core.errors", "core.policy", "config", "batching_parameters", "documents", "endpoints")),
    # fakes for users and for our own tests
    "testing": Room(rooms=("core", "backends.base", "engine", "observe"), packages=("numpy",)),
    "batcher": Room(rooms=("core", "backends", "engine"), packages=("numpy",)),
    "client": Room(rooms=("core", "codecs", "backends", "catalogue", "endpoints", "engine", "tasks")),
    "app": Room(
        rooms=(
            "core", "wire", "frontends", "engine", "events", "handover", "log", "metrics", "observe", "pools", "reload",
            "state", "status", "tasks", "config", "documents", "endpoints", "__version__",
        ),
        packages=("uvloop",),
    ),
    "pools": Room(
        rooms=(
            "catalogue", "config", "engine", "frontends.directory", "members", "metrics", "observe", "opening", "tasks",
            "versions", "wire.budget",
        )
    ),
    "opening": Room(
        rooms=(
            "core", "backends", "catalogue", "codecs.tfs_grpc", "codecs.tfs_habits", "config", "endpoints", "engine",
            "frontends.directory", "frontends.elsewhere", "frontends.remote", "log", "members", "observe", "placement",
            "tasks", "versions", "wire.budget",
        ),
        packages=("msgspec",),
    ),
    "placement": Room(
        rooms=("core", "backends", "codecs.tfs_grpc", "engine"),
    ),
    "reload": Room(rooms=("config", "core.errors", "documents"), packages=("msgspec",)),
    "members": Room(rooms=("core", "backends", "discovery", "endpoints", "engine", "tasks")),
    "versions": Room(
        rooms=(
            "core", "backends.onnx", "backends.onnx_versions", "codecs.tfs_grpc", "engine", "frontends.directory",
            "log",
        )
    ),
    "cli": Room(
        rooms=(
            "core", "app", "backends", "config", "flags", "batching_parameters", "discovery", "documents", "endpoints",
            "demo", "simulation", "__version__",
        ),
        packages=("msgspec",),
    ),
    # a caller and its own judge: it calls the models directly, too, to compare
    "demo": Room(
        rooms=("core", "app", "backends", "config", "codecs", "protos", "tasks"),
        packages=("google.protobuf", "grpc", "numpy", "onnx", "onnxruntime", "orjson", "uvloop", "yaml"),
    ),
    # run by hand, once: what it makes is committed
    "demo.export_models": Room(rooms=("core", "demo"), packages=("numpy", "onnx", "skl2onnx", "sklearn")),
    "__main__": Room(rooms=("cli",)),
    "__init__": Room(rooms=("_version", "batcher", "client", "codecs.tfs_grpc", "core", "backends.callable")),
}  # fmt: skip

ONLY = {
    "prometheus_client": {"metrics"},
    "onnxruntime": {"backends.onnx", "demo"},  # the demo compares with the model called directly
    "onnx": {"demo", "demo.export_models"},  # writes the models
}
"""Packages that only these rooms may import: both tables say so, and must go on to agree."""

BUILDERS = ("app", "pools", "opening", "batcher", "client", "cli", "demo", "testing", "backends.__init__")
"""Who constructs things; ``backends.__init__`` is the registry that opens what an endpoint names."""

BUILT = {
    "Engine": ("engine",),
    "Scheduler": ("engine", "testing", "simulation.world"),
    "Directory": (),
    "OnnxBackend": ("backends.onnx_versions",),
}
"""What they construct, and who may beside them: ``engine.build_engine`` is what app and client both call."""

BUILT_SUFFIXES = ("Backend", "Listener", "Routes")
"""As above, by the last word of the name."""

TASK_MAKERS = frozenset({"create_task", "ensure_future", "TaskGroup"})


def room_of(module: str) -> str | None:
    """The room with the longest name that ``module`` begins with.

    >>> room_of("backends.onnx"), room_of("backends.base"), room_of("kitchen")
    ('backends.onnx', 'backends', None)
    """
    fitting = [room for room in ROOMS if _within(module, room)]
    return max(fitting, key=len, default=None)


def violations(module: str, source: str) -> Iterator[str]:
    """What a source file does that its room may not.

    Args:
        module: its dotted name without the leading ``batchproxy.``.
        source: its text.
    """
    room = room_of(module)
    if room is None:
        yield f"{module}: no room in tests/packaging/import_rules.py; add it where it belongs in the drawing"
        return
    tree = ast.parse(source)
    for line, target in _imports(tree):
        if why := _import_fault(room, target):
            yield f"{module}:{line}: {why}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = _called(node)
            if name in TASK_MAKERS and module != "tasks":
                yield f"{module}:{node.lineno}: makes a task with {name}; only batchproxy.tasks does"
            builders = (*BUILDERS, *BUILT.get(name, ()))
            if _is_built(name) and not any(_within(module, builder) for builder in builders):
                yield f"{module}:{node.lineno}: constructs {name}; only {', '.join(builders)} do"


def _is_built(name: str) -> bool:
    return name in BUILT or (name.endswith(BUILT_SUFFIXES) and name not in BUILT_SUFFIXES)


def _import_fault(room: str, target: str) -> str | None:
    rules = ROOMS[room]
    top = target.partition(".")[0]
    if rules.pure and top in PURE_BANS and not (rules.seeded and target == "random.Random"):
        return f"imports {top}, and {room} is pure"
    if top == "batchproxy":
        inner = target.removeprefix("batchproxy").removeprefix(".")
        if any(_within(inner, allowed) for allowed in (room, *rules.rooms)):
            return None
        return f"imports {target}; {room} may import {', '.join(rules.rooms) or 'nothing of ours'}"
    if top in sys.stdlib_module_names:
        return None
    if room not in ONLY.get(top, {room}):
        return f"imports {top}; only {', '.join(sorted(ONLY[top]))} may"
    if any(_within(target, allowed) for allowed in rules.packages):
        return None
    return f"imports {target}; {room} may import {', '.join(rules.packages) or 'the standard library only'}"


def _imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            parent = "." * node.level + (node.module or "")
            for alias in node.names:
                yield node.lineno, f"{parent}.{alias.name}"
        elif isinstance(node, ast.Call) and _called(node) == "import_module":
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value


def _called(node: ast.Call) -> str:
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")
