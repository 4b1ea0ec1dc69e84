"""``python -m benchmarks.compare BEFORE.json AFTER.json``: two results beside each other, as Markdown."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.tables import markdown

VALUES = (
    ("micro", "best", 2),
    ("e2e", "ratio", 3),
    ("e2e", "cpu_us", 1),
    ("remote", "ratio", 3),
    ("remote", "p99_ratio", 3),
    ("remote", "proxy_us", 1),
    ("outbound", "cpu_ratio", 3),
    ("outbound", "p50_ratio", 3),
)
"""Part, figure, digits after the point."""


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Tables of what both have: microseconds where less is better, ratios to an echo or to direct callers."""
    found = [f"before: {before['when']}, {before['machine']}", f"after:  {after['when']}, {after['machine']}", ""]
    for part, value, digits in VALUES:
        old = {line["name"]: line[value] for line in before.get(part, ())}
        rows = [
            [line["name"], f"{old[line['name']]:.{digits}f}", f"{line[value]:.{digits}f}", _change(old, line, value)]
            for line in after.get(part, ())
            if line["name"] in old
        ]
        if rows:
            found += [markdown([f"{part}, {value}", "before", "after", "change"], rows), ""]
    return "\n".join(found)


def _change(old: Mapping[str, float], line: Mapping[str, Any], value: str) -> str:
    was = old[line["name"]]
    return f"{100 * (line[value] / was - 1):+.0f} %" if was else ""


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m benchmarks.compare BEFORE.json AFTER.json")
    print(compare(*(json.loads(Path(path).read_text()) for path in sys.argv[1:])))
