"""The configuration: a typed value (`tree`), and how files and flags become one (`reading`).

``configs/annotated.yaml`` says what each key means. No object of the server is made here.
"""

from __future__ import annotations

# the value
from batchproxy.config.onnx import OnnxConfig

# from files and flags
from batchproxy.config.reading import checked, load, read, require_models
from batchproxy.config.tree import (
    EVERY_OTHER,
    Bytes,
    Config,
    Count,
    Delay,
    Doors,
    Listen,
    ModelConfig,
    Name,
    PoolConfig,
    Port,
    Seconds,
    Tls,
    name_problem,
)

# addresses
from batchproxy.endpoints import parse_address

__all__ = [
    "EVERY_OTHER",
    "Bytes",
    "Config",
    "Count",
    "Delay",
    "Doors",
    "Listen",
    "ModelConfig",
    "Name",
    "OnnxConfig",
    "PoolConfig",
    "Port",
    "Seconds",
    "Tls",
    "checked",
    "load",
    "name_problem",
    "parse_address",
    "read",
    "require_models",
]
