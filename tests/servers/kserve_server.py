"""The zoo's models in KServe's own server: ``python -m tests.servers.kserve_server HTTP_PORT GRPC_PORT MODEL...``.

Runs in KServe's environment. The v1 protocol is answered, too: ``{"instances": [{"x": ..., "row": ...}, ...]}``.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid

from tests.servers.zoo import DTYPES, MODELS, Array, Tensor


class ZooModel(Model):  # type: ignore[misc]
    """What KServe serves."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._zoo = MODELS[name]
        self.ready = True

    def get_input_types(self) -> list[dict[str, Any]]:
        return [_described(spec) for spec in self._zoo.inputs]

    def get_output_types(self) -> list[dict[str, Any]]:
        return [_described(spec) for spec in self._zoo.outputs]

    def predict(self, payload: Any, headers: dict[str, str] | None = None, **_: Any) -> Any:
        if not isinstance(payload, InferRequest):
            return self._predict_v1(payload)
        outputs = self._zoo.run({tensor.name: _read(tensor) for tensor in payload.inputs})
        wanted = [output.name for output in payload.request_outputs or ()] or list(outputs)
        answer = []
        for spec in self._zoo.outputs:
            if spec.name in wanted:
                array = np.ascontiguousarray(outputs[spec.name])
                output = InferOutput(spec.name, list(array.shape), spec.datatype)
                output.set_data_from_numpy(array)
                answer.append(output)
        return InferResponse(
            payload.id or generate_uuid(),  # its REST door refuses to send none
            self.name,
            answer,
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )

    def _predict_v1(self, payload: dict[str, Any]) -> dict[str, Any]:
        rows = payload["instances"]
        outputs = self._zoo.run(
            {spec.name: np.array([row[spec.name] for row in rows], DTYPES[spec.datatype]) for spec in self._zoo.inputs}
        )
        names = list(outputs)
        columns = [outputs[name].tolist() for name in names]
        return {"predictions": [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]}


def _described(spec: Tensor) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": [-1, *spec.row]}


def _read(tensor: Any) -> Array:
    array = np.asarray(tensor.as_numpy())
    if tensor.datatype != "BYTES":
        return array.astype(DTYPES[tensor.datatype], copy=False).reshape(tensor.shape)
    items = np.empty(array.size, object)
    items[:] = [item.encode() if isinstance(item, str) else bytes(item) for item in array.ravel()]
    return items.reshape(tensor.shape)


if __name__ == "__main__":
    http, grpc, *names = sys.argv[1:]
    server = ModelServer(http_port=int(http), grpc_port=int(grpc), workers=1, enable_docs_url=False)
    server.start([ZooModel(name) for name in names])
