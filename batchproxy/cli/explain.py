"""``batchproxy explain``: asks a running proxy what it learned, and says it in sentences. Decides nothing."""

from __future__ import annotations

import argparse
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException
from typing import Any

from batchproxy.core.errors import ConfigError
from batchproxy.documents import nearest

EPILOG = """\
Asks the admin port of a running proxy (--admin_port) what it learned from the batches it sent, and why they
left when they did. The live page at the same address shows the same figures as they change.

examples:
  batchproxy explain
  batchproxy explain --admin http://10.0.0.7:8502 resnet"""

ADMIN = "http://127.0.0.1:8502"

TIMEOUT_S = 10.0
"""The page is made in a millisecond: a proxy that needs longer is not there, or not one."""

REASONS = {
    "idle": "the endpoint was idle",
    "full": "they were full",
    "slot": "there was room for one more, and it was its turn",
    "alone": "they may not be merged, so they wait for nothing",
    "timed": "the endpoint had been emptied, to time a batch that has it to itself",
    "deadline": "the time of one of their callers was nearly up",
    "shape": "they have no axis that rows could be merged along, so they wait for nothing",
    "again": "they were sent again after a call that did not run",
    "hedge": "they took long where they were sent first, so they were sent elsewhere, too",
    "bisect": "they were a part of one that was rejected",
    "canary": "they checked an earlier one",
}
"""Of why a batch left, by ``Release``'s values: "... when ...", as it is said of several."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.epilog = EPILOG
    parser.add_argument("--admin", default=ADMIN, metavar="URL", help=f"where its admin port is (default {ADMIN})")
    parser.add_argument("model", nargs="?", metavar="MODEL", help="only this model (default all)")


def run(args: argparse.Namespace) -> int:
    """Print what was learned and return 0.

    Raises:
        ConfigError: no proxy answers there, or it has no such model.
    """
    status = _ask(args.admin)
    print("\n".join(explain(status, args.model)))
    return 0


def _ask(admin: str) -> Any:
    url = f"{admin if '://' in admin else f'http://{admin}'}".rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--admin: expected http://HOST:PORT, got {admin!r}")
    try:
        with urllib.request.urlopen(f"{url}/status.json", timeout=TIMEOUT_S) as answer:  # noqa: S310 - checked above
            status = json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise ConfigError(f"{url} answers {error.code} to /status.json; {_MAYBE}") from error
    except urllib.error.URLError as error:
        raise ConfigError(f"no proxy answers at {url}: {error.reason}; {_MAYBE}") from error
    except (OSError, HTTPException) as error:
        raise ConfigError(f"no proxy answers at {url}: {error!r}; {_MAYBE}") from error
    except ValueError as error:
        raise ConfigError(f"{url} is no address, or answers no JSON to /status.json; {_MAYBE}") from error
    if not (isinstance(status, dict) and {"models", "endpoints"} <= status.keys()):
        raise ConfigError(f"{url}/status.json is not that of this version of batchproxy; {_MAYBE}")
    return status


_MAYBE = "is it running, and is this its admin port (--admin_port, 8502 unless told otherwise)?"


# ---------------------------------------------------------------- the sentences


def explain(status: Mapping[str, Any], model: str | None = None) -> Iterator[str]:
    """Lines for people.

    Args:
        status: the document of ``/status.json``.
        model: the only one to speak of; None: all.

    Raises:
        ConfigError: there is no such model.
    """
    names = [entry["name"] for entry in status["models"]]
    if model is not None and model not in names:
        known = f"it has: {', '.join(names)}" if names else "it has sent nothing for any model yet"
        raise ConfigError(f"the proxy knows no model {model!r}; {nearest(model, names, known)}")
    models = [entry for entry in status["models"] if model in {None, entry["name"]}]
    pools = {entry["pool"] for entry in models}
    for endpoint in status["endpoints"]:
        if model is None or endpoint["pool"] in pools:
            yield _endpoint(endpoint)
    if not models:
        yield "No model was asked for yet."
    for entry in models:
        yield ""
        yield from _model(entry, status["endpoints"])


def _endpoint(endpoint: Mapping[str, Any]) -> str:
    name = endpoint["name"]
    if not endpoint["up"] or endpoint.get("ejected"):
        return f"{name} is not used now: {endpoint['last_error']}"
    partial, full, batches = endpoint["max_inflight"], endpoint["max_full"], _batches(endpoint)
    if endpoint["fixed"]:
        return f"{name} gets at most {_many(partial, 'batch')} at once, as configured (max_inflight)."
    if not batches:
        return f"{name} was sent no batch yet; it starts with {_many(partial, 'batch')} at once."
    emptied = " It gets nothing now until it is empty, to time a batch alone." if endpoint["draining"] else ""
    return (
        f"{name} works on {endpoint['ceiling']:.1f} batches at once (learned from {_many(batches, 'batch')}), "
        f"so it gets at most {partial}, or {full} where they are full.{emptied}"
    )


def _model(model: Mapping[str, Any], endpoints: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield f"{model['name']}: {_many(model['requests'], 'request')}, {_sizes(model)}"
    name = model["name"]
    for endpoint in endpoints:
        for known in endpoint["learned"]:
            if endpoint["pool"] == model["pool"] and known["model"] == name:
                yield f"  On {endpoint['name']} {_cost(known)}"
    for lane in model.get("quarantine", ()):
        left, rows = lane["clean_left"], lane["max_rows"]
        yield (
            f"  Some batches of {lane['signature']!r} were refused: at most {rows} of its rows ride together until "
            f"{_many(left, 'clean batch')} {'has' if left == 1 else 'have'} passed."
        )
    yield f"  {_released(model['released'])}"


def _sizes(model: Mapping[str, Any]) -> str:
    most, declared = model["max_batch_rows"], model["declared_rows"]
    learned = f" (learned; {declared} at first)" if most != declared else ""
    rounded = ", rounded up to powers of two, since it compiles each size" if model["rounded"] else ""
    objective = model["objective_ms"]
    wanted = f"; answers are wanted within {_ms(objective)}, so none is larger than that allows" if objective else ""
    return f"of {most:,} rows a batch at most{learned}{rounded}{wanted}"


COUNTED = {"bytes": ", told by the bytes of its rows", "padded": ", told by its longest row"}
"""How what a batch costs is told where its rows are of different lengths."""


def _cost(known: Mapping[str, Any]) -> str:
    rows = known["mean_rows"]
    one = f"a row alone takes {_ms(known['one_ms'])}"
    noise = f"give or take {_percent(known['noise'])}{COUNTED.get(known['unit'], '')}"
    if rows < 1.05:  # a mean that reads as one
        return f"{one}, {noise}; its batches have one row, so there was nothing to gain."
    low, high = known["gain_low"], known["gain_high"]
    gain = f"multiplies the rows per second by {_times(known['gain'])} (between {_times(low)} and {_times(high)})"
    verdict = "" if low > 1.0 else ", or perhaps by nothing: too few sizes were seen to be sure"
    batch = (
        f"a batch of {rows:.1f} rows, the mean, {_ms(known['mean_ms'])}, and 95 of 100 at most {_ms(known['p95_ms'])}"
    )
    return f"{one}, {batch}, {noise}: batching {gain}{verdict}."


def _released(released: Mapping[str, int]) -> str:
    total = sum(released.values())
    if not total:
        return "No batch has left since the proxy started."
    shares = sorted(released.items(), key=lambda item: -item[1])
    parts = [f"{_percent(count / total)} when {REASONS.get(reason, reason)}" for reason, count in shares]
    return f"{_many(total, 'batch')} left since the proxy started: {', '.join(parts)}."


def _batches(endpoint: Mapping[str, Any]) -> int:
    return sum(known["batches"] for known in endpoint["learned"])


def _many(count: int, noun: str) -> str:
    """A number with its noun.

    >>> _many(1, "batch"), _many(1200, "request")
    ('1 batch', '1,200 requests')
    """
    plural = "" if count == 1 else "es" if noun.endswith("ch") else "s"
    return f"{count:,} {noun}{plural}"


def _ms(milliseconds: float) -> str:
    """Three digits that say something.

    >>> _ms(0.01234), _ms(9.2), _ms(1234.5)
    ('0.0123 ms', '9.2 ms', '1,234 ms')
    """
    return f"{milliseconds:,.0f} ms" if milliseconds >= 100 else f"{milliseconds:.3g} ms"


def _times(factor: float) -> str:
    """A factor, to a tenth where that says something.

    >>> _times(3.14), _times(17.2)
    ('3.1', '17')
    """
    return f"{factor:.1f}" if factor < 10 else f"{factor:.0f}"


def _percent(share: float) -> str:
    """A share that does not round to nothing.

    >>> _percent(0.614), _percent(0.001)
    ('61 %', 'under 1 %')
    """
    return f"{100 * share:.0f} %" if share >= 0.01 else "under 1 %"
