"""The models that every real server serves, in numpy: they run inside the servers' own environments. No server here.

Each takes and gives a row number beside its values, so that no tolerance hides a row that went to the wrong caller.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

MLP_FILE = "ZOO_MLP"
"""Variable of the environment: where the ONNX file of ``mlp`` is."""

GATE = "ZOO_GATE"
"""Variable of the environment: a pipe. A call that is to wait does so until whoever opened it for writing closes it."""

TOGETHER, WINDOW_S = 32, 1.0
"""How many requests a server that batches by itself waits for, and for how long."""

OPEN = -1
"""An axis of a row that may have any length."""

REFUSED, WAITS = -1, -2
"""Values of a row at which the models of ``COMPANY`` refuse the call, or wait at the gate. At the negative of a status
of HTTP they say that one."""

DTYPES: dict[str, type[Any]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
"""The protocol's element types that numpy has; strings are ``bytes`` objects."""


BF16 = "BF16"
"""The one element type of the protocol that numpy does not have; its model only moves values about."""


class Tensor(NamedTuple):
    """An input or output; the first axis is open.

    Attributes:
        name: its name.
        datatype: the protocol's word.
        row: the axes of one row; ``OPEN``: any length.
    """

    name: str
    datatype: str
    row: tuple[int, ...]


class Model(NamedTuple):
    """One model.

    Attributes:
        inputs: in order.
        outputs: likewise.
        run: what it does; ``ValueError`` where a row is refused.
        cap: rows that Triton is told to take at most; 0: any number.
        batched: whether the server is to batch it by itself.
        rows: that Triton is told to take, no more and no fewer; None: any number, or as ``cap`` has it.
        decoupled: whether each row of its outputs is an answer of its own: Triton's word for it.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    run: Callable[[Arrays], dict[str, Array]]
    cap: int = 0
    batched: bool = False
    rows: int | None = None
    decoupled: bool = False


class Says(ValueError):
    """A refusal with a status of HTTP."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


ROW = Tensor("row", "INT64", (1,))


def _reversed(inputs: Arrays) -> dict[str, Array]:
    return {"y": inputs["x"][:, ::-1], "row": inputs["row"]}


def _strict(inputs: Arrays) -> dict[str, Array]:
    if (inputs["x"] < 0).any():
        raise ValueError(f"a number below zero among {len(inputs['x'])} rows")
    return _reversed(inputs)


def _mlp(inputs: Arrays) -> dict[str, Array]:
    y, row = _session().run(("y", "row_out"), dict(inputs))
    return {"y": y, "row": row}


@lru_cache(maxsize=1)
def _session() -> Any:
    import onnxruntime  # noqa: PLC0415 - takes a while, and one model needs it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(os.environ[MLP_FILE], options, providers=["CPUExecutionProvider"])


def _echo(datatype: str, run: Callable[[Arrays], dict[str, Array]] = _reversed, cap: int = 0) -> Model:
    return Model((Tensor("x", datatype, (2,)), ROW), (Tensor("y", datatype, (2,)), ROW), run, cap)


MODELS: dict[str, Model] = {
    **{f"echo_{datatype.lower()}": _echo(datatype) for datatype in (*DTYPES, BF16)},
    "strict": _echo("INT64", _strict),
    "capped": _echo("INT64", cap=4),
    "mlp": Model((Tensor("x", "FP32", (8,)), ROW), (Tensor("y", "FP32", (3,)), ROW), _mlp, cap=64),
}
"""Name to model."""


WITHOUT: dict[str, frozenset[str]] = {"mlserver": frozenset({"echo_bf16"}), "kserve": frozenset({"echo_bf16"})}
"""By kind of server, the models that cannot be served there: it does not have their type."""


def _in_company(inputs: Arrays, y: Array) -> dict[str, Array]:
    """What the models below answer: beside their values, how many rows the call had."""
    count = len(y)
    low = min((value for value in inputs["x"].ravel().tolist() if isinstance(value, int)), default=0)
    if low == WAITS:
        Path(os.environ[GATE]).read_bytes()
    elif low == REFUSED:
        raise Says(400, f"a number below zero among {count} rows")
    elif low < 0:
        raise Says(-low, f"no: {count} rows")
    return {"y": y, "row": inputs["row"], "company": np.full((count, 1), count)}


def _numbers(inputs: Arrays) -> dict[str, Array]:
    return _in_company(inputs, inputs["x"][:, ::-1])


def _others(inputs: Arrays) -> dict[str, Array]:
    return _in_company(inputs, inputs["x"] + 1)


def _pooled(inputs: Arrays) -> dict[str, Array]:
    """One row, whatever comes: right for one request alone."""
    found = _in_company(inputs, inputs["x"][:, ::-1])
    return {name: array[:1] for name, array in found.items()}


def _company(datatype: str, run: Callable[[Arrays], dict[str, Array]], *, batched: bool) -> Model:
    x, y = (Tensor(name, datatype, (OPEN,)) for name in "xy")
    return Model((x, ROW), (y, ROW, Tensor("company", "INT64", (1,))), run, TOGETHER if batched else 0, batched)


COMPANY: dict[str, Model] = {
    f"{prefix}_{name}": _company(datatype, run, batched=prefix == "packed")
    for prefix in ("plain", "packed")
    for name, datatype, run in (
        ("numbers", "INT64", _numbers),
        ("others", "INT64", _others),
        ("words", "BYTES", _numbers),
        ("pooled", "INT64", _pooled),
    )
}
"""Models for the comparison of batchers, by name: ``plain_...`` for who batches before the server, ``packed_...``
batched by the server itself."""

ALONE: dict[str, Model] = {"pairs": _echo("INT64")._replace(rows=2), "ones": _echo("INT64", cap=1)}
"""Models of which Triton says that nothing can be merged."""


def _countdown(inputs: Arrays) -> dict[str, Array]:
    ((steps,),) = inputs["x"].tolist()
    if steps < 0:
        raise ValueError(f"{steps} is below zero")
    return {"y": np.arange(steps)[::-1, None], "row": np.repeat(inputs["row"], steps, axis=0)}


DECOUPLED: dict[str, Model] = {
    "countdown": Model((Tensor("x", "INT64", (1,)), ROW), (Tensor("y", "INT64", (1,)), ROW), _countdown, decoupled=True)
}
"""Models that Triton serves by streams alone."""

ZOO = {**MODELS, **COMPANY, **ALONE, **DECOUPLED}
