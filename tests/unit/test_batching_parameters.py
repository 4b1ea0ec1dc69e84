"""TF Serving's text file of batching parameters: the mapping of R8, its faults, and how it lands in a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.batching_parameters import BatchingParameters, load_batching_parameters
from batchproxy.config import ModelConfig, PoolConfig
from batchproxy.core.errors import ConfigError

MODEL = ModelConfig(name="m", pool="p")
POOL = PoolConfig(name="p", endpoints=("onnx:x",))

# facts of TF Serving's documentation: wrappers in braces, the repeated and the plain field without
EVERYTHING = """
max_batch_size { value: 128 }         # a comment
batch_timeout_micros { value: 5000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 8 }
thread_pool_name { value: "mine" }
allowed_batch_sizes: 32
allowed_batch_sizes: 128
pad_variable_length_inputs: false
enable_large_batch_splitting { value: false }
"""


def parameters(tmp_path: Path, text: str) -> BatchingParameters:
    """What a file with this text says."""
    path = tmp_path / "b.txt"
    path.write_text(text)
    return load_batching_parameters(path)


def fault(tmp_path: Path, text: str) -> str:
    """What is wrong with a file with this text, without the path."""
    with pytest.raises(ConfigError) as caught:
        parameters(tmp_path, text)
    assert "\n" not in caught.value.message
    return caught.value.message.removeprefix(str(tmp_path / "b.txt"))


def test_every_field_has_its_meaning_here(tmp_path: Path) -> None:
    """R8's table; the name of the thread pool is noted and left."""
    read = parameters(tmp_path, EVERYTHING)
    model = read.apply_to_model(MODEL)

    assert (128, 5.0, 100 * 128, (32, 128)) == (
        model.max_batch_rows,
        model.max_delay_ms,
        model.max_queued_rows,
        model.allowed_batch_sizes,
    )
    assert 0.005 == model.policy().max_delay_s
    assert 8 == read.apply_to_pool(POOL).max_inflight
    assert (
        f"{tmp_path / 'b.txt'}: thread_pool_name has no effect: batches are not run by threads of ours",
    ) == read.notes


def test_what_a_file_leaves_out_stays(tmp_path: Path) -> None:
    """An empty file changes nothing: TF Serving's own defaults (1000 rows) are not taken over."""
    read = parameters(tmp_path, "")

    assert BatchingParameters() == read
    assert MODEL == read.apply_to_model(MODEL)
    assert POOL == read.apply_to_pool(POOL)


def test_queue_holds_at_least_a_batch(tmp_path: Path) -> None:
    """Zero batches are one, as in TF Serving; and a batch above the default queue bound raises the bound."""
    none = parameters(tmp_path, "max_enqueued_batches { value: 0 }").apply_to_model(MODEL)
    large = parameters(tmp_path, "max_batch_size { value: 10000 }").apply_to_model(MODEL)

    assert 64 == none.max_queued_rows
    assert 10_000 == large.max_queued_rows


def test_the_other_spelling_of_a_list(tmp_path: Path) -> None:
    """Text protos have a short form of repeated fields, and angle brackets."""
    read = parameters(tmp_path, "allowed_batch_sizes: [1, 8] max_batch_size < value: 8 >")

    assert (1, 8) == read.allowed_batch_sizes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_batch_size { value: 0 }", "input_batch_size_limit must be positive; was 0 (max_batch_size)"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be non-negative; was -1"),
        ("num_batch_threads { value: 0 }", "num_batch_threads must be positive; was 0"),
        ("max_enqueued_batches { value: -2 }", "max_enqueued_batches must be positive; was -2"),
        ("allowed_batch_sizes: [0, 64]", "allowed_batch_sizes must be positive; they are [0, 64]"),
        (
            "max_batch_size { value: 64 } allowed_batch_sizes: 32",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 32; expected 64",
        ),
    ],
)
def test_faults_have_tf_servings_texts(tmp_path: Path, text: str, expected: str) -> None:
    """Whoever searches for the text of an error finds what is written about TF Serving's."""
    assert f": {expected}" == fault(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("pad_variable_length_inputs: true", "pad_variable_length_inputs: true is refused"),
        ("enable_large_batch_splitting { value: true }", "enable_large_batch_splitting is not supported yet"),
        ("max_execution_batch_size { value: 8 }", "max_execution_batch_size is not supported yet"),
    ],
)
def test_refused_by_name(tmp_path: Path, text: str, name: str) -> None:
    """What would change answers or cannot be honoured is refused, with what happens without it."""
    said = fault(tmp_path, text)

    assert said.startswith(f": {name}")
    assert "remove it" in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\nmax_batch_size: 128", ":2:17: max_batch_size is written with braces: max_batch_size { value: 128 }"),
        (
            "allowed_batch_sizes { value: 3 }",
            ":1:21: allowed_batch_sizes is written without braces, as in allowed_batch_sizes: 64",
        ),
        ("max_batch_siz { value: 1 }", ":1:1: no field is named 'max_batch_siz'; did you mean 'max_batch_size'?"),
        ("max_batch_size { vale: 3 }", ':1:18: Message type "google.protobuf.Int64Value" has no field named "vale".'),
        ("max_batch_size {", ':1:16: Expected "}".'),
        (
            "max_batch_size { value: 1 }\nmax_batch_size { value: 1 }",
            ':2:16: Message type "batchproxy.tfs.BatchingParameters" should not have multiple "max_batch_size" fields.',
        ),
    ],
)
def test_syntax_errors_have_line_column_and_the_usual_fix(tmp_path: Path, text: str, expected: str) -> None:
    """Braces where none belong, and the reverse, are what people get wrong; the rest is protobuf's own text."""
    assert expected == fault(tmp_path, text)


def test_unknown_fields_list_the_known(tmp_path: Path) -> None:
    """Where nothing is near, all fields are named."""
    said = fault(tmp_path, "zzz: 1")

    assert said.startswith(":1:1: no field is named 'zzz'; known: max_batch_size, ")
    assert said.endswith("max_execution_batch_size")


def test_missing_file() -> None:
    """As for every other file."""
    with pytest.raises(ConfigError, match=r"^/nowhere/b\.txt: no such file"):
        load_batching_parameters("/nowhere/b.txt")


@given(text=st.text() | st.text(alphabet="max_btchsiz:{}0123 \n#\"'<>[],"))
def test_any_text_is_parameters_or_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Whatever a file holds, reading it ends well or with one line that names the file."""
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_text(text, encoding="utf-8")
    said = f"{path}: read"
    try:
        load_batching_parameters(path)
    except ConfigError as error:
        said = error.message

    assert said.startswith(f"{path}:")
    assert 1 == len(said.splitlines())
