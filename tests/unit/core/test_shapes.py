"""Tests of batchproxy.core.shapes."""

from __future__ import annotations

import pytest

from batchproxy.core.shapes import DEFAULT_SIGNATURE, UNDECLARED, ModelInfo, Shape, Signature, TensorSpec


@pytest.mark.parametrize(
    ("shape", "is_open"),
    [(None, True), ((None,), True), ((None, 3), True), ((), False), ((1,), False), ((1, None), False)],
)
def test_leading_dimension(shape: Shape | None, is_open: bool) -> None:
    """Open, or unknown as a whole; a scalar has none, and a fixed one is not open."""
    assert is_open == TensorSpec("float32", shape).leading_open


def test_signature_is_batchable_when_every_tensor_is() -> None:
    """One input or output with a fixed leading dimension forbids batching, as does having no input."""
    free, fixed = TensorSpec("float32", (None,)), TensorSpec("float32", (2,))

    assert Signature({"x": free}, {"y": free}).batchable
    assert not Signature({"x": free, "z": fixed}, {"y": free}).batchable
    assert not Signature({"x": free}, {"y": fixed}).batchable
    assert not Signature({}, {"y": free}).batchable


def test_undeclared_models_are_batchable() -> None:
    """A model that says nothing of itself is tried, and each answer is checked."""
    info = ModelInfo("m", 1, {DEFAULT_SIGNATURE: UNDECLARED})

    assert info.signatures["serving_default"].batchable
