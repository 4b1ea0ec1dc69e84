"""Whether two texts of JSON say the same, within what numbers may differ by. Nothing is looked for in them."""

from __future__ import annotations

import json
from decimal import Decimal

from batchproxy.core import compare
from batchproxy.core.errors import BackendProtocolError


def deviation(one: bytes, other: bytes) -> float:
    """How far apart two values are, as ``compare.values``; ``NaN`` and ``Infinity`` are read, though no JSON.

    Args:
        one: values with commas between them.
        other: what they are held against.

    Raises:
        BackendProtocolError: no JSON, or nested too deep to be read.

    Example:
        >>> deviation(b"[1.0, 2]", b"[1.0000001, 2]"), deviation(b"[1.0, 2]", b"[1.0, 3]")
        (0.0, inf)
    """
    return 0.0 if one == other else compare.values(_read(one), _read(other))


def _read(text: bytes) -> object:
    try:
        return json.loads(b"[" + text + b"]", parse_int=Decimal)  # int() refuses more than 4300 digits
    except (ValueError, RecursionError) as error:
        raise BackendProtocolError(f"an answer cannot be compared with another one: {error}") from None
