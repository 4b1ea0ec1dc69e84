"""One of the zoo's models behind Triton's Python backend: the ``model.py`` of each. Runs inside Triton."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as triton

from tests.servers.zoo import MODELS


class TritonPythonModel:
    """What Triton makes one of."""

    def initialize(self, args: dict[str, str]) -> None:
        self._model = MODELS[args["model_name"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        inputs = {
            spec.name: triton.get_input_tensor_by_name(request, spec.name).as_numpy() for spec in self._model.inputs
        }
        try:
            outputs = self._model.run(inputs)
        except ValueError as error:
            return triton.InferenceResponse([], triton.TritonError(str(error)))
        wanted = set(request.requested_output_names())
        return triton.InferenceResponse(
            [triton.Tensor(name, np.ascontiguousarray(array)) for name, array in outputs.items() if name in wanted]
        )
