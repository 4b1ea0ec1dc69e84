"""One of the zoo's models behind Triton's Python backend: the ``model.py`` of each. Runs inside Triton."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as triton

from tests.servers import dlpack
from tests.servers.zoo import BF16, ZOO, Array, Tensor

CODES = {400: "INVALID_ARG", 429: "UNAVAILABLE", 500: "INTERNAL", 503: "UNAVAILABLE"}
"""Triton's words for what a model says; it has none for 429."""


class TritonPythonModel:
    """What Triton makes one of."""

    def initialize(self, args: dict[str, str]) -> None:
        self._model = ZOO[args["model_name"]]

    def execute(self, requests: list[Any]) -> list[Any] | None:
        if self._model.decoupled:
            for request in requests:
                self._send(request)
            return None
        if self._model.batched:
            return self._answers(requests)
        return [answer for request in requests for answer in self._answers([request])]

    def _send(self, request: Any) -> None:
        """An answer for each row."""
        sender = request.get_response_sender()
        inputs = {spec.name: triton.get_input_tensor_by_name(request, spec.name) for spec in self._model.inputs}
        try:
            outputs = self._model.run({name: tensor.as_numpy() for name, tensor in inputs.items()})
        except ValueError as error:
            refused = triton.InferenceResponse([], triton.TritonError(str(error), triton.TritonError.INVALID_ARG))
            sender.send(refused, flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            return
        for at in range(len(outputs["row"])):
            tensors = [_written(name, array[at : at + 1], bfloat=False) for name, array in outputs.items()]
            sender.send(triton.InferenceResponse(tensors))
        sender.send(flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _answers(self, requests: list[Any]) -> list[Any]:
        """Several requests run as one, as Triton's other backends do it."""
        arrays = {
            spec.name: [_read(triton.get_input_tensor_by_name(request, spec.name), spec) for request in requests]
            for spec in self._model.inputs
        }
        try:
            outputs = self._model.run({name: np.concatenate(several) for name, several in arrays.items()})
        except ValueError as error:
            code = getattr(triton.TritonError, CODES[getattr(error, "status", 500)])
            return [triton.InferenceResponse([], triton.TritonError(str(error), code)) for _ in requests]
        ends = np.cumsum([len(array) for array in arrays["row"]])[:-1]
        parts = {name: np.split(array, ends) for name, array in outputs.items()}
        bfloats = {spec.name for spec in self._model.outputs if spec.datatype == BF16}
        return [
            triton.InferenceResponse(
                [
                    _written(name, several[at], bfloat=name in bfloats)
                    for name, several in parts.items()
                    if name in set(request.requested_output_names())
                ]
            )
            for at, request in enumerate(requests)
        ]


def _read(tensor: Any, spec: Tensor) -> Array:
    array: Array = dlpack.bits_of(tensor.to_dlpack()) if spec.datatype == BF16 else tensor.as_numpy()
    return array


def _written(name: str, array: Array, *, bfloat: bool) -> Any:
    if bfloat:
        return triton.Tensor.from_dlpack(name, dlpack.capsule_of(array))
    return triton.Tensor(name, np.ascontiguousarray(array))
