"""Reads plain numbers out of a document that somebody may have edited. No file and no format is known here."""

from __future__ import annotations

import math
from collections.abc import Mapping


def number(document: object, key: str, least: float, most: float) -> float:
    """``document[key]`` as a number from ``least`` to ``most``.

    Raises:
        ValueError: it is not there, or is anything else; the text names the key and what was found.

    Example:
        >>> number({"noise": 0.08}, "noise", 0.0, 1.0)
        0.08
    """
    found = document.get(key) if isinstance(document, Mapping) else None
    if isinstance(found, bool) or not isinstance(found, int | float) or not least <= found <= most:
        raise ValueError(f"{key} is no number from {least:g} to {most:g}: {found!r}")
    return float(found)


def whole(document: object, key: str, least: int, most: int) -> int:
    """The same of a whole number.

    Raises:
        ValueError: as ``number``, and where there is something behind the point.
    """
    found = number(document, key, least, most)
    if not math.isfinite(found) or found != int(found):
        raise ValueError(f"{key} is no whole number: {found!r}")
    return int(found)
