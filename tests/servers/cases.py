"""Thirteen things that happen to whoever batches, each as a function that lets it happen and says what came of it.

What it says is the cell of docs/comparison.md: no test and no verdict is here. Callers are 32 of one row each where
nothing else is said, and come together (``contenders.until``): what is seen is what a shared call does to them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from tests.servers.contenders import Contender, Told, at_once, sure, until
from tests.servers.zoo import REFUSED, TOGETHER

PATIENCE_S = 10.0
"""Of callers whose server may never answer; a batch that is not full leaves after a second."""

_rows = itertools.count(2**53 + 1)
"""Numbers that nobody else has, none of which a binary float keeps apart from its neighbour."""

Ask = Callable[[], Told]


def _crowd(contender: Contender, model: str = "numbers", count: int = TOGETHER) -> tuple[list[int], list[Ask]]:
    rows = [next(_rows) for _ in range(count)]
    return rows, [partial(contender.ask, [row, 7], row, model) for row in rows]


def _mine(told: Told, row: int) -> bool:
    return told.right([7, row], row)


def two_models(contender: Contender) -> str:
    """Callers of two models at once."""
    rows: list[int] = []

    def asks() -> list[Ask]:
        rows[:], first = _crowd(contender)
        others, second = _crowd(contender, "others")
        rows.extend(others)
        return [*first, *second]

    found = until(asks, sure)
    first = [_mine(told, row) for told, row in zip(found[:TOGETHER], rows, strict=False)]
    second = [told.right([row + 1, 8], row) for told, row in zip(found[TOGETHER:], rows[TOGETHER:], strict=True)]
    return "each model's callers get that model's answers" if all(first + second) and sure(found) else "mixed up"


def large_integers(contender: Contender) -> str:
    """Integers above 2**53, in JSON."""
    rows: list[int] = []

    def asks() -> list[Ask]:
        rows[:], found = _crowd(contender)
        return found

    found = until(asks, sure)
    exact = sure(found) and all(_mine(told, row) for told, row in zip(found, rows, strict=True))
    return "kept to the last digit" if exact else "changed"


def bad_row(contender: Contender) -> str:
    """One row of 32 is refused by the model."""
    rows: list[int] = []

    def asks() -> list[Ask]:
        rows[:], found = _crowd(contender, count=TOGETHER - 1)
        return [*found, partial(contender.ask, [REFUSED, 7], 0)]

    def shared(found: Sequence[Told]) -> bool:
        halves = max(told.company for told in found) == TOGETHER // 2
        return halves or all(f"{TOGETHER} rows" in told.text for told in found)

    found = until(asks, shared)
    fine = sum(_mine(told, row) for told, row in zip(found, rows, strict=False))
    statuses = Counter(told.status for told in found if told.status != 200)
    refused = ", ".join(f"{count} get {status}" for status, count in sorted(statuses.items()))
    return f"{fine} are answered rightly, {refused}"


def statuses(contender: Contender) -> str:
    """The model says 429, 500 and 503."""
    found = []
    for status in (429, 500, 503):
        asks = [partial(contender.ask, [-status, 7], next(_rows)) for _ in range(TOGETHER)]
        said = {told.status for told in at_once(asks)}
        found.append(f"{status} is {' or '.join(map(str, sorted(said)))}")
    return ", ".join(found)


def wrong_rows(contender: Contender) -> str:
    """The model answers with one row, whatever it was sent."""
    found: list[Told] = []
    fine = False
    for _ in range(3):
        rows, asks = _crowd(contender, "pooled")
        found = at_once(asks)
        fine = all(_mine(told, row) for told, row in zip(found, rows, strict=True))
        if not fine:
            break
    if fine:
        return "all are answered rightly, one by one"
    empty = sum(told.status == 200 and not told.outputs["y"][1] for told in found)
    return "200 without a row" if empty else f"refused with {max(told.status for told in found)}"


def disconnect(contender: Contender) -> str:
    """A caller over gRPC gives up while it waits for company."""
    for _ in range(3):
        _leave(contender)
        rows = [next(_rows) for _ in range(TOGETHER)]
        found = at_once([partial(contender.ask, [row, 7], row, patience_s=PATIENCE_S) for row in rows])
        if sum(told.status == 0 for told in found) >= TOGETHER - 1:
            return "the others of its batch are never answered"
        if not all(_mine(told, row) for told, row in zip(found, rows, strict=True)):
            return "others are harmed"
        if sure(found):
            return "its row is not run; the others get theirs"
    return "its row is run all the same; the others get theirs"


def _leave(contender: Contender) -> None:
    """Returns when a caller has come, waited, and gone; one who was answered before that did not go."""
    proxy, triton = contender.proxy, contender.server.kind == "triton"
    gone = False
    while not gone:
        before = contender.taken() if triton else 0.0
        leaver = contender.leaver(next(_rows))
        if proxy is not None:
            while not (proxy.metric("batchproxy_queued_rows") or leaver.done()):
                pass
        elif triton:
            while contender.taken() <= before:
                pass
        else:
            contender.knock()
        gone = leaver.cancel()
    if proxy is None:  # which does not tell whether it has noticed
        contender.knock()
    else:
        while proxy.metric("batchproxy_queued_rows"):
            pass


def deadline(contender: Contender) -> str:
    """A caller who gives 5 ms (v2's parameter ``timeout``) has to wait for longer."""
    late = partial(contender.ask, [7, 7], next(_rows), parameters={"timeout": 5000})
    if contender.proxy is None:  # it waits for company
        told = late()
    else:  # which batchproxy cuts short for it, so it waits for a server that is busy
        contender.ask([1, 1], next(_rows))
        with contender.busy():
            told = late()
    return "answered after all, with 200" if told.status == 200 else f"{told.status}, and not run"


def oversize(contender: Contender) -> str:
    """A request of 40 rows where batches have 32."""
    rows = [next(_rows) for _ in range(TOGETHER + 8)]
    told = contender.ask_rows([[row, 7] for row in rows], rows)
    if told.status != 200:
        return f"refused with {told.status}"
    fine = told.outputs["y"][1] == [value for row in rows for value in (7, row)]
    return "answered rightly" if fine else "answered wrongly"


def output_filter(contender: Contender) -> str:
    """Half of the callers want one output, half of them all."""
    some = ("y", "company")
    rows = [next(_rows) for _ in range(TOGETHER)]
    asks = [partial(contender.ask, [row, 7], row, outputs=some if at % 2 else ()) for at, row in enumerate(rows)]
    found = at_once(asks)
    named = [set(told.outputs) == ({*some} if at % 2 else {*some, "row"}) for at, told in enumerate(found)]
    right = [told.outputs["y"][1] == [7, row] for told, row in zip(found, rows, strict=True)]
    if not all(right):
        return "mixed up"
    return "each gets what it asked for" if all(named) else "some do not get what they asked for"


def mixed_shapes(contender: Contender) -> str:
    """Rows of one, two and three values."""
    rows = [next(_rows) for _ in range(TOGETHER)]
    xs = [[row, 7, 9][: (2, 1, 2, 3)[at % 4]] for at, row in enumerate(rows)]
    found = at_once([partial(contender.ask, x, row) for x, row in zip(xs, rows, strict=True)])
    fine = all(told.right(x[::-1], row) for told, x, row in zip(found, xs, rows, strict=True))
    return "shapes go apart, each is answered rightly" if fine else "merged all the same: errors, or others' values"


def strings(contender: Contender) -> str:
    """Strings, beyond ASCII."""
    words: list[list[str]] = []

    def asks() -> list[Ask]:
        words[:] = [[f"row {next(_rows)} é", "no"] for _ in range(TOGETHER)]
        return [partial(contender.ask, pair, at, "words") for at, pair in enumerate(words)]

    found = until(asks, sure, 5)
    fine = all(told.right(pair[::-1], at) for at, (told, pair) in enumerate(zip(found, words, strict=True)))
    return "kept" if fine else "not kept"


def headers(contender: Contender) -> str:
    """Callers with two different ``authorization`` headers."""

    def asks() -> list[Ask]:
        rows, _ = _crowd(contender)
        who = ({"authorization": "Bearer one"}, {"authorization": "Bearer two"})
        return [partial(contender.ask, [row, 7], row, headers=who[at % 2]) for at, row in enumerate(rows)]

    def settled(found: Sequence[Told]) -> bool:
        return {told.company for told in found} in ({TOGETHER}, {TOGETHER // 2})

    companies = {told.company for told in until(asks, settled)}
    return "they share no call" if companies == {TOGETHER // 2} else "they share one call"


def nothing(contender: Contender) -> str:
    """A request of no rows, beside 31 of one row."""
    rows, asks = _crowd(contender, count=TOGETHER - 1)
    empty, *found = at_once([partial(contender.ask_rows, [], []), *asks])
    if not all(_mine(told, row) for told, row in zip(found, rows, strict=True)):
        return "others are harmed"
    what = "200, and no rows" if empty.status == 200 else f"refused with {empty.status}"
    return f"{what}; the others get theirs"


CASES: dict[str, Callable[[Contender], str]] = {
    "two models in one window": two_models,
    "int64 above 2^53": large_integers,
    "a bad row among 31 good ones": bad_row,
    "the model says 429, 500, 503": statuses,
    "an answer with another number of rows": wrong_rows,
    "a caller goes away while it waits": disconnect,
    "a caller gives 5 ms": deadline,
    "40 rows where batches have 32": oversize,
    "half of the callers want one output": output_filter,
    "rows of one, two and three values": mixed_shapes,
    "strings": strings,
    "two `authorization` headers": headers,
    "a request of no rows": nothing,
}
"""The case in words, and what lets it happen."""
