"""`batchproxy explain`: sentences from a document, and one line where no proxy answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from batchproxy.cli import main
from batchproxy.cli.explain import REASONS, explain
from batchproxy.core.batch import Release
from batchproxy.core.errors import ConfigError

SIZES = {"max_batch_rows": 64, "declared_rows": 64, "rounded": False, "objective_ms": None}


def a_model(name: str = "resnet", pool: str = "tf", **changes: object) -> dict[str, Any]:
    """A model as ``/status.json`` has it."""
    released = {"full": 49, "idle": 495, "slot": 268}
    return {"name": name, "pool": pool, "requests": 9744, "released": released, **SIZES, **changes}


def known(model: str = "resnet", **changes: object) -> dict[str, Any]:
    """What an endpoint taught of a model."""
    figures: dict[str, Any] = {
        "batches": 812,
        "alone": 495,
        "mean_rows": 12.04,
        "one_ms": 9.2,
        "mean_ms": 11.97,
        "noise": 0.061,
    }
    figures |= {"p95_ms": 13.4, "unit": "rows"}
    return {"model": model, **figures, "gain": 9.25, "gain_low": 8.81, "gain_high": 9.64, **changes}


def an_endpoint(name: str = "tf-0", pool: str = "tf", **changes: object) -> dict[str, Any]:
    """An endpoint."""
    limits = {"max_inflight": 4, "max_full": 9, "ceiling": 4.12, "fixed": False, "draining": False}
    return {"pool": pool, "name": name, "up": True, "last_error": "", **limits, "learned": [known()], **changes}


def said(models: list[dict[str, Any]], endpoints: list[dict[str, Any]], model: str | None = None) -> list[str]:
    """The lines."""
    return list(explain({"models": models, "endpoints": endpoints}, model))


def test_what_was_learned_in_sentences() -> None:
    """The endpoint, what a model's batches cost there, and why they left."""
    cost = (
        "  On tf-0 a row alone takes 9.2 ms, a batch of 12.0 rows, the mean, 12 ms, and 95 of 100 at most 13.4 ms, "
        "give or take 6 %: batching multiplies the rows per second by 9.2 (between 8.8 and 9.6)."
    )
    left = (
        "  812 batches left since the proxy started: 61 % when the endpoint was idle, 33 % when there was room for one "
        "more, and it was its turn, 6 % when they were full."
    )

    assert [
        WORKS, "", "resnet: 9,744 requests, of 64 rows a batch at most", cost, left,
    ] == said([a_model()], [an_endpoint()])  # fmt: skip


WORKS = "tf-0 works on 4.1 batches at once (learned from 812 batches), so it gets at most 4, or 9 where they are full."


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"up": False, "last_error": "connection refused"}, "tf-0 is not used now: connection refused"),
        ({"fixed": True}, "tf-0 gets at most 4 batches at once, as configured (max_inflight)."),
        ({"fixed": True, "max_inflight": 1}, "tf-0 gets at most 1 batch at once, as configured (max_inflight)."),
        ({"learned": []}, "tf-0 was sent no batch yet; it starts with 4 batches at once."),
        ({"draining": True}, "It gets nothing now until it is empty, to time a batch alone."),
    ],
)
def test_an_endpoint_in_other_states(changes: dict[str, Any], expected: str) -> None:
    """Each has its sentence."""
    assert said([], [an_endpoint(**changes)])[0].endswith(expected)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"mean_rows": 1.0}, "give or take 6 %; its batches have one row, so there was nothing to gain."),
        (
            {"gain_low": 1.0, "gain_high": 12.04},
            "by 9.2 (between 1.0 and 12), or perhaps by nothing: too few sizes were seen to be sure.",
        ),
        ({"gain": 23.4, "gain_low": 21.1, "gain_high": 26.0}, "rows per second by 23 (between 21 and 26)."),
    ],
)
def test_a_gain_in_other_states(changes: dict[str, Any], expected: str) -> None:
    """Nothing to gain, nothing known, much gained."""
    assert said([a_model()], [an_endpoint(learned=[known(**changes)])])[3].endswith(expected)


def test_only_the_model_that_is_asked_for() -> None:
    """With the endpoints of its pool."""
    models = [a_model(), a_model("bert"), a_model("other", "p")]
    endpoints = [an_endpoint(learned=[known(), known("bert")]), an_endpoint("x", "p", learned=[known("other")])]
    lines = said(models, endpoints, "bert")

    assert 5 == len(lines)
    assert lines[0].startswith("tf-0 works")
    assert lines[2].startswith("bert: ")


def test_before_anything_happened() -> None:
    """There is a sentence for it; rare reasons are not none."""
    none = said([a_model(released={}, requests=0)], [an_endpoint(learned=[])])
    rare = said([a_model(released={"idle": 1000, "new": 1}, requests=1)], [])

    assert "  No batch has left since the proxy started." == none[-1]
    assert "No model was asked for yet." == said([], [])[-1]
    assert rare[-1].endswith("100 % when the endpoint was idle, under 1 % when new.")


def test_every_reason_has_its_words() -> None:
    """Whatever a batch may leave for."""
    assert {release.value for release in Release} == set(REASONS)


def test_an_unknown_model_is_told_with_the_nearest_one() -> None:
    """Or with all there are."""
    with pytest.raises(ConfigError, match="the proxy knows no model 'restnet'; did you mean 'resnet'"):
        said([a_model()], [], "restnet")
    with pytest.raises(ConfigError, match="the proxy knows no model 'x'; it has: resnet"):
        said([a_model()], [], "x")
    with pytest.raises(ConfigError, match="the proxy knows no model 'x'; it has sent nothing for any model yet"):
        said([], [], "x")


# ---------------------------------------------------------------- asking


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[str]:
    """The host:port of a server that answers anything with this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body if self.path == "/status.json" else b"")

        def log_message(self, *args: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line: exit status, stdout, stderr."""

    def run(*argv: str) -> tuple[int, str, str]:
        status = main(["explain", *argv])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.mark.parametrize("form", ["{}", "http://{}", "http://{}/"])
def test_a_proxy_is_asked(say: Callable[..., tuple[int, str, str]], form: str) -> None:
    """By its address, with or without the scheme."""
    document = {"models": [a_model()], "endpoints": [an_endpoint()]}
    with answering(json.dumps(document).encode()) as address:
        status, out, err = say("--admin", form.format(address), "resnet")

    assert (0, "") == (status, err)
    assert "\n".join(explain(document)) + "\n" == out


@pytest.mark.parametrize(
    ("body", "code", "expected"),
    [
        (b"", 404, "answers 404 to /status.json; is it running, and is this its admin port"),
        (b"no JSON", 200, "answers no JSON to /status.json; is it running, and"),
        (b"[]", 200, "/status.json is not that of this version of batchproxy; is it running, and"),
    ],
)
def test_somebody_else_answers(say: Callable[..., tuple[int, str, str]], body: bytes, code: int, expected: str) -> None:
    """One line, and status 2."""
    with answering(body, code) as address:
        status, out, err = say("--admin", address)

    assert (2, "", 1) == (status, out, err.count("\n"))
    assert expected in err


@pytest.mark.parametrize(
    ("admin", "expected"),
    [
        ("http://127.0.0.1:9", "no proxy answers at http://127.0.0.1:9: [Errno 111] Connection refused; is it running"),
        ("ftp://127.0.0.1", "--admin: expected http://HOST:PORT, got 'ftp://127.0.0.1'"),
        ("127.0.0.1:port", "no proxy answers at http://127.0.0.1:port: "),
    ],
)
def test_nobody_answers(say: Callable[..., tuple[int, str, str]], admin: str, expected: str) -> None:
    """One line that says what to look at, and status 2."""
    status, out, err = say("--admin", admin)

    assert (2, "", 1) == (status, out, err.count("\n"))
    assert expected in err


def test_who_is_left_out_and_which_lanes_ride_in_small_batches() -> None:
    """Both are for a while."""
    out = an_endpoint(ejected=True, last_error="5 calls in a row failed, the last with INTERNAL")
    lanes = [
        {"signature": "serving_default", "max_rows": 32, "clean_left": 12},
        {"signature": "other", "max_rows": 1, "clean_left": 1},
    ]
    lines = said([a_model(quarantine=lanes)], [out])

    assert "tf-0 is not used now: 5 calls in a row failed, the last with INTERNAL" == lines[0]
    assert (
        "  Some batches of 'serving_default' were refused: at most 32 of its rows ride together until 12 clean batches "
        "have passed."
    ) == lines[-3]
    assert (
        "  Some batches of 'other' were refused: at most 1 of its rows ride together until 1 clean batch has passed."
    ) == lines[-2]


def test_what_was_learned_of_sizes() -> None:
    """Another cap than configured, rounding, an objective; and what rows are told by."""
    model = a_model(max_batch_rows=1024, rounded=True, objective_ms=50.0)
    lines = said([model], [an_endpoint(learned=[known(unit="padded")])])

    assert (
        "resnet: 9,744 requests, of 1,024 rows a batch at most (learned; 64 at first), rounded up to powers of two, "
        "since it compiles each size; answers are wanted within 50 ms, so none is larger than that allows"
    ) in lines
    assert any("give or take 6 %, told by its longest row: batching" in line for line in lines)
