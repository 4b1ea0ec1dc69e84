"""The Python twins by model name, for ``python:tests.served_twins:NAME``; see ``tests/twins.py``."""

from __future__ import annotations

from tests.twins import TWINS, Twin


def __getattr__(name: str) -> dict[str, Twin]:
    try:
        return TWINS[name]
    except KeyError:
        raise AttributeError(name) from None
