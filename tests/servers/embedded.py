"""The zoo inside the proxy's own process: ``python:tests.servers.embedded:NAME``."""

from __future__ import annotations

from batchproxy.backends.callable import Function, signature
from batchproxy.codecs import _dtypes
from batchproxy.core.columns import Array
from tests.servers.zoo import MODELS, Model, Tensor


def _declared(tensors: tuple[Tensor, ...]) -> dict[str, tuple[str, tuple[int | None, ...]]]:
    found = {}
    for spec in tensors:
        row = _dtypes.by_v2(spec.datatype)
        assert row is not None, spec
        found[spec.name] = (row.name, (None, *spec.row))
    return found


def _function(model: Model) -> Function:
    @signature(inputs=_declared(model.inputs), outputs=_declared(model.outputs))
    def run(inputs: dict[str, Array]) -> dict[str, Array]:
        return model.run(inputs)

    return run


globals().update({name: _function(model) for name, model in MODELS.items() if name != "mlp"})
