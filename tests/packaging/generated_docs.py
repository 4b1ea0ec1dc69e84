"""Writes docs/errors.md from the error classes: ``make docs``. A test compares, so that it is never edited by hand."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from batchproxy.core import errors
from batchproxy.core.errors import BatchProxyError, Code, ConfigError, Unavailable
from tests.packaging.repository import ROOT

PAGE = ROOT / "docs" / "errors.md"

HEAD = """\
# Errors

Generated from `batchproxy/core/errors.py` by `make docs`.

Every error says what happened, to which model or endpoint, and what to do. Over gRPC it is a status with the text; over
REST it is TensorFlow Serving's `{"error": "text"}` with the status. A model's own error keeps its code and its text: a
caller reads what a direct call would have said, even if its request shared a call with others.

| Class | Meaning | gRPC | HTTP | Try again? |
|---|---|---|---|---|
"""

CODES = """
## Codes and HTTP statuses

A model's own status code is translated as TensorFlow Serving does it.

| Code | Number | HTTP |
|---|---:|---:|
"""


def errors_page() -> str:
    """The whole page."""
    lines = [HEAD]
    lines += [f"{_row(kind, depth)}\n" for kind, depth in _tree(BatchProxyError, 0)]
    lines.append(CODES)
    lines += [f"| {code.name} | {code.value} | {errors.HTTP_STATUS[code]} |\n" for code in Code]
    return "".join(lines)


def _tree(kind: type[BatchProxyError], depth: int) -> Iterator[tuple[type[BatchProxyError], int]]:
    yield kind, depth
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child, depth + 1)


def _row(kind: type[BatchProxyError], depth: int) -> str:
    name = "&emsp;" * depth + f"`{kind.__name__}`"
    meaning = (inspect.getdoc(kind) or "").partition("\n")[0]
    if kind is ConfigError:
        return f"| {name} | {meaning} | - | exit status 2 | no |"
    example = kind("")
    again = f"yes, after {kind.retry_after_s} s" if issubclass(kind, Unavailable) else _again(example)
    return f"| {name} | {meaning} | {example.code.name} | {example.http_status} | {again} |"


def _again(error: BatchProxyError) -> str:
    return "yes" if error.code is Code.UNAVAILABLE else "no"


if __name__ == "__main__":
    PAGE.write_text(errors_page())
    print(f"wrote {PAGE.relative_to(ROOT)}")
