"""batchproxy: single inference requests in, batches out, every answer as if the caller had asked alone.

Public names are imported when they are first used: a server has no use for the library's clients, nor a command line
for either.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# -- versions -------------------------------------------------------------------------------------
from batchproxy._version import __version__

if TYPE_CHECKING:  # what type checkers and editors read; the table below says the same
    # -- models as Python functions ---------------------------------------------------------------
    from batchproxy.backends.callable import signature

    # -- batching in your own process -------------------------------------------------------------
    from batchproxy.batcher import Batcher
    from batchproxy.client import Client, Prediction
    from batchproxy.codecs.tfs_grpc import State, VersionStatus

    # -- what can go wrong ------------------------------------------------------------------------
    from batchproxy.core.errors import (
        BackendError,
        BackendProtocolError,
        BackendRejected,
        BackendUnavailable,
        BatchProxyError,
        Code,
        ConfigError,
        DeadlineExceeded,
        Draining,
        NoEndpoint,
        QueueFull,
        RequestError,
        ShapeMismatch,
        Unavailable,
    )

    # -- what a model says of itself --------------------------------------------------------------
    from batchproxy.core.shapes import ModelInfo, Signature, TensorSpec

__all__ = [
    "BackendError",
    "BackendProtocolError",
    "BackendRejected",
    "BackendUnavailable",
    "BatchProxyError",
    "Batcher",
    "Client",
    "Code",
    "ConfigError",
    "DeadlineExceeded",
    "Draining",
    "ModelInfo",
    "NoEndpoint",
    "Prediction",
    "QueueFull",
    "RequestError",
    "ShapeMismatch",
    "Signature",
    "State",
    "TensorSpec",
    "Unavailable",
    "VersionStatus",
    "__version__",
    "signature",
]

_ERRORS = "batchproxy.core.errors"

_PLACES = {
    "signature": "batchproxy.backends.callable",
    "Batcher": "batchproxy.batcher",
    "Client": "batchproxy.client",
    "Prediction": "batchproxy.client",
    "State": "batchproxy.codecs.tfs_grpc",
    "VersionStatus": "batchproxy.codecs.tfs_grpc",
    "ModelInfo": "batchproxy.core.shapes",
    "Signature": "batchproxy.core.shapes",
    "TensorSpec": "batchproxy.core.shapes",
}
"""Public name to the module that has it; all others are errors."""

if not TYPE_CHECKING:  # a type checker that saw this would take any name for one of ours

    def __getattr__(name: str) -> Any:
        """Import a public name, the first time that it is asked for."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_PLACES.get(name, _ERRORS)), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
