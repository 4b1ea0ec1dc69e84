"""Writes the pages that say what some table of ours says: ``make docs``. A test compares: nobody edits them by hand."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from batchproxy.core import errors
from batchproxy.core.errors import BatchProxyError, Code, ConfigError, Unavailable
from tests.faults.page import reliability_page
from tests.http2_errors import CONNECTION_ERRORS, ELSEWHERE, MALFORMED, STREAM_ERRORS
from tests.packaging.repository import ROOT
from tests.servers.comparison import comparison_page

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


HTTP2_HEAD = """\
# HTTP/2: what a client can do wrong

Generated from `tests/http2_errors.py` by `make docs`.

Every case of RFC 9113 in which a server must say that something is wrong, what ours says, and the test that shows it.
GOAWAY ends the connection and carries a reason in words; RST_STREAM ends one stream, and the connection goes on. Each
case is tried with and without the short way for usual calls and, where the connection ends, byte by byte, too.

| Section | Case | Answer | Test |
|---|---|---|---|
"""


def http2_page() -> str:
    """Where each error of HTTP/2 is tested."""
    frames = "tests/unit/wire/test_http2_frames.py::"
    rows = [(case, f"GOAWAY {code.name}", f"{frames}test_connection_errors") for case, _, _, code in CONNECTION_ERRORS]
    rows += [(case, f"RST_STREAM {code.name}", f"{frames}test_stream_errors") for case, _, _, code in STREAM_ERRORS]
    rows += [(case, "RST_STREAM PROTOCOL_ERROR", f"{frames}test_malformed_requests") for case, _ in MALFORMED]
    rows += ELSEWHERE
    lines = []
    for case, answer, test in sorted(
        rows, key=lambda row: [int(part) for part in row[0].partition(":")[0].split(", ")[-1].split(".")]
    ):
        section, _, what = case.partition(": ")
        where, _, name = test.removeprefix("tests/unit/wire/").partition("::")
        lines.append(f"| {section} | {what} | {answer} | `{where}` `{name}` |\n")
    return HTTP2_HEAD + "".join(lines)


PAGES = {
    ROOT / "docs" / "errors.md": errors_page,
    ROOT / "docs" / "http2-errors.md": http2_page,
    ROOT / "docs" / "comparison.md": comparison_page,
    ROOT / "docs" / "reliability.md": reliability_page,
}

if __name__ == "__main__":
    for page, write in PAGES.items():
        page.write_text(write())
        print(f"wrote {page.relative_to(ROOT)}")
