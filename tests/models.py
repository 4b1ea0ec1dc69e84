"""Model functions for tests that run the proxy as a process: ``python:tests.models:NAME``."""

from __future__ import annotations

import threading
import time

import numpy as np

from batchproxy.backends.callable import signature
from batchproxy.core.columns import Array

CALL_S = 0.005
"""What a call of ``numbered`` takes: the issue's 5 ms."""

gate = threading.Event()
"""Holds ``gated`` until ``open_gate`` is called."""


@signature(
    inputs={"number": ("int64", (None,)), "weight": ("float32", (None, 2))},
    outputs={"number": ("int64", (None,)), "name": ("string", (None,)), "sum": ("float32", (None,))},
)
def numbered(inputs: dict[str, Array]) -> dict[str, Array]:
    """Each row comes back with its number, its number as text, and the sum of its weights; 5 ms a call."""
    time.sleep(CALL_S)
    numbers = inputs["number"]
    names = np.array([b"row-%d" % number for number in numbers.tolist()], dtype=object)
    return {"number": numbers, "name": names, "sum": inputs["weight"].sum(axis=1)}


@signature(inputs={"x": ("float32", (None,))}, outputs={"y": ("float32", (None,))})
def gated(inputs: dict[str, Array]) -> dict[str, Array]:
    """Doubles its input, but rows of 0 hold the call until ``open_gate`` is called."""
    if (inputs["x"] == 0).any():
        gate.wait(30)
    return {"y": inputs["x"] * 2}


@signature(inputs={}, outputs={"opened": ("bool", (1,))})
def open_gate(inputs: dict[str, Array]) -> dict[str, Array]:
    """Lets every call of ``gated`` go."""
    gate.set()
    return {"opened": np.array([True])}


@signature(inputs={"x": ("float32", (None,))}, outputs={"y": ("float32", (None,))})
def picky(inputs: dict[str, Array]) -> dict[str, Array]:
    """Half plus two; numbers below zero are refused by name. 5 ms a call, so that callers meet in batches."""
    time.sleep(CALL_S)
    bad = [number for number in inputs["x"].tolist() if number < 0]
    if bad:
        raise ValueError(f"refused: {bad}")
    return {"y": inputs["x"] / 2 + 2}


@signature(inputs={"x": ("float32", (None,))}, outputs={"total": ("float32", ())})
def total(inputs: dict[str, Array]) -> dict[str, Array]:
    """One number for all rows: what must never be batched."""
    return {"total": inputs["x"].sum(dtype=np.float32)}


@signature(inputs={"x": ("float32", (2,))}, outputs={"y": ("float32", (2,))})
def pairs(inputs: dict[str, Array]) -> dict[str, Array]:
    """A model with a leading dimension of 2: refuses all else, as a graph would."""
    if inputs["x"].shape != (2,):
        raise ValueError(f"expected shape (2,), got {inputs['x'].shape}")
    return {"y": inputs["x"] + 1}


def undeclared(inputs: dict[str, Array]) -> dict[str, Array]:
    """The identity, declared as nothing."""
    return dict(inputs)


def mean_of_all(inputs: dict[str, Array]) -> dict[str, Array]:
    """Says nothing of itself, and answers one row however many were sent."""
    time.sleep(CALL_S)
    return {"mean": inputs["x"].mean(axis=0, keepdims=True)}


@signature(inputs={"x": ("float32", (None,))}, outputs={"y": ("float32", (None,))})
def centred(inputs: dict[str, Array]) -> dict[str, Array]:
    """What is left without the mean of all rows: each row's answer depends on its neighbours. 5 ms a call."""
    time.sleep(CALL_S)
    return {"y": inputs["x"] - inputs["x"].mean()}
