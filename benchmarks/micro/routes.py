"""The whole path without sockets: a request's bytes in, its answer's bytes out, by way of codec, queue and batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import uvloop

from batchproxy.codecs import v2_grpc, v2_rest
from batchproxy.codecs.tfs_grpc import PREDICT
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import ModelInfo
from batchproxy.frontends.directory import Directory, Served
from batchproxy.frontends.grpc_routes import GrpcRoutes
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.metrics import Metrics
from batchproxy.wire.http1_head import Headers
from benchmarks.micro.engine import null_engine
from benchmarks.micro.grpc_codec import SIGNATURE, predict_request
from benchmarks.micro.rest_codec import predict_body
from benchmarks.micro.timing import Case, Round

REQUESTS = 512
WIDTHS = (3, 784)
PATH = "/v1/models/m:predict"
KEY = BatchKey("m", None, "serving_default")


def cases() -> Sequence[Case]:
    """512 requests that arrive together, in batches of 64, metrics on."""
    return [
        *(Case(f"bytes to bytes, gRPC, 1 x {width}, tensor_content", partial(_grpc, width)) for width in WIDTHS),
        *(Case(f"bytes to bytes, REST, 1 x {width}", partial(_rest, width)) for width in WIDTHS),
        *(Case(f"bytes to bytes, v2 gRPC, 1 x {width}", partial(_v2_grpc, width)) for width in WIDTHS),
        *(Case(f"bytes to bytes, v2 REST, 1 x {width}, buffers", partial(_v2_rest, width, True)) for width in WIDTHS),
        *(Case(f"bytes to bytes, v2 REST, 1 x {width}, JSON", partial(_v2_rest, width, False)) for width in WIDTHS),
    ]


def _grpc(width: int) -> Round:
    messages = [predict_request("m", _row(width, number), content=True) for number in range(REQUESTS)]

    def handle(routes: GrpcRoutes, number: int, respond: Callable[[object], None]) -> object:
        return routes.handle(PREDICT, messages[number], None, respond)

    return _all_at_once(lambda directory, metrics, clock: partial(handle, GrpcRoutes(directory, metrics, clock)))


def _rest(width: int) -> Round:
    bodies = [predict_body(_row(width, number)) for number in range(REQUESTS)]

    def handle(routes: RestRoutes, number: int, respond: Callable[[object], None]) -> object:
        return routes.handle("POST", PATH, {}, bodies[number], respond)

    def make(directory: Directory, metrics: Metrics, clock: Callable[[], float]) -> Callable[..., object]:
        return partial(handle, RestRoutes(directory, metrics, clock, timeout_s=30.0, deadline_header=None))

    return _all_at_once(make)


def _v2_grpc(width: int) -> Round:
    """Requests with an id each."""
    messages = []
    for number in range(REQUESTS):
        message = v2_grpc.encode_infer_request(KEY, {"x": ArrayColumn(_row(width, number))})
        messages.append(message + b"\x1a\x03%03d" % number)

    def handle(routes: GrpcRoutes, number: int, respond: Callable[[object], None]) -> object:
        return routes.handle(v2_grpc.MODEL_INFER, messages[number], None, respond)

    return _all_at_once(lambda directory, metrics, clock: partial(handle, GrpcRoutes(directory, metrics, clock)))


def _v2_rest(width: int, binary: bool) -> Round:
    """Requests with an id each; decimals in JSON have four digits at most, as in ``predict_body``."""
    asked = []
    for number in range(REQUESTS):
        row = _row(width, number)
        column = ArrayColumn(row if binary else np.round(row.astype(float), 4))
        body, length = v2_rest.encode_infer_request(KEY, {"x": column}, binary=binary)
        opening = b'{"id":"%03d",' % number
        fields = {} if length is None else {b"inference-header-content-length": b"%d" % (length + len(opening) - 1)}
        asked.append((Headers(fields), opening + (body if binary else body.replace(b"FP64", b"FP32"))[1:]))

    def handle(routes: RestRoutes, number: int, respond: Callable[[object], None]) -> object:
        headers, body = asked[number]
        return routes.handle("POST", "/v2/models/m/infer", headers, body, respond)

    def make(directory: Directory, metrics: Metrics, clock: Callable[[], float]) -> Callable[..., object]:
        return partial(handle, RestRoutes(directory, metrics, clock, timeout_s=30.0, deadline_header=None))

    return _all_at_once(make)


def _row(width: int, number: int) -> np.ndarray:
    return np.random.default_rng(number).random((1, width), np.float32)


def _all_at_once(make: Callable[[Directory, Metrics, Callable[[], float]], Callable[..., object]]) -> Round:
    loop = uvloop.new_event_loop()
    metrics = Metrics(lambda: ())
    engine = null_engine(["m"], metrics)
    directory = Directory([Served(ModelInfo("m", 1, {"serving_default": SIGNATURE}), engine)])
    handle = make(directory, metrics, engine.clock)
    answers: list[object] = []

    async def everybody() -> None:
        answers.clear()
        answered = loop.create_future()

        def respond(answer: object) -> None:
            answers.append(answer)
            if len(answers) == REQUESTS:
                answered.set_result(None)

        for number in range(REQUESTS):
            handle(number, respond)
        await answered

    def work() -> int:
        loop.run_until_complete(everybody())
        return REQUESTS

    return work
