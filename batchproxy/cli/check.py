"""``batchproxy check FILE``: reads a configuration and looks for what it names. Loads no model, calls nobody."""

from __future__ import annotations

import argparse
from pathlib import Path

from batchproxy.backends import open_backend
from batchproxy.backends.onnx import find_model
from batchproxy.config import Config, load
from batchproxy.core.errors import ConfigError
from batchproxy.discovery import FileSource
from batchproxy.endpoints import Kind, OnnxAddress, PythonAddress, SourceAddress

EPILOG = """\
Paths and modules are looked for from the current directory. Python modules are imported; model files
are not opened, so this needs no onnxruntime. Servers are not called.

example:
  batchproxy check configs/minimal.yaml"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.epilog = EPILOG
    parser.add_argument("file", metavar="FILE", help="a configuration, YAML or JSON (*.json)")


def run(args: argparse.Namespace) -> int:
    """Print ``FILE: ok (...)`` and return 0.

    Raises:
        ConfigError: what is wrong, where, and what would be right.
    """
    config = load(args.file)
    try:
        check_endpoints(config)
    except ConfigError as error:
        raise ConfigError(f"{args.file}: {error.message}") from error
    print(f"{args.file}: ok ({_count(len(config.pools), 'pool')}, {_count(len(config.models), 'model')})")
    return 0


def check_endpoints(config: Config) -> None:
    """Look whether the files and functions that the pools name are there; servers are not asked.

    Raises:
        ConfigError: the first that is not, with its key's path.
    """
    for index, pool in enumerate(config.pools):
        for number, address in enumerate(pool.addresses()):
            try:
                match address:
                    case OnnxAddress():
                        find_model(Path(address.path))
                    case PythonAddress():
                        open_backend(address.name)
                    case SourceAddress(kind=Kind.FILE):
                        FileSource(address).read()
            except ConfigError as error:
                raise ConfigError(f"$.pools[{index}].endpoints[{number}]: {error.message}") from error


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
