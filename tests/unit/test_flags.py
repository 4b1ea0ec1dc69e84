"""The table of TF Serving's flags: complete, each class behaving so on the command line, and printed in the docs."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchproxy import flags
from batchproxy.cli.commands import Parser
from batchproxy.cli.serve import add_arguments, from_flags
from batchproxy.core.errors import ConfigError
from batchproxy.flags import FLAGS, Effect, Flag

ROOT = Path(__file__).parents[2]

# `tensorflow_model_server --help`, from the flag_list of model_servers/main.cc at commit 9d981c5c (July 2026)
TENSORFLOW_MODEL_SERVER = """
port grpc_socket_path rest_api_port rest_api_num_threads rest_api_timeout_in_ms rest_api_enable_cors_support
enable_batching allow_version_labels_for_unavailable_models batching_parameters_file
enable_per_model_batching_parameters model_config_file model_config_file_poll_wait_seconds model_name model_base_path
num_load_threads num_unload_threads max_num_load_retries load_retry_interval_micros file_system_poll_wait_seconds
flush_filesystem_caches tensorflow_session_parallelism tensorflow_session_config_file tensorflow_intra_op_parallelism
tensorflow_inter_op_parallelism use_alts_credentials ssl_config_file platform_config_file
per_process_gpu_memory_fraction saved_model_tags grpc_channel_arguments grpc_max_threads enable_model_warmup
num_request_iterations_for_warmup version monitoring_config_file remove_unused_fields_from_bundle_metagraph
prefer_tflite_model num_tflite_pools num_tflite_interpreters_per_pool enable_signature_method_name_check
xla_cpu_compilation_enabled xla_gpu_compilation_enabled enable_profiler thread_pool_factory_config_file mixed_precision
skip_initialize_tpu enable_grpc_healthcheck_service enable_serialization_as_tensor_content
"""

VALUES = {flags.boolean: "true", flags.integer: "3", flags.number: "0.5", str: "/some/value"}


def of(effect: Effect) -> list[Flag]:
    """The flags of one class."""
    return [flag for flag in FLAGS if flag.effect is effect]


def notes(*argv: str) -> list[str]:
    """What `serve` notes of a command line with one model."""
    parser = Parser(prog="batchproxy serve")
    add_arguments(parser)
    said: list[str] = []
    from_flags(parser.parse(["--model", "m=onnx:x", *argv]), say=said.append)
    return said


def test_the_table_is_complete_and_in_order() -> None:
    """Every flag of the server is there once, and no other."""
    assert TENSORFLOW_MODEL_SERVER.split() == [flag.name for flag in FLAGS]


@pytest.mark.parametrize("flag", of(Effect.NONE), ids=lambda flag: flag.name)
def test_flags_without_effect_are_noted_once(flag: Flag) -> None:
    """Given in either spelling, or twice, it is said once that it does nothing, and why."""
    value = VALUES[flag.kind]
    expected = [f"--{flag.name} has no effect: {flag.why}"]

    assert expected == notes(f"--{flag.name}={value}")
    assert expected == notes(f"--{flag.name}", value, f"--{flag.name}={value}")


@pytest.mark.parametrize("flag", of(Effect.REFUSED), ids=lambda flag: flag.name)
def test_refused_flags_say_why_unless_they_ask_for_nothing(flag: Flag) -> None:
    """A value that changes something is an error with the way out; one that asks for nothing passes silently."""
    with pytest.raises(ConfigError) as caught:
        notes(f"--{flag.name}={VALUES[flag.kind]}")

    assert f"--{flag.name} is refused: {flag.why}" == caught.value.message
    for value in flag.asks_for_nothing:
        assert [] == notes(f"--{flag.name}={value}")


@pytest.mark.parametrize("flag", of(Effect.OBEYED), ids=lambda flag: flag.name)
def test_obeyed_flags_are_in_the_help(flag: Flag) -> None:
    """What a flag does when it is obeyed is tested in test_serve.py; here, that it is known and shown."""
    parser = Parser(prog="batchproxy serve")
    add_arguments(parser)

    assert f"--{flag.name}" in parser.format_help()


def test_flags_not_obeyed_are_not_in_the_help() -> None:
    """The help shows what works here; docs/configuration.md has the rest."""
    parser = Parser(prog="batchproxy serve")
    add_arguments(parser)
    shown = parser.format_help()

    assert not [flag.name for flag in FLAGS if flag.effect is not Effect.OBEYED and f"--{flag.name}" in shown]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--enable_model_warmup=maybe", "--enable_model_warmup: expected true or false, got 'maybe'"),
        ("--grpc_max_threads=many", "--grpc_max_threads: expected a whole number, got 'many'"),
        ("--per_process_gpu_memory_fraction=half", "--per_process_gpu_memory_fraction: expected a number, got 'half'"),
    ],
)
def test_values_are_checked_even_without_effect(argument: str, expected: str) -> None:
    """As in TF Serving, a value of the wrong type is an error."""
    with pytest.raises(ConfigError) as caught:
        notes(argument)

    assert f"{expected}; see batchproxy serve --help" == caught.value.message


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("1", True), ("False", False), ("0", False)])
def test_booleans(text: str, expected: bool) -> None:
    """TF Serving's spellings."""
    assert expected is flags.boolean(text)


def test_a_boolean_alone_is_true() -> None:
    """`--flag` is `--flag=true`."""
    assert notes("--enable_model_warmup=true") == notes("--enable_model_warmup")


def test_the_docs_have_the_table() -> None:
    """docs/configuration.md holds what `batchproxy.flags.markdown()` prints; paste it there if this fails."""
    assert flags.markdown() in (ROOT / "docs" / "configuration.md").read_text()
