"""An ONNX model behind Triton's Python backend, batches in one call: the ``model.py`` of each. Runs inside Triton.

The requests that Triton's dynamic batcher puts together are joined and run at once, as a backend in C++ would do.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """What Triton makes one of: float32 ``x`` to float32 ``y``, by the file and threads of its configuration."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters["threads"]["string_value"])
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            parameters["file"]["string_value"], options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        parts = [triton.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        (y,) = self._session.run(["y"], {"x": np.concatenate(parts) if len(parts) > 1 else parts[0]})
        answers, start = [], 0
        for part in parts:
            stop = start + len(part)
            answers.append(triton.InferenceResponse([triton.Tensor("y", y[start:stop])]))
            start = stop
        return answers
