"""Random REST requests for generated models: most are meant well, the others wrong in one of many ways. No sockets."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.generated.models import INTEGERS, Input, Model
from tests.generated.values import SPACES, Members, Raw, bounds, tensor, text

ODD_LEAVES: tuple[Any, ...] = (
    "a",
    1.5,
    True,
    None,
    [],
    Members(),
    Members([("b64", "!")]),
    Raw("1e400"),
    2**70,
    -1,
    300,
    "1",
    Raw("01"),
)
"""What may stand where an element is expected. Some are elements of some types."""


class Request(NamedTuple):
    """A request.

    Attributes:
        kind: what is odd about it; ``good`` if nothing.
        method: of HTTP.
        path: its target.
        body: as sent.
    """

    kind: str
    method: str
    path: str
    body: bytes


Columns = list[tuple[str, Any]]
"""Alias to nested lists, the outermost of which are the rows."""


def request(model: Model, kind: str, rows: int, source: random.Random) -> Request:
    """One request.

    Args:
        model: that it asks.
        kind: ``good``, or one of ``KINDS``.
        rows: how many.
        source: of everything else.
    """
    open_size = source.choice([2, 2, 2, 2, 2, 1, 3, 0])
    rows = model.inputs[0].first or rows
    columns = [(one.alias, tensor(one, rows, open_size, source).nested()) for one in model.inputs]
    if kind in VALUES:
        VALUES[kind](columns, model, source)
    document = Members()
    # Only rows of one form share a call, so most callers of a model have the same habits.
    habits = random.Random(model.name) if source.random() < 0.75 else source
    if model.signature != "serving_default" or habits.random() < 0.2:
        document.append(("signature_name", model.signature))
    form, data = _laid_out(columns, habits)
    document.insert(habits.randrange(len(document) + 1), (form, data))
    spaces = habits.choice(SPACES)
    verb, path = "POST", f"/v1/models/{quote(model.name)}"
    if kind in DOCUMENTS:
        DOCUMENTS[kind](document, form, source)
    if kind == "path":
        path += source.choice(["/versions/1", "/versions/1", "/versions/7", "/labels/none", "/versions/x"])
    action = source.choice(["classify", "regress", "explain", "PREDICT"]) if kind == "verb" else "predict"
    body = text(document, spaces, source).encode()
    if kind in BODIES:
        body = BODIES[kind](body, source)
    return Request(kind, verb, f"{path}:{action}", body)


def _laid_out(columns: Columns, source: random.Random) -> tuple[str, Any]:
    plain = len(columns) == 1 and source.random() < 0.7
    if source.random() < 0.3:
        return "inputs", columns[0][1] if plain else Members(source.sample(columns, len(columns)))
    if plain:
        return "instances", columns[0][1]
    shuffled = source.sample(columns, len(columns))
    longest = max((len(column) for _, column in columns if isinstance(column, list)), default=1)
    held = [(alias, column if isinstance(column, list) else [column]) for alias, column in shuffled]
    return "instances", [Members((a, column[row]) for a, column in held if row < len(column)) for row in range(longest)]


# ---------------------------------------------------------------- what may be odd about values


def _places(value: Any) -> list[tuple[list[Any], int]]:
    """Where the elements of nested lists are."""
    found: list[tuple[list[Any], int]] = []
    for index, item in enumerate(value):
        found += _places(item) if type(item) is list else [(value, index)]
    return found


def _leaf(columns: Columns, _: Model, source: random.Random) -> None:
    if places := _places([column for _, column in columns]):
        held, index = source.choice(places)
        held[index] = source.choice(ODD_LEAVES)


def _range(columns: Columns, model: Model, source: random.Random) -> None:
    # In one input: which of two bad ones is told of depends on the order of a map.
    for one, (_, column) in source.sample(list(zip(model.inputs, columns, strict=True)), len(columns)):
        if one.dtype in INTEGERS and (places := _places(column)):
            held, index = source.choice(places)
            held[index] = source.choice(
                [_beyond(one, source), 2**31, -(2**31) - 1, 2**63, 2**64, Raw("-0"), Raw("1.0")]
            )
            return


def _beyond(one: Input, source: random.Random) -> int:
    low, high = (-2, 12) if one.small else bounds(one.dtype)
    return source.choice([low - 1, high + 1])


def _ragged(columns: Columns, _: Model, source: random.Random) -> None:
    held, index = source.choice(_places([column for _, column in columns]) or [([0], 0)])
    if source.random() < 0.5:
        held.insert(index, held[index])
    else:
        del held[index]


def _deep_row(columns: Columns, _: Model, source: random.Random) -> None:
    column = source.choice(columns)[1]
    if column:
        row = source.randrange(len(column))
        column[row] = [column[row]]


def _deeper(columns: Columns, _: Model, source: random.Random) -> None:
    place = source.randrange(len(columns))
    alias, column = columns[place]
    columns[place] = alias, [[row] for row in column]


def _shallower(columns: Columns, _: Model, source: random.Random) -> None:
    place = source.randrange(len(columns))
    alias, column = columns[place]
    columns[place] = alias, [row[0] if isinstance(row, list) and row else row for row in column]


def _scalar(columns: Columns, _: Model, source: random.Random) -> None:
    place = source.randrange(len(columns))
    alias, column = columns[place]
    while isinstance(column, list) and column:
        column = column[0]
    columns[place] = alias, column


def _unequal(columns: Columns, _: Model, source: random.Random) -> None:
    place = source.randrange(len(columns))
    alias, column = columns[place]
    columns[place] = alias, column[:1] if source.random() < 0.5 else column[:-1]


def _missing(columns: Columns, _: Model, source: random.Random) -> None:
    if len(columns) > 1:
        del columns[source.randrange(len(columns))]


def _extra(columns: Columns, _: Model, source: random.Random) -> None:
    columns.append((source.choice(["more", "", "x\0"]), columns[0][1]))


def _twice(columns: Columns, _: Model, source: random.Random) -> None:
    alias, column = source.choice(columns)
    columns.append((alias, source.choice([column, column[::-1], [1]])))


def _empty(columns: Columns, _: Model, source: random.Random) -> None:
    for member in columns:
        del member[1][:]


VALUES: dict[str, Callable[[Columns, Model, random.Random], None]] = {
    "leaf": _leaf,
    "range": _range,
    "ragged": _ragged,
    "deep row": _deep_row,
    "deeper": _deeper,
    "shallower": _shallower,
    "scalar": _scalar,
    "unequal": _unequal,
    "missing": _missing,
    "extra": _extra,
    "twice": _twice,
    "empty": _empty,
}

# ---------------------------------------------------------------- what may be odd about the document


def _both(document: Members, form: str, source: random.Random) -> None:
    document.append(({"instances": "inputs", "inputs": "instances"}[form], source.choice([[1], None, Members()])))


def _again(document: Members, form: str, source: random.Random) -> None:
    document.insert(source.randrange(len(document) + 1), (form, source.choice([[1.0], [], 7, dict(document)[form]])))


def _signature(document: Members, _: str, source: random.Random) -> None:
    document[:] = [member for member in document if member[0] != "signature_name"]
    name = source.choice(["none", 1, None, "", Members(), "serving_default"])
    document.insert(source.randrange(len(document) + 1), ("signature_name", name))


def _more(document: Members, _: str, source: random.Random) -> None:
    name = source.choice(["more", "predictions", "Instances", "a\0b"])
    document.insert(source.randrange(len(document) + 1), (name, source.choice([1, [[]], Members([("instances", [])])])))


def _mixed(document: Members, form: str, source: random.Random) -> None:
    data = dict(document)[form]
    if type(data) is list and data:
        data[source.randrange(len(data))] = source.choice([Members([("x", 1)]), Members(), 1, [], "a", None])


def _no_list(document: Members, form: str, source: random.Random) -> None:
    value = source.choice([5, None, "a", Members(), Members([("b64", "YQ==")]), 1.5, True])
    document[:] = [(name, value if name == form else held) for name, held in document]


DOCUMENTS: dict[str, Callable[[Members, str, random.Random], None]] = {
    "both": _both,
    "again": _again,
    "signature": _signature,
    "more": _more,
    "mixed": _mixed,
    "no list": _no_list,
}

# ---------------------------------------------------------------- what may be odd about the bytes


def _cut(body: bytes, source: random.Random) -> bytes:
    return body[: source.randrange(len(body))]


def _tail(body: bytes, source: random.Random) -> bytes:
    return body + source.choice([b" ", b"\n\n", b"x", b"{}", b",", b"\0"])


def _spoilt(body: bytes, source: random.Random) -> bytes:
    place = source.randrange(len(body))
    return (
        body[:place]
        + source.choice([b"", b"\xff", b"[", b",", b"}", b"-", b'"', b"\0", b"\xef\xbb\xbf"])
        + body[place + 1 :]
    )


def _wrapped(body: bytes, source: random.Random) -> bytes:
    return source.choice([b"[%s]", b"\xef\xbb\xbf%s", b"\n %s", b'{"a": %s}']) % body


BODIES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut": _cut,
    "tail": _tail,
    "spoilt": _spoilt,
    "wrapped": _wrapped,
}

KINDS = (*VALUES, *DOCUMENTS, *BODIES, "path", "verb")
