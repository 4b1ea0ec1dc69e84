"""One of the zoo's models behind Triton's Python backend: the ``model.py`` of each. Runs inside Triton."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as triton

from tests.servers.zoo import ZOO

CODES = {400: "INVALID_ARG", 429: "UNAVAILABLE", 500: "INTERNAL", 503: "UNAVAILABLE"}
"""Triton's words for what a model says; it has none for 429."""


class TritonPythonModel:
    """What Triton makes one of."""

    def initialize(self, args: dict[str, str]) -> None:
        self._model = ZOO[args["model_name"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        if self._model.batched:
            return self._answers(requests)
        return [answer for request in requests for answer in self._answers([request])]

    def _answers(self, requests: list[Any]) -> list[Any]:
        """Several requests run as one, as Triton's other backends do it."""
        arrays = {
            spec.name: [triton.get_input_tensor_by_name(request, spec.name).as_numpy() for request in requests]
            for spec in self._model.inputs
        }
        try:
            outputs = self._model.run({name: np.concatenate(several) for name, several in arrays.items()})
        except ValueError as error:
            code = getattr(triton.TritonError, CODES[getattr(error, "status", 500)])
            return [triton.InferenceResponse([], triton.TritonError(str(error), code)) for _ in requests]
        ends = np.cumsum([len(array) for array in arrays["row"]])[:-1]
        parts = {name: np.split(array, ends) for name, array in outputs.items()}
        return [
            triton.InferenceResponse(
                [
                    triton.Tensor(name, np.ascontiguousarray(several[at]))
                    for name, several in parts.items()
                    if name in set(request.requested_output_names())
                ]
            )
            for at, request in enumerate(requests)
        ]
