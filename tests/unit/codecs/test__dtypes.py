"""The dtype table against TensorFlow, numpy and ONNX."""

from __future__ import annotations

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before the import: TensorFlow writes to stderr otherwise
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import numpy as np
import onnx
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2

from batchproxy.codecs import _dtypes
from batchproxy.core.errors import BackendProtocolError, ConfigError

ROWS = pytest.mark.parametrize("row", _dtypes.TABLE, ids=lambda row: row.name)


@ROWS
def test_a_row_says_what_tensorflow_says(row: _dtypes.DType) -> None:
    """Number, enum name, numpy's dtype and our name are TensorFlow's."""
    theirs = tf.dtypes.as_dtype(row.number)

    assert types_pb2.DataType.Name(row.number) == row.tf_name
    assert np.dtype(theirs.as_numpy_dtype) == row.numpy
    assert theirs.name == row.name
    assert row.short_name == {"float32": "float", "float64": "double", "float16": "half"}.get(row.name, row.name)


@ROWS
def test_every_key_finds_the_row(row: _dtypes.DType) -> None:
    """Name, number, numpy dtype and ONNX text lead back to the same row."""
    keys = {_dtypes.by_name(row.name), _dtypes.by_number(row.number), _dtypes.by_numpy(row.numpy)}

    assert {row} == keys
    assert (row if row.onnx else None) == _dtypes.by_onnx(row.onnx)
    assert (row if row.v2 else None) == _dtypes.by_v2(row.v2)
    assert (row.v2 or row.tf_name) == _dtypes.v2_name(row.name)
    assert row.numpy == _dtypes.numpy_dtype(row.name)
    assert row.tf_name == _dtypes.tf_name(row.name)
    assert row.short_name == _dtypes.short_name(row.name)


@ROWS
def test_onnx_holds_the_type_of_its_text(row: _dtypes.DType) -> None:
    """``tensor(x)`` is ONNX's element type X, which numpy holds as the row says."""
    if not row.onnx:
        assert row.name == "float8_e4m3b11fnuz"  # the one that ONNX does not have
        return
    number = onnx.TensorProto.DataType.Value(row.onnx.removeprefix("tensor(").removesuffix(")").upper())

    assert row.numpy == onnx.helper.tensor_dtype_to_np_dtype(number)


def test_no_type_of_tensorflow_is_forgotten() -> None:
    """Each number of ``DataType`` is either carried or known by name, references apart."""
    theirs = {number: name for name, number in types_pb2.DataType.items() if 0 < number < 100}
    ours = {row.number: row.tf_name for row in _dtypes.TABLE} | _dtypes.UNSUPPORTED

    assert theirs == ours


def test_each_number_has_a_name_in_signatures() -> None:
    """And each such name its number, TensorFlow's name and a short one, be it ours or not."""
    for number in (*types_pb2.DataType.values(), 250):
        name = _dtypes.declared(number)

        assert number == _dtypes.declared_number(name)
        assert "DT_" == _dtypes.tf_name(name)[:3]
        assert _dtypes.short_name(name).islower() or _dtypes.short_name(name).isdecimal()


@pytest.mark.parametrize("dtype", ["U3", "S3", "O"])
def test_text_and_bytes_are_strings(dtype: str) -> None:
    """Whatever numpy holds text in, its type is string."""
    assert _dtypes.by_numpy(np.dtype(dtype)).name == "string"


def test_byte_order_does_not_matter() -> None:
    """A big-endian array is of the same type."""
    assert _dtypes.by_numpy(np.dtype(">f4")).name == "float32"


def test_an_unknown_name_lists_the_known_ones() -> None:
    """A wrong dtype in a declaration is answered with what would be right."""
    with pytest.raises(ConfigError, match="'float' is no dtype; one of: float32, float64"):
        _dtypes.by_name("float")


def test_an_array_without_a_type_is_the_models_fault() -> None:
    """Dates have no TensorFlow type."""
    with pytest.raises(BackendProtocolError, match=r"datetime64\[s\]"):
        _dtypes.by_numpy(np.dtype("datetime64[s]"))


def test_unknown_numbers_and_onnx_texts_find_nothing() -> None:
    """Peers may send anything; the caller words the refusal."""
    assert _dtypes.by_number(250) is None
    assert _dtypes.by_onnx("seq(tensor(float))") is None


def test_the_open_inference_protocol_has_its_fourteen_types() -> None:
    """Each datatype of the protocol has a row, each row at most one, and Triton's numbers are theirs."""
    rows = [row for row in _dtypes.TABLE if row.v2]
    order = "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 BYTES BF16"

    assert order == " ".join(row.v2 for row in sorted(rows, key=lambda row: row.triton))
    assert list(range(1, 15)) == sorted(row.triton for row in rows)
