"""KServe's own clients in its environment, REST and gRPC. HTTP GRPC."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

HTTP, GRPC = sys.argv[1:]
X = np.arange(6, dtype=np.float32).reshape(3, 2) / 3
ROW = np.arange(3, dtype=np.int64).reshape(3, 1)


def request(binary: bool) -> InferRequest:
    """Three rows."""
    inputs = [InferInput("x", [3, 2], "FP32"), InferInput("row", [3, 1], "INT64")]
    inputs[0].set_data_from_numpy(X, binary_data=binary)
    inputs[1].set_data_from_numpy(ROW, binary_data=binary)
    return InferRequest(model_name="echo_fp32", request_id="1", infer_inputs=inputs)


def check(answer: Any) -> None:
    """See that an answer is the right one."""
    found = {output.name: output.as_numpy() for output in answer.outputs}
    assert found["row"].tolist() == ROW.tolist()
    assert found["y"].astype(np.float32).tolist() == X[:, ::-1].tolist()


async def calls() -> None:
    """Each client's."""
    base = f"http://{HTTP}"
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await rest.is_server_live(base)
    assert await rest.is_server_ready(base)
    for binary in (True, False):
        check(await rest.infer(base, request(binary), model_name="echo_fp32"))
    grpc = InferenceGRPCClient(url=GRPC)
    assert await grpc.is_server_live()
    assert await grpc.is_model_ready("echo_fp32")
    check(await grpc.infer(request(True)))
    await rest.close()
    await grpc.close()


asyncio.run(calls())
print("as expected")
