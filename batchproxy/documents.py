"""A YAML or JSON file as plain data, each fault in one line with its place. What the data means is not known here."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from batchproxy.core.errors import ConfigError


def read(path: str | os.PathLike[str]) -> Any:
    """Read a file: JSON if it is called ``*.json``, else YAML (of which JSON is a part).

    Raises:
        ConfigError: it cannot be read, is empty, or is not well formed; a key given twice is a fault.
    """
    name = os.fspath(path)
    data = _parse(name, read_text(path))
    if data is None:
        raise ConfigError(f"{name}: the file is empty; configs/minimal.yaml shows the least that is needed")
    return data


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but a key given twice is a fault and not the last one's win."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=_twice(key.value), problem_mark=key.start_mark)
                seen.add(key.value)
        return node


def _twice(key: str) -> str:
    return f"the key {key!r} is given twice; keep one"


def read_text(path: str | os.PathLike[str]) -> str:
    """The file's text, without a byte order mark.

    Raises:
        ConfigError: no such file, a folder, not UTF-8, no permission.
    """
    name = os.fspath(path)
    try:
        return Path(name).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except FileNotFoundError:
        folder = Path(name).parent
        others = [str(other) for other in folder.iterdir()] if folder.is_dir() else []
        raise ConfigError(f"{name}: no such file; {nearest(name, others, 'check the path')}") from None
    except IsADirectoryError:
        raise ConfigError(f"{name}: this is a folder; name a YAML or JSON file in it") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ConfigError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _parse(name: str, text: str) -> Any:
    try:
        if name.endswith(".json") and text.strip():
            return json.loads(text, object_pairs_hook=_unique)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of the safe loader
    except json.JSONDecodeError as error:
        raise ConfigError(f"{name}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise ConfigError(f"{place}: not valid YAML: {one_line(error.problem or error.context)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{name}:{line}: not valid YAML: {error.reason} ({text[error.position]!a})") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply to be a configuration") from None
    except ValueError as error:  # a date that is none, a number of thousands of digits, a key given twice in JSON
        raise ConfigError(f"{name}: {one_line(str(error))}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(_twice(key))
        result[key] = value
    return result


def one_line(text: object) -> str:
    """As one line, whatever breaks it holds."""
    return " ".join(str(text).split())


def nearest(word: str, known: Iterable[str], otherwise: str) -> str:
    """``did you mean 'x'?`` where one of ``known`` is close to ``word``, else ``otherwise``."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else otherwise


Fingerprint = tuple[tuple[int, int, int] | None, ...]


def fingerprint(paths: Iterable[str]) -> Fingerprint:
    """What changes when one of these files does; a link is followed, which is what Kubernetes exchanges.

    >>> fingerprint(["/nowhere"])
    (None,)
    """
    return tuple(_fingerprint(path) for path in paths)


def _fingerprint(path: str) -> tuple[int, int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
