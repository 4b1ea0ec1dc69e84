"""batchproxy: single inference requests in, batches out, every answer as if the caller had asked alone."""

# -- versions -------------------------------------------------------------------------------------
from batchproxy._version import __version__

# -- models as Python functions -------------------------------------------------------------------
from batchproxy.backends.callable import signature

# -- batching in your own process -----------------------------------------------------------------
from batchproxy.client import Batcher

# -- what can go wrong ----------------------------------------------------------------------------
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
    QueueFull,
    RequestError,
    Unavailable,
)

# -- what a model says of itself ------------------------------------------------------------------
from batchproxy.core.shapes import Signature, TensorSpec

__all__ = [
    "BackendError",
    "BackendProtocolError",
    "BackendRejected",
    "BackendUnavailable",
    "BatchProxyError",
    "Batcher",
    "Code",
    "ConfigError",
    "DeadlineExceeded",
    "Draining",
    "QueueFull",
    "RequestError",
    "Signature",
    "TensorSpec",
    "Unavailable",
    "__version__",
    "signature",
]
