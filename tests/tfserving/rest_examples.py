"""``:classify`` and ``:regress`` between JSON and tf.Example (facts 1.10). No HTTP."""

from __future__ import annotations

from typing import Any

import numpy as np
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow_serving.apis import input_pb2

from tests.tfserving.faults import invalid
from tests.tfserving.inference import Inference
from tests.tfserving.json_read import MISSING, Pairs, Value
from tests.tfserving.json_write import Writer, decimal, echo, quoted
from tests.tfserving.rest_predict import as_text, c_string, fill_signature_name, from_base64, is_base64, type_name

KIND_NAMES = {"int64_list": "int64", "float_list": "float", "bytes_list": "bytes"}


def score(inference: Inference, method: str, spec: Any, document: Pairs, timeout_ms: int) -> bytes:
    """The body of the answer to ``classify`` or ``regress``.

    Raises:
        Fault: with REST's texts.
    """
    fill_signature_name(spec, document)
    data = _input(document)
    writer = Writer()
    writer.begin("{")
    writer.token('"results"')
    writer.begin("[")
    writer.one_line = True
    if method == "classify":
        result, _ = inference.classify(spec, data, timeout_ms)
        for classification in result.classifications:
            _write_classes(writer, classification)
        writer.one_line = False
    else:
        result, _ = inference.regress(spec, data, timeout_ms)
        for regression in result.regressions:
            writer.token(decimal(np.float32(regression.value), "float"))
    writer.end()
    writer.end()
    return writer.text().encode(errors="surrogateescape")


def _write_classes(writer: Writer, classification: Any) -> None:
    writer.begin("[")
    for one in classification.classes:
        writer.begin("[")
        writer.token(quoted(one.label))
        writer.token(decimal(np.float32(one.score), "float"))
        writer.end()
    writer.end()


def _input(document: Pairs) -> Any:
    data = input_pb2.Input()
    context, examples = document.find("context"), document.find("examples")
    target = data.example_list
    if context is not MISSING:
        target = data.example_list_with_context
        target.context.CopyFrom(_example(context))
    if examples is MISSING:
        raise invalid(
            f"JSON Value: {echo(document)} When method is classify, key 'examples' is expected and was not found"
        )
    if not isinstance(examples, list):
        raise invalid(f"JSON Value: {echo(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid(f"JSON Value: {echo(document)} 'examples' value is an empty array")
    target.examples.extend(_example(example) for example in examples)
    return data


def _example(value: Value) -> Any:
    if not isinstance(value, Pairs):
        raise invalid(f"Example must be JSON object but got JSON {type_name(value)}")
    example = example_pb2.Example()
    for key, member in value.pairs:
        name = c_string(key)
        feature = feature_pb2.Feature()
        elements = member if isinstance(member, list) else [member]
        for element in elements:
            _add(name, feature, element)
        example.features.feature[as_text(name)].CopyFrom(feature)  # in place of an earlier one of this name
    return example


def _add(name: str, feature: Any, element: Value) -> None:
    kinds = {bool: "int64_list", int: "int64_list", float: "float_list", str: "bytes_list"}
    kind = "bytes_list" if is_base64(element) else kinds.get(type(element))
    if kind is None:
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {type_name(element)}")
    set_kind = feature.WhichOneof("kind") or kind
    if kind != set_kind:
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {KIND_NAMES[set_kind]}")
    held: Any = element
    if kind == "int64_list":
        held = int(element)
        if held >= 1 << 63:
            raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    elif kind == "bytes_list":
        held = element.encode(errors="surrogateescape") if isinstance(element, str) else from_base64(element)
    getattr(feature, kind).value.append(held)
