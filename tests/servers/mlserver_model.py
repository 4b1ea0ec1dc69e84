"""One of the zoo's models as MLServer's custom runtime. Runs inside MLServer."""

from __future__ import annotations

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.errors import MLServerError
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from tests.servers.zoo import DTYPES, ZOO, Array, Says


class ZooModel(MLModel):  # type: ignore[misc]
    """What MLServer makes one of."""

    async def load(self) -> bool:
        self._zoo = ZOO[self.name]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        inputs = {tensor.name: _read(tensor) for tensor in payload.inputs}
        try:
            outputs = self._zoo.run(inputs)
        except Says as error:
            raise MLServerError(str(error), error.status) from error
        wanted = [output.name for output in payload.outputs or ()] or list(outputs)
        types = {spec.name: spec.datatype for spec in self._zoo.outputs}
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[_written(name, types[name], outputs[name]) for name in wanted],
        )


def _read(tensor: object) -> Array:
    datatype, shape = tensor.datatype, tensor.shape  # type: ignore[attr-defined]
    if datatype != "BYTES":
        return np.asarray(NumpyCodec.decode_input(tensor), DTYPES[datatype]).reshape(shape)
    data = tensor.data.root if hasattr(tensor.data, "root") else tensor.data  # type: ignore[attr-defined]
    items = np.empty(len(data), object)
    items[:] = [item.encode() if isinstance(item, str) else bytes(item) for item in data]
    return items.reshape(shape)


def _written(name: str, datatype: str, array: Array) -> ResponseOutput:
    data = array.ravel().tolist()
    if datatype == "BYTES":
        data = [item.decode() for item in data]
    return ResponseOutput(name=name, datatype=datatype, shape=list(array.shape), data=data)
