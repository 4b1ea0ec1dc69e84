"""Random tensors for generated models, and the JSON they are written as. No requests, no models of our own."""

from __future__ import annotations

import base64
import json
import math
import random
from typing import Any, NamedTuple

from tests.generated.models import GRPC_ONLY, INTEGERS, TABLE, Input

EDGES = {
    "float32": (0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 1e-45, 3.4028235e38, 16777217.0, 0.1),
    "float64": (0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, 0.1, 1e16),
    "string": ("", "\0", "é", "\U0001f600", '"\\/\b\n', "\u2028", b"", b"\xff\xfe", b"\0", "b64", "NaN", "a" * 300),
}
"""Values that somebody once forgot, of each type; those of integers are their bounds."""

BITS = {name: int(name.lstrip("uint")) for name in INTEGERS}

SPACES = ((",", ":"), (", ", ": "), (" , ", " :\n"), (",\n\t", ":"))
"""White space between elements, and before the value of a member."""


class Tensor(NamedTuple):
    """A tensor.

    Attributes:
        shape: with the first axis.
        flat: its elements: Python's own types; strings are text, or bytes where they are none.
    """

    shape: tuple[int, ...]
    flat: list[Any]

    def nested(self) -> Any:
        """As nested lists; a lone element where there are no axes."""
        elements = iter(self.flat)

        def level(axis: int) -> Any:
            if axis == len(self.shape):
                return next(elements)
            return [level(axis + 1) for _ in range(self.shape[axis])]

        return level(0)


class Members(list[tuple[str, Any]]):
    """A JSON object; a name may come twice."""


class Raw(str):
    """JSON text that is written as it is."""

    __slots__ = ()


def tensor(one: Input, rows: int, open_size: int, source: random.Random) -> Tensor:
    """A tensor that the input takes.

    Args:
        one: the input.
        rows: length of the first axis.
        open_size: of all axes that are open, so that inputs fit each other.
        source: of everything else.
    """
    shape = (rows, *(open_size if size is None else size for size in one.shape))
    return Tensor(shape, [element(one, source) for _ in range(math.prod(shape))])


def element(one: Input, source: random.Random) -> Any:
    """A value of the input's type: most are like no other, one in twenty is an edge."""
    if one.small:
        return source.randrange(TABLE)
    edge = source.random() < 0.05
    if one.dtype in INTEGERS:
        low, high = bounds(one.dtype)
        return source.choice([low, high, 0, -1 if low else 1]) if edge else source.randint(low, high)
    if one.dtype == "bool":
        return source.random() < 0.5
    if edge and one.dtype in EDGES:
        return source.choice(EDGES[one.dtype])
    if one.dtype == "string":
        return f"{source.randrange(10**6)}" * source.choice([1, 1, 3])
    if one.dtype in GRPC_ONLY:
        number = float(source.randint(-512, 512)) / 8
        return complex(number, source.randint(-99, 99)) if one.dtype.startswith("complex") else number
    return source.choice([source.uniform(-9, 9), source.gauss(0, 1e6), float(source.randint(-99, 99))])


def bounds(dtype: str) -> tuple[int, int]:
    """The least and the largest integer of a type."""
    bits = BITS[dtype]
    return (0, 2**bits - 1) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def text(value: Any, spaces: tuple[str, str], source: random.Random) -> str:
    """A value as JSON, its numbers and strings spelled in one of several ways."""
    comma, colon = spaces
    match value:
        case Raw():
            return value
        case Members():
            return "{" + comma.join(_quoted(k, source) + colon + text(v, spaces, source) for k, v in value) + "}"
        case list():
            return "[" + comma.join(text(item, spaces, source) for item in value) + "]"
        case bytes():
            return text(Members([("b64", base64.b64encode(value).decode())]), spaces, source)
        case str():
            return _quoted(value, source)
        case float():
            return _number(value, source)
        case complex():
            return text([value.real, value.imag], spaces, source)  # as many write it; JSON has no form for it
        case _:
            return json.dumps(value)


def _quoted(value: str, source: random.Random) -> str:
    return json.dumps(value, ensure_ascii=source.random() < 0.5)


def _number(value: float, source: random.Random) -> str:
    if not math.isfinite(value):
        return json.dumps(value)
    if value.is_integer() and abs(value) < 1e15 and source.random() < 0.5:
        return f"{value:.0f}" if source.random() < 0.8 else f"{value:.0f}.000"
    return source.choice([repr, repr, repr, "{:.9e}".format, "{:E}".format])(value)
