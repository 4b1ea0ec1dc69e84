r"""JSON text taken apart without reading a number: members, elements, and the shape of a value. No requests here.

msgspec finds where values end. It is strict where TF Serving's engine (``tfs_parse``) is lenient, so what passes here
means the same there, but for numbers too big for a double, which the engine refuses. Of a repeated name msgspec
keeps the last value and TF Serving the first: ``members`` refuses those.

The shape of a value is its skeleton, the text without numbers and white space. Two values have one skeleton exactly
if they differ in nothing but numbers, the content of strings, and ``true`` against ``false``. Whether a number is
whole or decimal is left out: TF Serving refuses ``1.0`` for an integer input, but that is the row's own fault, found
by bisecting as any other bad value.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from itertools import takewhile

import msgspec

Shape = bytes | tuple[int, bytes]
"""A skeleton, or the length and the digest of a long one."""

SPACE = rb"[ \n\r\t]*+"
"""White space between tokens, as a pattern that does not give back what it took."""

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])

_OPEN = re.compile(SPACE + rb"\{")
_NAME = re.compile(SPACE + rb'"([^"\\]*+)"' + SPACE + rb":" + SPACE)
_NEXT = re.compile(SPACE + rb"([,}])")
# A string that never ends goes to the end of the text: else each quote in it would be tried, in quadratic time.
_STRING = re.compile(rb'("[^"\\]*+(?:\\.?[^"\\]*+)*+(?:"(?:' + SPACE + rb":)?|\Z))", re.DOTALL)
_PLAIN_STRING = re.compile(
    rb'("[^"]*+(?:"(?:' + SPACE + rb":)?|\Z))"
)  # for texts without a backslash: 7 times as quick
_EMPTY_LIST = re.compile(rb"\[" + SPACE + rb"\]")
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+":?|[\[\]{},]|[^"\[\]{},]++', re.DOTALL)

_ENORMOUS = re.compile(rb"[0-9]{300}|[eE]\+?[0-9]{3}")  # a number that perhaps no double holds

_NUMERIC = b"0123456789.eE+- \n\r\t"  # what numbers and white space are made of; "true" becomes "tru"
_BETWEEN = b"\0"  # outside of strings no JSON text has one
_DIGEST_OVER = 256  # bytes: a longer skeleton is kept as its digest
_SORT_UP_TO = 4096  # bytes of skeleton: 64 names of 64 bytes; it also bounds the cache to 2 MiB


def members(text: bytes, source: bytes | None = None, start: int = 0) -> dict[str, tuple[msgspec.Raw, int]] | None:
    """The values of an object as they stand, each with its offset in ``text``.

    None where the text is not sure to mean the same to everybody: no JSON, no object, nested too deep for the parser,
    a name twice, or a name with an escape in it.

    Args:
        text: what offsets count in.
        source: the object alone where ``text`` is more than that.
        start: where in ``text`` it begins.
    """
    try:
        values = _OBJECT.decode(text if source is None else source)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    found: dict[str, tuple[msgspec.Raw, int]] = {}
    pos = _OPEN.match(text, start).end()  # type: ignore[union-attr]  # it was read as an object
    for _ in values:
        name = _NAME.match(text, pos)
        if name is None:
            return None
        key, pos = name[1].decode(), name.end()
        value = values[key]
        if not text.startswith(bytes(value), pos):
            return None  # the last of this name stands elsewhere
        found[key] = value, pos
        end = _NEXT.match(text, pos + len(value))
        if end is None:
            return None  # a number that only begins as the last of this name does
        pos = end.end()
    # All names read, each of its own, and yet not at the end: one comes twice.
    return found if len(found) == len(values) and (not values or text[pos - 1] == 125) else None


def may_leave_out(top: Mapping[str, tuple[msgspec.Raw, int]], used: Collection[str]) -> bool:
    """Whether what a body says beside the members that are used cannot make TF Serving refuse it.

    Args:
        top: from ``members``: it can be read, but for numbers too big for a double.
        used: names of members.
    """
    return all(name in used or _ENORMOUS.search(bytes(value)) is None for name, (value, _) in top.items())


def elements(array: msgspec.Raw) -> list[msgspec.Raw] | None:
    """The elements of an array as they stand, in order; None for any other value, and for what ``members`` refuses."""
    try:
        return _ARRAY.decode(array)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def outside_strings(
    text: bytes, change: Callable[[bytes], bytes], mark: Callable[[bytes], bytes] | None = None
) -> bytes:
    """Change what is not in a string.

    Args:
        text: JSON, without a NUL byte outside of strings.
        change: is given all that is outside in one piece, NUL bytes standing for strings, which must stay.
        mark: what becomes of each string; a name comes with its colon. None leaves them.
    """
    parts = (_STRING if b"\\" in text else _PLAIN_STRING).split(text)
    parts[::2] = change(_BETWEEN.join(parts[::2])).split(_BETWEEN)
    if mark is not None:
        parts[1::2] = map(mark, parts[1::2])
    return b"".join(parts)


# ---------------------------------------------------------------- shapes


def skeleton(text: bytes) -> bytes:
    """A value without its numbers, with each string but names empty.

    >>> skeleton(b'[{"a": [1, -2.5e3], "b": "x,y"}, {"a": [], "b": false}]')
    b'[{"a":[,],"b":""},{"a":[_],"b":tru}]'
    """
    if b'"' not in text:
        return _bones(text)
    return outside_strings(text, _bones, _marked)


def _bones(text: bytes) -> bytes:
    bones = text.translate(None, _NUMERIC)
    if b"[]" in bones and _EMPTY_LIST.search(text):  # unlike a list of one number
        bones = _EMPTY_LIST.sub(b"[_]", text).translate(None, _NUMERIC)
    return bones.replace(b"fals", b"tru") if b"f" in bones else bones


def _marked(token: bytes) -> bytes:
    if token.endswith(b'"'):
        return b'""'
    return token if token.endswith(b'":') else token[: token.rindex(b'"') + 1] + b":"


def canonical(bones: bytes) -> bytes:
    """A skeleton with the members of each object in the order of their names.

    Those of one name keep their order, since only the first of them counts. A very long skeleton is left as it is,
    which costs no more than a shared batch.

    >>> canonical(b'{"b":{"d":,"c":""},"a":[,]}')
    b'{"a":[,],"b":{"c":"","d":}}'
    """
    if b"{" not in bones or len(bones) > _SORT_UP_TO or bones.count(b'":') < 2:
        return bones
    return _sorted(bones)


@lru_cache(maxsize=256)  # the objects of a model have few skeletons, and each takes some 20 us
def _sorted(bones: bytes) -> bytes:
    open_values: list[list[bytes]] = []
    items = [b""]  # of the innermost open value; numbers are empty
    for token in _TOKEN.findall(bones):
        if token in {b"{", b"["}:
            open_values.append(items)
            items = [token]
        elif token == b",":
            items.append(b"")
        elif token in {b"}", b"]"}:
            opening = items[0][:1]
            items[0] = items[0][1:]
            if token == b"}":
                items.sort(key=_name_of)
            closed = opening + b",".join(items) + token
            items = open_values.pop()
            items[-1] += closed
        else:
            items[-1] += token
    return items[0]


def _name_of(member: bytes) -> bytes:
    name = _TOKEN.match(member)
    return name[0] if name else b""  # of an empty object


def _ranks(bones: bytes) -> Mapping[str, int] | None:
    """The rank of a row under the empty name, or of each of its members; None where a name comes twice, or is none."""
    if bones.startswith(b"{"):
        return _ranks_of_members(bones) if len(bones) <= _SORT_UP_TO else _ranks_of_members.__wrapped__(bones)
    return _BY_RANK[min(len(bones) - len(bones.lstrip(b"[")), len(_BY_RANK) - 1)]


_BY_RANK = [{"": rank} for rank in range(256)]  # TensorFlow's tensors have at most 254 axes


@lru_cache(maxsize=256)  # as ``_sorted``
def _ranks_of_members(bones: bytes) -> Mapping[str, int] | None:
    depth = 0
    ranks: dict[str, int] = {}
    tokens = _TOKEN.findall(bones)
    for at, token in enumerate(tokens):
        if token in {b"{", b"["}:
            depth += 1
        elif token in {b"}", b"]"}:
            depth -= 1
        elif depth == 1 and token.endswith(b'":'):
            try:
                name = msgspec.json.decode(token[:-1], type=str)
            except UnicodeDecodeError:  # rows were not looked into so far
                return None
            if name in ranks:
                return None
            ranks[name] = sum(1 for _ in takewhile(b"[".__eq__, tokens[at + 1 :]))
    return _BY_RANK[0] if ranks.keys() == {"b64"} else ranks


def common_shape(array: msgspec.Raw, rows: Sequence[msgspec.Raw]) -> tuple[Shape, Mapping[str, int]] | None:
    """The shape that all elements of an array share; None where they differ, or are not sure to be rows of their own.

    In a row with a name twice TF Serving takes both values, and the values of all rows behind it move by one.

    Returns:
        Beside the shape, the rank of each row under the empty name, or, of objects, that of each member by its name.

    Args:
        array: the array.
        rows: its elements, at least one.
    """
    first = skeleton(bytes(rows[0]))
    ranks = _ranks(first)
    if ranks is None:
        return None
    if len(rows) > 1:
        whole = skeleton(bytes(array))[1:-1] + b","
        # A skeleton can be read in one way only, so this many times the first is this many like the first. Lengths
        # before contents: one long row and many short ones must not make a text of many long ones.
        if len(whole) != len(rows) * (len(first) + 1) or whole != (first + b",") * len(rows):
            shared = canonical(first)
            if b"{" not in first or any(canonical(skeleton(bytes(row))) != shared for row in rows):
                return None
    return _short(canonical(first)), ranks


def _short(bones: bytes) -> Shape:
    if len(bones) <= _DIGEST_OVER:
        return bones
    return len(bones), hashlib.blake2b(bones, digest_size=32).digest()
