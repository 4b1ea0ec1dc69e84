"""Reads plain numbers out of a document that somebody may have edited. No file and no format is known here."""

from __future__ import annotations

from collections.abc import Mapping


def number(document: object, key: str, least: float, most: float) -> float:
    """``document[key]`` as a number from ``least`` to ``most``.

    Raises:
        ValueError: it is not there, or is anything else; the text names the key and what was found.

    Example:
        >>> number({"noise": 0.08}, "noise", 0.0, 1.0)
        0.08
    """
    found = _found(document, key)
    if isinstance(found, bool) or not isinstance(found, int | float) or not least <= found <= most:
        raise ValueError(f"{key} is no number from {least:g} to {most:g}: {found!r}")
    return float(found)


def whole(document: object, key: str, least: int, most: int) -> int:
    """The same of a whole number, to the last digit.

    Raises:
        ValueError: as ``number``.
    """
    found = _found(document, key)
    if isinstance(found, bool) or not isinstance(found, int) or not least <= found <= most:
        raise ValueError(f"{key} is no whole number from {least} to {most}: {found!r}")
    return found


def _found(document: object, key: str) -> object:
    return document.get(key) if isinstance(document, Mapping) else None
