"""How a pool runs its ``onnx:`` endpoints, as a typed value. Nothing is loaded here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Some = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class VersionPolicyConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which versions are served, TF Serving's ``model_version_policy``; one of the three at most.

    Args:
        latest: the so many highest ones; ``None``, and none of the others: one.
        specific: these, as far as they are there.
        all: every one.
    """

    latest: Some | None = None
    specific: tuple[Number, ...] = ()
    all: bool = False


class OnnxConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How ``onnx:`` endpoints are run; see `batchproxy.backends.onnx.OnnxBackend`.

    Args:
        threads: that a model may use, and calls of it that run at once; ``None``: the cores there are.
        threads_per_call: that one of its calls may use; ``None``: all of them.
        providers: onnxruntime's execution providers, the one to prefer first.
        provider_options: a provider's name to its options, all of them text.
        model_version_policy: of the version folders, which are served.
        version_labels: label to version.
    """

    threads: Some | None = None
    threads_per_call: Some | None = None
    providers: Annotated[tuple[str, ...], Meta(min_length=1)] = ("CPUExecutionProvider",)
    provider_options: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)
    model_version_policy: VersionPolicyConfig = VersionPolicyConfig()
    version_labels: dict[str, Number] = msgspec.field(default_factory=dict)


def problems(path: str, onnx: OnnxConfig) -> Iterator[tuple[str, str]]:
    """What the types cannot say: the key's path, and what is wrong there."""
    policy = onnx.model_version_policy
    if sum([policy.latest is not None, bool(policy.specific), policy.all]) > 1:
        yield f"{path}.model_version_policy", "latest, specific and all exclude each other; keep one"
    if onnx.threads and onnx.threads_per_call and onnx.threads_per_call > onnx.threads:
        yield f"{path}.threads_per_call", f"the model has {onnx.threads} threads; give that many at most"
    for name in onnx.provider_options:
        if name not in onnx.providers:
            yield f"{path}.provider_options.{name}", f"it is none of the providers: {', '.join(onnx.providers)}"
    for label in onnx.version_labels:
        if not label or "/" in label or ":" in label:
            yield f"{path}.version_labels", f"{label!r} cannot stand in a path: use no '/' and no ':'"
