"""docs/reliability.md as text, made from the table that the tests go by. ``make docs`` writes it."""

from __future__ import annotations

from pathlib import Path

from tests.faults.script import Fault
from tests.faults.table import APART, DOES, OTHERS, OVER_HTTP1, protocols_of, sees

HEAD = """\
# Reliability: what a bad server does to callers

Generated from `tests/faults/table.py` by `make docs`, but for its last section.

Each line is a test with a `batchproxy serve` process in front of a server that fails on purpose: four callers, each a
row that tells whose it is, share a batch, and a fault strikes it. Whatever happens, nobody hangs, nobody gets
another's row, nobody reads a text that names another's data, and the next call is served.

Callers by REST of servers with a REST door, by gRPC of servers with a gRPC door, and by REST of servers that only
have a gRPC door (bridged), all with TensorFlow Serving's APIs; and callers of the Open Inference Protocol (v2) of
servers of that protocol, by REST and by gRPC. There is one server, so "another server" does not help; where there is
one, callers notice nothing of what is tried elsewhere (`tests/faults/test_elsewhere.py`). What a lone request is told
is what the server says to it, good or bad: the same as in a direct call.

| Fault | By | Strikes one call: callers see | Strikes each call: callers see | The proxy | Test |
|---|---|---|---|---|---|
"""

SERVERS = """
## Servers as a whole, and callers

| Fault | Callers see | The proxy | Test |
|---|---|---|---|
"""

FOOT = """
## All of it at once

`make soak` runs a proxy for 10 minutes in front of four servers of which each call may meet any of these faults:
1,000,000 requests with rows of their own by REST and gRPC, servers killed and started again, callers who give up, all
by a schedule that `SEED` reproduces. It counts answers that are wrong, crossed (another's), lost or hanging, which
must be 0, and the proxy's memory and descriptors, which must stay flat. `make test` runs it for less than a minute;
`SECONDS=60` sets the time.

2026-11-21, two cores, 192 callers: 1,319,836 requests in 600 s, 67 kills, 66 reloads; **0 wrong, crossed, lost or
hanging**; 58 MiB at the start, 63 in the middle and at the end.

`python -m benchmarks kill` measures what callers notice while one of three servers is killed again and again,
`python -m benchmarks handover` while ten processes take the listening sockets over from each other. What other batchers
do to those who share a call is [compared](comparison.md).
"""


OWN = "\n## Health, retries and overload\n"
"""Where what is written by hand begins."""

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def reliability_page() -> str:
    """The whole page; what is written by hand is left as it is."""
    _, own, text = PAGE.read_text().partition(OWN)
    rows = [_row(fault, protocol) for fault in Fault if fault not in APART for protocol in protocols_of(fault)]
    others = [
        f"| {fault} | {seen} | {does} | `{where}` `{name}` |\n"
        for fault, seen, does, test in OTHERS
        for where, _, name in (test.partition("::"),)
    ]
    return "".join((HEAD, *rows, SERVERS, *others, FOOT, own, text))


def _row(fault: Fault, protocol: str) -> str:
    once, always = (sees(fault, protocol, always=always) for always in (False, True))
    where = f"`test_faults.py` `[{protocol}-{fault.name}]`"
    return f"| {fault.value} | {protocol} | {once} | {always} | {_does(fault, protocol)} | {where} |\n"


def _does(fault: Fault, protocol: str) -> str:
    """What the proxy does; of a text with parts by protocol, the server's protocol decides."""
    text = DOES[fault]
    if "REST: " not in text:
        return text
    head, _, rest = text.partition("REST: ")
    by_rest, _, by_grpc = rest.partition("; gRPC: ")
    return head + (by_rest if protocol in OVER_HTTP1 else by_grpc)
