"""Random SavedModels: what one takes, what it makes of each row, and the folder a server reads. No requests, no server.

All arithmetic is element by element, so answers do not depend on the batch size and tests need no tolerance: a row in
a wrong place is a wrong answer, for rows differ. What a proxy has to find out is among them: fixed first axes, unknown
ranks, answers of another length than the request, rows that make the whole call fail.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.core.framework import tensor_shape_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

PLAIN = ("float32", "float64", "int32", "int64", "string", "bool", "int8", "uint8", "int16", "uint32", "uint64")
"""Types that REST has; the first five are what most models take."""

GRPC_ONLY = ("half", "bfloat16", "complex64", "complex128", "uint16")
"""Types that JSON has no form for."""

INTEGERS = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})
TABLE = 10
"""Elements of the table of ``gather``; other places fail, with a text that names the place in the batch."""

INPUT_NAMES = ("x", "y", "image", "inputs", "instances", "b64", "a b", "ä", 'say "x"', "x_bytes", "X")
OUTPUT_NAMES = ("y", "probs", "text_bytes", "inputs", "predictions", "b64", "ö", 'say "y"', "y_2", "error")

Shape = tuple[int | None, ...]


class Input(NamedTuple):
    """An input.

    Attributes:
        alias: its name.
        dtype: TensorFlow's name.
        shape: of a row, None where it is open.
        first: the first axis: None where it is open.
        ranked: whether the model says its rank; it is ``len(shape) + 1`` in requests that are meant well.
        small: whether its values choose from a table, and fail beyond it.
    """

    alias: str
    dtype: str
    shape: Shape
    first: int | None
    ranked: bool
    small: bool


class Model(NamedTuple):
    """A model of one signature.

    Attributes:
        name: of the model.
        signature: its name.
        inputs: one to three.
        outputs: alias to what it is made by: the name of an operation, and places of inputs.
    """

    name: str
    signature: str
    inputs: tuple[Input, ...]
    outputs: Mapping[str, tuple[str, tuple[int, ...]]]

    @property
    def merges(self) -> bool:
        """Whether its requests may share a call, and cannot fail in it."""
        return all(one.first is None and one.ranked for one in self.inputs) and {*ODD, "gather"}.isdisjoint(
            operation for operation, _ in self.outputs.values()
        )

    @property
    def over_rest(self) -> bool:
        """Whether REST can ask it."""
        return all(one.dtype in PLAIN for one in self.inputs)


Make = Callable[..., Any]


def _gather(indices: Any) -> Any:
    return tf.gather(tf.constant([f"row {number}" for number in range(TABLE)]), indices)


OPERATIONS: Mapping[str, Make] = {
    "identity": tf.identity,
    "affine": lambda x: x * tf.constant(2, x.dtype) + tf.constant(1, x.dtype),
    "text": tf.strings.as_string,
    "wide": lambda x: tf.cast(x, tf.float64),
    "narrow": lambda x: tf.cast(x, tf.uint8),
    "upper": tf.strings.upper,
    "size": tf.strings.length,
    "not": tf.logical_not,
    "conjugate": tf.math.conj,
    "gather": _gather,
    "sum": lambda x: tf.reduce_sum(x, axis=list(range(1, x.shape.rank))),
    "largest": lambda x: tf.argmax(x, axis=x.shape.rank - 1),
    "reverse": lambda x: tf.reverse(x, [x.shape.rank - 1]),
    "concat": lambda x, y: tf.concat([x, y], axis=x.shape.rank - 1),
    "add": lambda x, y: x + y,
    "flatten": lambda x: tf.reshape(x, [-1]),  # as many rows only where a row is one element
    "count": tf.size,  # no rows at all
    "length": lambda x: tf.shape(x)[:1],  # one row, whatever it is asked
}
ODD = ("flatten", "count", "length")
"""Those whose answers have no row for each row."""

FALLIBLE = ("gather", "sum", "largest", "reverse", "concat", "add")
"""Those that some inputs make fail. A model has one at most: of two that fail, either may be told of."""


def _possible(inputs: Sequence[Input]) -> list[tuple[str, tuple[int, ...]]]:
    """What can be made of these inputs row by row, the likelier ones more than once."""
    found: list[tuple[str, tuple[int, ...]]] = []
    for place, one in enumerate(inputs):
        if one.small:
            return [("gather", (place,))]
        names = ["identity"] * 2
        if one.dtype in INTEGERS:
            names += ["affine", "text", "text", "wide"]
            if one.ranked and one.shape:
                names += ["sum", "largest"]
        elif one.dtype == "string":
            names += ["upper", "size"]
        elif one.dtype == "bool":
            names += ["not", "text", "narrow"]
        elif one.dtype.startswith("complex"):
            names += ["conjugate"]
        else:
            names += ["affine", "affine", "wide"]
        if one.ranked and one.shape:
            names += ["reverse"]
        found += [(name, (place,)) for name in names]
        for other, two in enumerate(inputs[:place]):
            if two.dtype == one.dtype and one.ranked and two.ranked and two.shape == one.shape:
                found += [("concat", (other, place))] * (2 if one.shape else 0)
                found += [("add", (other, place))] * (2 if one.dtype not in {"bool", "string"} else 0)
    return found


def random_model(number: int, source: random.Random) -> Model:
    """The ``number``-th of some models: one to three inputs and outputs in turn, everything else by chance."""
    count, outputs = 1 + number % 3, 1 + number // 3 % 3
    aliases = source.sample(INPUT_NAMES, count)
    kinds = GRPC_ONLY if number % 8 == 7 else PLAIN[: 5 if number % 2 else None]
    first = 2 if number % 16 == 5 else None
    ranked = number % 12 != 10
    same = source.random() < 0.4
    inputs: list[Input] = []
    for alias in aliases:
        dtype = source.choice(kinds)
        shape = tuple(source.choice([1, 2, 3, 3, None]) for _ in range(source.choice([0, 0, 1, 1, 2, 3])))
        if same and inputs:
            dtype, shape = inputs[0].dtype, inputs[0].shape
        small = number % 10 == 3 and not inputs
        inputs.append(Input(alias, "int64" if small else dtype, shape, first, ranked, small))
    possible = _possible(inputs)
    made = [source.choice(possible) for _ in range(outputs)]
    if number % 6 == 0:
        made[-1] = (ODD[number // 6 % len(ODD)], (0,))
    for place in [place for place, (operation, _) in enumerate(made) if operation in FALLIBLE][1:]:
        made[place] = ("identity", made[place][1][:1])
    named = dict(zip(source.sample(OUTPUT_NAMES, outputs), made, strict=True))
    signature = "serving_default" if number % 4 else source.choice(["other", "Signature 2", "ü"])
    return Model(f"m{number}", signature, tuple(inputs), named)


def write(models: Sequence[Model], folder: Path, source: random.Random) -> Path:
    """Makes a SavedModel of each, version 1, and the file that lists them.

    Args:
        models: their names are those of their folders.
        folder: where.
        source: of what their signatures tell.

    Returns:
        The path of the list, in TF Serving's form.
    """
    entries = []
    for model in models:
        place = folder / model.name / "1"
        place.mkdir(parents=True)
        (place / "saved_model.pb").write_bytes(_saved(model, source).SerializeToString())
        entries.append(f'config {{ name: "{model.name}" base_path: "{model.name}" model_platform: "tensorflow" }}')
    listed = folder / "models.config"
    listed.write_text("model_config_list {{\n{}\n}}\n".format("\n".join(entries)))
    return listed


def _saved(model: Model, source: random.Random) -> Any:
    signature = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    graph = tf.Graph()
    with graph.as_default():
        tensors = []
        for one in model.inputs:
            shape = [one.first, *one.shape] if one.ranked else None
            tensors.append(tf.compat.v1.placeholder(one.dtype, shape))
            signature.inputs[one.alias].CopyFrom(_info(tensors[-1], tensors[-1].shape))
        for alias, (operation, places) in model.outputs.items():
            output = OPERATIONS[operation](*(tensors[place] for place in places))
            said = output.shape
            if operation == "length" or source.random() < 0.1:  # a model may say less than it knows
                said = tf.TensorShape([None] if operation == "length" else None)
            signature.outputs[alias].CopyFrom(_info(output, said))
    saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    meta = saved.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    meta.graph_def.CopyFrom(graph.as_graph_def())
    meta.signature_def[model.signature].CopyFrom(signature)
    return saved


def _info(tensor: Any, shape: Any) -> Any:
    said = tensor_shape_pb2.TensorShapeProto() if shape.rank is not None else None
    info = meta_graph_pb2.TensorInfo(name=tensor.name, dtype=tensor.dtype.as_datatype_enum)
    if said is None:
        info.tensor_shape.unknown_rank = True
        return info
    info.tensor_shape.SetInParent()
    for size in shape.as_list():
        info.tensor_shape.dim.add(size=-1 if size is None else size)
    return info
