"""Predict, Classify, Regress and MultiInference with TF Serving's checks, codes and texts (facts 2.5, 4.4). No wire."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import text_format
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, regression_pb2

from tests.tfserving.faults import Fault, invalid
from tests.tfserving.ledger import Ledger
from tests.tfserving.models import Repository, Servable
from tests.tfserving.tensors import Array, from_proto

DEFAULT_SIGNATURE = "serving_default"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"


class Predicted(NamedTuple):
    """What a model made of its inputs, and which one it was."""

    servable: Servable
    signature: str
    outputs: dict[str, Array]


class Inference:
    """The four ways to ask a model.

    Args:
        repository: where the models are.
        ledger: is told of each run.
        check_method_names: ``--enable_signature_method_name_check``.
        latency_s: each run takes this much longer.
    """

    def __init__(
        self, repository: Repository, ledger: Ledger, *, check_method_names: bool = False, latency_s: float = 0
    ) -> None:
        self.repository = repository
        self._ledger = ledger
        self._check_method_names = check_method_names
        self._latency_s = latency_s

    def predict(
        self,
        spec: Any,
        inputs: Mapping[str, Any],
        *,
        output_filter: Sequence[str] = (),
        timeout_ms: int | None = None,
        decode: Callable[[Any], Array] = from_proto,
    ) -> Predicted:
        """Predict.

        Args:
            spec: the ModelSpec.
            inputs: by alias, whatever ``decode`` takes.
            output_filter: aliases; all outputs if empty.
            timeout_ms: of the run.
            decode: makes an array of an input, or raises ValueError.

        Raises:
            Fault: in gRPC's words.
        """
        servable = self.repository.find(spec)
        name = spec.signature_name or DEFAULT_SIGNATURE
        signature = servable.signatures.get(name)
        if signature is None:
            raise Fault("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        feeds = _feeds(signature, inputs, decode)
        aliases = _filtered(signature, output_filter)
        arrays = self._run(servable, feeds, [signature.outputs[alias].name for alias in aliases], timeout_ms)
        return Predicted(servable, name, dict(zip(aliases, arrays, strict=True)))

    def classify(self, spec: Any, data: Any, timeout_ms: int | None = None) -> tuple[Any, Predicted]:
        """Classify: a ClassificationResult, and who said it."""
        predicted, count = self._score(spec, data, _classification_ends, CLASSIFY, timeout_ms)
        return _classifications(predicted.outputs, count), predicted

    def regress(self, spec: Any, data: Any, timeout_ms: int | None = None) -> tuple[Any, Predicted]:
        """Regress: a RegressionResult, and who said it."""
        predicted, count = self._score(spec, data, _regression_ends, REGRESS, timeout_ms)
        return _regressions(predicted.outputs, count), predicted

    def multi(self, request: Any, timeout_ms: int | None = None) -> Any:
        """MultiInference: one run for all tasks."""
        first = request.tasks[0].model_spec if request.tasks else inference_pb2.InferenceTask().model_spec
        servable = self.repository.find(first)
        planned: dict[str, tuple[str, Any]] = {}
        for task in request.tasks:
            if task.model_spec.name != first.name:
                raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
            name = task.model_spec.signature_name or DEFAULT_SIGNATURE
            if name not in servable.signatures:
                raise invalid(f"Requested signature not found in model graph: {name}")
            if name in planned:
                raise invalid(f"Duplicate evaluation of signature: {name}")
            if task.method_name not in {CLASSIFY, REGRESS}:
                raise Fault("UNIMPLEMENTED", f"Unsupported signature method_name: {task.method_name}")
            find_ends = _classification_ends if task.method_name == CLASSIFY else _regression_ends
            self._check_method_name(servable.signatures[name], task.method_name)
            planned[name] = (task.method_name, find_ends(servable.signatures[name]))
        if len({feed for _, (feed, _) in planned.values()}) > 1:
            raise invalid("Input tensor must be the same for all Signatures.")
        examples = _serialized(request.input)
        feed = next(iter(planned.values()))[1][0]
        fetches = [tensor for _, (_, outputs) in planned.values() for tensor in outputs.values()]
        arrays = iter(self._run(servable, {feed: examples}, fetches, timeout_ms))
        response = inference_pb2.MultiInferenceResponse()
        for name, (method, (_, outputs)) in planned.items():
            result = response.results.add()
            fill_spec(result.model_spec, Predicted(servable, name, {}))
            found = {alias: next(arrays) for alias in outputs}
            if method == CLASSIFY:
                result.classification_result.CopyFrom(_classifications(found, examples.size))
            else:
                result.regression_result.CopyFrom(_regressions(found, examples.size))
        return response

    def _score(
        self, spec: Any, data: Any, find_ends: Callable[[Any], _Ends], method: str, timeout_ms: int | None
    ) -> tuple[Predicted, int]:
        servable = self.repository.find(spec)
        name = spec.signature_name or DEFAULT_SIGNATURE
        signature = servable.signatures.get(name)
        if signature is None:
            raise invalid(f"No signature was found with the name: {name}")
        self._check_method_name(signature, method)
        feed, outputs = find_ends(signature)
        examples = _serialized(data)
        arrays = self._run(servable, {feed: examples}, list(outputs.values()), timeout_ms)
        return Predicted(servable, name, dict(zip(outputs, arrays, strict=True))), examples.size

    def _check_method_name(self, signature: Any, method: str) -> None:
        if self._check_method_names and signature.method_name != method:
            kind = "classification" if method == CLASSIFY else "regression"
            raise invalid(f"Expected {kind} signature method_name to be {method}. Was: {signature.method_name}")

    def _run(
        self, servable: Servable, feeds: Mapping[str, Array], fetches: Sequence[str], timeout_ms: int | None
    ) -> list[Array]:
        rows = max((array.shape[0] for array in feeds.values() if array.ndim), default=1)
        self._ledger.inference(servable.name, rows)
        try:
            if self._latency_s:
                time.sleep(self._latency_s)
            return servable.run(feeds, fetches, timeout_ms)
        finally:
            self._ledger.inference_ended()


def fill_spec(spec: Any, predicted: Predicted) -> None:
    """The ModelSpec of an answer: a name, the concrete version, the resolved signature, never a label."""
    spec.name = predicted.servable.name
    spec.version.value = predicted.servable.version
    spec.signature_name = predicted.signature


# ---------------------------------------------------------------- predict


def _feeds(signature: Any, inputs: Mapping[str, Any], decode: Callable[[Any], Array]) -> dict[str, Array]:
    wanted, sent = set(signature.inputs), set(inputs)
    if len(wanted) != len(sent):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(wanted)} len({_set(sent)}) != len({_set(wanted)})."
            f" Sent extra: {_set(sent - wanted)}. Missing but required: {_set(wanted - sent)}."
        )
    feeds = {}
    for alias, info in signature.inputs.items():
        if alias not in inputs:
            raise invalid(
                f"Signature input alias: {alias}(feed name: {info.name}) not found in request and no default value "
                f"provided. Inputs expected to be in the request {_set(wanted)}, or default input alias set: {{}}"
            )
        try:
            feeds[info.name] = decode(inputs[alias])
        except ValueError:
            raise invalid(f"tensor parsing error: {alias}") from None
    return feeds


def _filtered(signature: Any, output_filter: Sequence[str]) -> list[str]:
    seen: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {_set(signature.outputs)}."
            )
        if alias in seen:
            raise invalid(f"duplicate output tensor alias: {alias}")
        seen.append(alias)
    return seen or list(signature.outputs)


def _set(names: Any) -> str:
    return "{" + ",".join(sorted(names)) + "}"


# ---------------------------------------------------------------- examples

_Ends = tuple[str, dict[str, str]]
"""The tensor to feed, and the tensors to fetch by alias."""


def _serialized(data: Any) -> Array:
    """One string per example; a context's bytes go before those of each example, which merges the messages."""
    kind = data.WhichOneof("kind")
    held = getattr(data, kind) if kind else input_pb2.ExampleList()
    if not held.examples:
        raise invalid("Input is empty.")
    context = held.context.SerializeToString() if kind == "example_list_with_context" else b""
    return np.fromiter((context + example.SerializeToString() for example in held.examples), dtype=object)


def _classification_ends(signature: Any) -> _Ends:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) not in {1, 2}:
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {_text(signature)}")
    outputs = {alias: signature.outputs[alias].name for alias in ("classes", "scores") if alias in signature.outputs}
    if not outputs:
        raise invalid(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {_text(signature)}"
        )
    return signature.inputs["inputs"].name, outputs


def _regression_ends(signature: Any) -> _Ends:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {_text(signature)}")
    if "outputs" not in signature.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {_text(signature)}")
    return signature.inputs["inputs"].name, {"outputs": signature.outputs["outputs"].name}


def _text(signature: Any) -> str:
    return str(text_format.MessageToString(signature))


def _classifications(outputs: Mapping[str, Array], count: int) -> Any:
    for alias, array in outputs.items():
        if array.ndim != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {list(array.shape)}")
        if array.shape[0] != count:
            raise invalid(f"Expected {alias} output batch size of {count}. Got: {array.shape[0]}")
    labels, scores = outputs.get("classes"), outputs.get("scores")
    result = classification_pb2.ClassificationResult()
    for row in range(count):
        classes = result.classifications.add().classes
        for column in range(next(iter(outputs.values())).shape[1]):
            classes.add(
                label="" if labels is None else labels[row, column],
                score=0.0 if scores is None else scores[row, column],
            )
    return result


def _regressions(outputs: Mapping[str, Array], count: int) -> Any:
    array = outputs["outputs"]
    if array.ndim not in {1, 2} or (array.ndim == 2 and array.shape[1] != 1):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            + str(list(array.shape))
        )
    if array.shape[0] != count:
        raise invalid(f"Input batch size did not match output batch size: {count} vs. {array.shape[0]}")
    result = regression_pb2.RegressionResult()
    for value in array.ravel():
        result.regressions.add(value=value)
    return result
