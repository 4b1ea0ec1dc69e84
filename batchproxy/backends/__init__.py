"""Where models run, by URL scheme. This module only finds and opens them; each transport has its own file."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Mapping
from importlib import import_module

from batchproxy.backends.base import Backend, Embedded, Remote
from batchproxy.backends.callable import CallableBackend
from batchproxy.backends.onnx import OnnxBackend
from batchproxy.core.errors import ConfigError

__all__ = ["BACKENDS", "Backend", "CallableBackend", "Embedded", "OnnxBackend", "Remote", "open_backend"]


def open_backend(url: str) -> Embedded:
    """The backend that ``url`` names, ready to be called.

    Args:
        url: ``onnx:PATH`` for a model file or folder (see ``OnnxBackend``), or ``python:MODULE:NAME``, where
            NAME is a function or a mapping of signature name to function (see ``CallableBackend``).

    Raises:
        ConfigError: what is wrong with the URL or with what it names, and what would be right.

    Example:
        >>> open_backend("python:numpy:positive").version
        1
    """
    scheme, colon, rest = url.partition(":")
    opener = BACKENDS.get(scheme)
    if not colon or opener is None:
        known = ", ".join(f"{name}:..." for name in BACKENDS)
        raise ConfigError(f"{url!r}: unknown scheme {scheme!r}; a model's URL begins with one of: {known}")
    if not rest:
        raise ConfigError(f"{url!r} ends after the scheme; write {USAGE[scheme]}")
    return opener(rest)


def _open_python(target: str) -> Embedded:
    module_name, colon, name = target.partition(":")
    if not (colon and module_name and name):
        raise ConfigError(f"'python:{target}' names no function; write {USAGE['python']}")
    if not {"", "."} & set(sys.path):
        sys.path.insert(0, "")  # the folder we were started in, as `python -m` would have it
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise ConfigError(
                f"'python:{target}': there is no module {error.name!r}; "
                "start batchproxy in its folder, or put that folder on PYTHONPATH"
            ) from error
        raise ConfigError(f"'python:{target}': {module_name!r} needs {error.name!r}, which is not installed") from error
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"'python:{target}': importing {module_name!r} failed with {type(error).__name__}: {error}; "
            f"see python -c 'import {module_name}'"
        ) from error
    value = getattr(module, name, None)
    if value is None:
        raise ConfigError(f"'python:{target}': module {module_name!r} ({module.__file__}) has no {name!r} in it")
    functions = value.values() if isinstance(value, Mapping) else [value]
    # `callable` alone would be this package's module of that name
    if not functions or not all(builtins.callable(function) for function in functions):
        raise ConfigError(
            f"'python:{target}': {name!r} is {value!r}; wanted a function of a dict of numpy arrays, "
            "or a dict of signature name to such functions"
        )
    return CallableBackend(value)


BACKENDS: dict[str, Callable[[str], Embedded]] = {"onnx": OnnxBackend, "python": _open_python}
"""URL scheme to what opens the rest of the URL: a new kind of backend is a line here."""

USAGE: dict[str, str] = {"onnx": "onnx:PATH", "python": "python:MODULE:FUNCTION"}
"""How the URLs of each scheme read, for messages."""
