"""Endpoint strings of the configuration: what they may say. Opening what they name is `batchproxy.backends`' business.

``onnx:PATH`` is a model run by onnxruntime in this process; ``python:MODULE:FUNCTION`` a function of an
importable module. A path or a module is looked for from the current directory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from batchproxy.core.errors import ConfigError
from batchproxy.documents import nearest

KNOWN = "onnx:PATH, python:MODULE:FUNCTION"
SCHEMES = ("onnx", "python")
NOT_YET = frozenset(prefix + scheme for prefix in ("", "v2+") for scheme in ("grpc", "grpcs", "http", "https", "unix"))
"""Schemes of model servers in other processes: planned, so that their error is another than that of a typo."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True, slots=True)
class OnnxAddress:
    """``onnx:PATH``: a file, or a folder that holds ``model.onnx`` or version folders with one."""

    path: str

    def __str__(self) -> str:
        return f"onnx:{self.path}"


@dataclass(frozen=True, slots=True)
class PythonAddress:
    """``python:MODULE:FUNCTION``: a function, or a mapping of signature name to function; MODULE may be dotted."""

    module: str
    function: str

    def __str__(self) -> str:
        return f"python:{self.module}:{self.function}"


Address = OnnxAddress | PythonAddress


def parse(text: str) -> Address:
    """Read one endpoint string; the thing it names need not exist.

    Raises:
        ConfigError: the scheme is unknown or what follows it has the wrong form.

    Example:
        >>> parse("python:package.module:predict")
        PythonAddress(module='package.module', function='predict')
    """
    match = _SCHEME.fullmatch(text)
    if match is None:
        raise ConfigError(f"endpoint {text!r} has no scheme; known: {KNOWN}. For a file or folder: 'onnx:{text}'")
    scheme, rest = match[1], match[2]
    if scheme == "onnx":
        if not rest or rest.startswith("//"):
            raise ConfigError(
                f"endpoint {text!r}: write onnx:PATH, such as 'onnx:models/digits' or 'onnx:/models/digits'"
            )
        return OnnxAddress(rest)
    if scheme == "python":
        module, _, function = rest.partition(":")
        if not (_DOTTED.fullmatch(module) and function.isidentifier()):
            raise ConfigError(f"endpoint {text!r}: write python:MODULE:FUNCTION, such as 'python:my_models:predict'")
        return PythonAddress(module, function)
    if scheme in NOT_YET:
        raise ConfigError(f"endpoint {text!r}: {scheme} is not supported yet; known now: {KNOWN}")
    raise ConfigError(f"endpoint {text!r}: unknown scheme {scheme!r}; {nearest(scheme, SCHEMES, f'known: {KNOWN}')}")
