"""Engines over fake backends, and what tests do with them. No tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from batchproxy.core.policy import Policy
from batchproxy.core.request import Reply, Request
from batchproxy.engine import Engine, build_engine
from batchproxy.observe import Observer
from batchproxy.testing import FakeBackend, Gate, ManualClock, a_request, numbers_of

Answer = asyncio.Future[Reply]


def an_engine(
    *backends: FakeBackend,
    policy: Policy | None = None,
    max_inflight: int = 1,
    clock: Callable[[], float] | None = None,
    observer: Observer | None = None,
) -> Engine:
    """An engine for model ``m`` whose endpoints are up."""
    engine = build_engine(
        "pool",
        {f"e{number}": backend for number, backend in enumerate(backends)},
        {"m": policy or Policy()},
        max_inflight=max_inflight,
        clock=clock or ManualClock(),
        observer=observer,
    )
    for endpoint in engine.scheduler.balancer.endpoints:
        endpoint.up = True
    return engine


def submit(engine: Engine, *requests: Request) -> list[Answer]:
    """Futures of the answers."""
    answers: list[Answer] = []
    for request in requests:
        answers.append(asyncio.get_running_loop().create_future())
        engine.submit(request, answers[-1])
    return answers


def single(number: int, deadline: float | None = None) -> Request:
    """A request of one row with this number."""
    return a_request(first=number, deadline=deadline)


async def numbers(answers: Sequence[Answer]) -> list[list[int]]:
    """The row numbers that each answer stands for."""
    return [[number // 2 for number in numbers_of((await answer).columns, "y")] for answer in answers]


async def held(
    engine: Engine, backend: FakeBackend, *requests: Request, stubborn: bool = False
) -> tuple[Gate, list[Answer]]:
    """Requests in flight in one call, and the gate that holds it."""
    gate = backend.hold(stubborn=stubborn)
    answers = submit(engine, *requests)
    await gate.entered.wait()
    return gate, answers
