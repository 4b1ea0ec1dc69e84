"""batchproxy: single inference requests in, batches out, every answer as if the caller had asked alone."""

# -- versions -------------------------------------------------------------------------------------
from batchproxy._version import __version__

# -- models as Python functions -------------------------------------------------------------------
from batchproxy.backends.callable import signature

# -- batching in your own process -----------------------------------------------------------------
from batchproxy.batcher import Batcher
from batchproxy.client import Client, Prediction
from batchproxy.codecs.tfs_grpc import State, VersionStatus

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
    NoEndpoint,
    QueueFull,
    RequestError,
    ShapeMismatch,
    Unavailable,
)

# -- what a model says of itself ------------------------------------------------------------------
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
