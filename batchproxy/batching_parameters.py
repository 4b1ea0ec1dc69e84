"""TF Serving's ``--batching_parameters_file`` in our terms (R8). What is done with them is the command line's business.

The file is a text proto, message ``BatchingParameters``. A field that it leaves out leaves our own default
(or the configuration's value), and not TF Serving's: a queue that is 1000 rows deep on a server's own
processor is not what a proxy in front of one wants.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import msgspec
from google.protobuf import text_format

from batchproxy import documents
from batchproxy.config import ModelConfig, PoolConfig
from batchproxy.core.errors import ConfigError
from batchproxy.protos import batching_parameters_pb2


@dataclass(frozen=True, slots=True)
class BatchingParameters:
    """What a file says; ``None``: it says nothing of it.

    Args:
        max_batch_rows: ``max_batch_size``.
        max_delay_ms: ``batch_timeout_micros``, in milliseconds.
        max_queued_batches: ``max_enqueued_batches``, of ``max_batch_rows`` rows; at least 1, as in TF Serving.
        max_inflight: ``num_batch_threads``: merged calls that an endpoint may have at once.
        allowed_batch_sizes: merged calls are padded up to the next one.
        notes: what the file says without effect, a line each.
    """

    max_batch_rows: int | None = None
    max_delay_ms: float | None = None
    max_queued_batches: int | None = None
    max_inflight: int | None = None
    allowed_batch_sizes: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def apply_to_pool(self, pool: PoolConfig) -> PoolConfig:
        """The pool with this file's in-flight limit."""
        return pool if self.max_inflight is None else msgspec.structs.replace(pool, max_inflight=self.max_inflight)

    def apply_to_model(self, model: ModelConfig) -> ModelConfig:
        """The model with this file's batching; its queue holds at least one batch."""
        rows = self.max_batch_rows or model.rows
        queued = model.max_queued_rows if self.max_queued_batches is None else self.max_queued_batches * rows
        return msgspec.structs.replace(
            model,
            max_batch_rows=self.max_batch_rows or model.max_batch_rows,
            max_delay_ms=model.max_delay_ms if self.max_delay_ms is None else self.max_delay_ms,
            max_queued_rows=max(queued, rows),
            allowed_batch_sizes=self.allowed_batch_sizes or model.allowed_batch_sizes,
        )


def load_batching_parameters(path: str | os.PathLike[str]) -> BatchingParameters:
    """Read and check a file.

    Raises:
        ConfigError: one line with file, place and fix; TF Serving's own faults have its own texts.
    """
    name = os.fspath(path)
    message = _parse(name, documents.read_text(path))
    if problem := _problem(message):
        raise ConfigError(f"{name}: {problem}")
    given = {field.name for field, _ in message.ListFields()}
    notes = []
    if "thread_pool_name" in given:
        notes.append(f"{name}: thread_pool_name has no effect: batches are not run by threads of ours")
    return BatchingParameters(
        max_batch_rows=message.max_batch_size.value if "max_batch_size" in given else None,
        max_delay_ms=message.batch_timeout_micros.value / 1000 if "batch_timeout_micros" in given else None,
        max_queued_batches=max(1, message.max_enqueued_batches.value) if "max_enqueued_batches" in given else None,
        max_inflight=message.num_batch_threads.value if "num_batch_threads" in given else None,
        allowed_batch_sizes=tuple(message.allowed_batch_sizes),
        notes=tuple(notes),
    )


def _problem(message: batching_parameters_pb2.BatchingParameters) -> str | None:
    """The first fault of a file that parses. Texts with ``was`` are TF Serving's (``shared_batch_scheduler.h``)."""
    if message.pad_variable_length_inputs:
        return (
            "pad_variable_length_inputs: true is refused: a caller's answer would depend on the length of its "
            "neighbours' inputs; remove it: inputs of different length go in different batches"
        )
    if message.enable_large_batch_splitting.value:
        return "enable_large_batch_splitting is not supported yet; remove it: a request above max_batch_size goes alone"
    if message.HasField("max_execution_batch_size"):
        return "max_execution_batch_size is not supported yet; remove it: no batch exceeds max_batch_size"
    if message.HasField("max_batch_size") and message.max_batch_size.value <= 0:
        return f"input_batch_size_limit must be positive; was {message.max_batch_size.value} (max_batch_size)"
    if message.batch_timeout_micros.value < 0:
        return f"batch_timeout_micros must be non-negative; was {message.batch_timeout_micros.value}"
    if message.HasField("num_batch_threads") and message.num_batch_threads.value <= 0:
        return f"num_batch_threads must be positive; was {message.num_batch_threads.value}"
    if message.max_enqueued_batches.value < 0:
        return f"max_enqueued_batches must be positive; was {message.max_enqueued_batches.value}"
    sizes = list(message.allowed_batch_sizes)
    if any(size <= 0 for size in sizes):
        return f"allowed_batch_sizes must be positive; they are {sizes}"
    if sizes and message.HasField("max_batch_size") and sizes[-1] != message.max_batch_size.value:
        return (
            "Last entry in allowed_batch_sizes must match max_batch_size; "
            f"last entry was {sizes[-1]}; expected {message.max_batch_size.value}"
        )
    return None


# ---------------------------------------------------------------- the text proto's own faults


def _parse(name: str, text: str) -> batching_parameters_pb2.BatchingParameters:
    message = batching_parameters_pb2.BatchingParameters()
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        line, column = error.GetLine() or 1, error.GetColumn() or 1
        what = documents.one_line(re.sub(r"^\d+:\d+ : ", "", str(error)))
        lines = text.splitlines()
        hint = _hint(what, lines[line - 1] if line <= len(lines) else "")
        raise ConfigError(f"{name}:{line}:{column}: {hint or what}") from None


def _hint(what: str, line: str) -> str | None:
    """What to write instead, where the fault is one that people make."""
    fields = batching_parameters_pb2.BatchingParameters.DESCRIPTOR.fields_by_name
    if match := re.search(r'"batchproxy\.\w+\.BatchingParameters" has no field named "(.*)"', what):
        known = f"known: {', '.join(fields)}"
        return f"no field is named {match[1]!r}; {documents.nearest(match[1], fields, known)}"
    match = re.match(r"\s*(\w+)\s*:\s*([^\s#{<]+)", line)
    if match and match[1] in fields and fields[match[1]].message_type is not None:
        return f"{match[1]} is written with braces: {match[1]} {{ value: {match[2]} }}"
    match = re.match(r"\s*(\w+)\s*\{", line)
    if match and match[1] in fields and fields[match[1]].message_type is None:
        return f"{match[1]} is written without braces, as in {match[1]}: 64"
    return None
