"""KServe's own clients before TensorFlow Serving's models, in its environment. HTTP GRPC."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

HTTP, GRPC = sys.argv[1:]
X = np.array([1.5, -2.0, 1 / 3], dtype=np.float32)


def request(binary: bool) -> InferRequest:
    """Three rows."""
    x = InferInput("x", [3], "FP32")
    x.set_data_from_numpy(X, binary_data=binary)
    return InferRequest(model_name="dtypes", request_id="1", infer_inputs=[x])


def check(answer: Any) -> None:
    """See that an answer is the right one."""
    (y,) = answer.outputs
    assert y.as_numpy().astype(np.float32).tolist() == X.tolist()


async def calls() -> None:
    """Each client's; the first API of KServe's, too, which is TensorFlow Serving's."""
    base = f"http://{HTTP}"
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await rest.is_server_ready(base)
    assert await rest.is_model_ready(base, "dtypes")
    for binary in (True, False):
        check(await rest.infer(base, request(binary), model_name="dtypes"))
    grpc = InferenceGRPCClient(url=GRPC)
    assert await grpc.is_server_ready()
    check(await grpc.infer(request(True)))
    await rest.close()
    await grpc.close()
    v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
    answer = await v1.infer(base, {"instances": [1.5, -2.0]}, model_name="dtypes")
    assert answer["predictions"] == [1.5, -2.0]
    await v1.close()


asyncio.run(calls())
print("as expected")
