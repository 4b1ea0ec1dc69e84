"""Every flag of ``tensorflow_model_server``: obeyed, without effect, or refused, and why. Our own flags are not here.

The rule: a flag whose neglect no caller could notice in an answer is accepted, and it is said once that it
has no effect. One whose neglect would change answers, open a door to the wrong people or leave a service
out is refused, with what to use instead; unless its value is the one that asks for nothing.
The list is that of ``tensorflow_serving/model_servers/main.cc`` in mid-2026.
"""

from __future__ import annotations

import argparse
import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from batchproxy.core.errors import ConfigError


class Effect(enum.Enum):
    """What becomes of a flag."""

    OBEYED = "obeyed"
    NONE = "no effect"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of TF Serving.

    Args:
        name: without the dashes.
        kind: what its value is read as; a wrong one is an error, as in TF Serving.
        effect: what becomes of it.
        why: obeyed: what it means here; no effect: why not; refused: the reason and what to use instead.
        asks_for_nothing: values with which a refused flag is accepted silently, as it changes nothing.
    """

    name: str
    kind: Callable[[str], object]
    effect: Effect
    why: str
    asks_for_nothing: tuple[object, ...] = ()


def boolean(text: str) -> bool:
    """A boolean as TF Serving reads it; a flag without a value is true.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    if text.lower() in {"true", "1"}:
        return True
    if text.lower() in {"false", "0"}:
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")


def integer(text: str) -> int:
    """A whole number.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None


def number(text: str) -> float:
    """A number.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None


def _obeyed(name: str, kind: Callable[[str], object], why: str) -> Flag:
    return Flag(name, kind, Effect.OBEYED, why)


def _no_effect(name: str, kind: Callable[[str], object], why: str) -> Flag:
    return Flag(name, kind, Effect.NONE, why)


def _refused(name: str, kind: Callable[[str], object], why: str) -> Flag:
    nothing: dict[Callable[[str], object], tuple[object, ...]] = {boolean: (False,), str: ("",)}
    return Flag(name, kind, Effect.REFUSED, why, nothing[kind])


_NO_TENSORFLOW = "there is no TensorFlow session in this process"
_NO_RELOAD = "a model is loaded once; one that does not load is tried again when its files change"
_NO_THREADS = "calls are not handled by threads"

FLAGS: tuple[Flag, ...] = (
    _obeyed("port", integer, "port for gRPC (8500); 0 closes it"),
    _obeyed("grpc_socket_path", str, "a Unix socket that takes both protocols, beside the ports; relative or absolute"),
    _obeyed("rest_api_port", integer, "port for REST (8501, where TF Serving has 0); 0 closes it"),
    _no_effect("rest_api_num_threads", integer, _NO_THREADS),
    _obeyed("rest_api_timeout_in_ms", integer, "time limit of a REST call (30000); 0 or less: none"),
    _obeyed(
        "rest_api_enable_cors_support", boolean, "CORS headers (off); an answer that a server gave keeps that server's"
    ),
    _obeyed("enable_batching", boolean, "on by default, unlike TF Serving; false sends every request alone"),
    _no_effect(
        "allow_version_labels_for_unavailable_models", boolean, "there is no model_config_file that assigns labels"
    ),
    _obeyed("batching_parameters_file", str, "for all models; see the table of its fields"),
    _refused(
        "enable_per_model_batching_parameters",
        boolean,
        "batching_params.pbtxt files are not read; give each model its settings in --config",
    ),
    _refused(
        "model_config_file",
        str,
        "leave it to the servers of --backend, or name the models with --model NAME=onnx:PATH or in --config",
    ),
    _no_effect("model_config_file_poll_wait_seconds", integer, "there is no model_config_file to poll"),
    Flag(
        "model_name",
        str,
        Effect.REFUSED,
        "name the model together with its place: --model NAME=onnx:PATH",
        ("default", ""),
    ),
    _refused(
        "model_base_path",
        str,
        "SavedModels are not loaded; let TF Serving load it and use --backend, or export to ONNX and use "
        "--model NAME=onnx:PATH",
    ),
    _no_effect("num_load_threads", integer, _NO_RELOAD),
    _no_effect("num_unload_threads", integer, _NO_RELOAD),
    _no_effect("max_num_load_retries", integer, _NO_RELOAD),
    _no_effect("load_retry_interval_micros", integer, _NO_RELOAD),
    _obeyed(
        "file_system_poll_wait_seconds",
        integer,
        "how often the version folders of --model NAME=onnx:PATH are looked through (1); 0 or less: at the start only",
    ),
    _no_effect("flush_filesystem_caches", boolean, _NO_RELOAD),
    _no_effect("tensorflow_session_parallelism", integer, _NO_TENSORFLOW),
    _no_effect("tensorflow_session_config_file", str, _NO_TENSORFLOW),
    _no_effect("tensorflow_intra_op_parallelism", integer, _NO_TENSORFLOW),
    _no_effect("tensorflow_inter_op_parallelism", integer, _NO_TENSORFLOW),
    _refused(
        "use_alts_credentials",
        boolean,
        "ALTS is not supported: callers would be let in unchecked; use a proxy in front that speaks it",
    ),
    _refused(
        "ssl_config_file",
        str,
        "TLS is not supported yet: traffic would be in the clear; use a proxy in front that speaks it",
    ),
    _refused("platform_config_file", str, "platforms other than --model's onnx: and python: are not loaded"),
    _no_effect("per_process_gpu_memory_fraction", number, _NO_TENSORFLOW),
    Flag(
        "saved_model_tags",
        str,
        Effect.REFUSED,
        "SavedModels are not loaded; export the graph you mean to ONNX and use --model NAME=onnx:PATH",
        ("serve", ""),
    ),
    _no_effect("grpc_channel_arguments", str, "the gRPC door is set up by --config alone"),
    _no_effect("grpc_max_threads", integer, _NO_THREADS),
    _no_effect("enable_model_warmup", boolean, "warm-up records belong to SavedModels, which are not loaded"),
    _no_effect(
        "num_request_iterations_for_warmup", integer, "warm-up records belong to SavedModels, which are not loaded"
    ),
    _obeyed("version", boolean, "prints the version"),
    _no_effect("monitoring_config_file", str, "Prometheus metrics are always on: /metrics at --admin_port"),
    _no_effect("remove_unused_fields_from_bundle_metagraph", boolean, _NO_TENSORFLOW),
    _refused("prefer_tflite_model", boolean, "TensorFlow Lite is not run here; use --model NAME=onnx:PATH"),
    _no_effect("num_tflite_pools", integer, "TensorFlow Lite is not run here"),
    _no_effect("num_tflite_interpreters_per_pool", integer, "TensorFlow Lite is not run here"),
    _no_effect("enable_signature_method_name_check", boolean, "ONNX models and functions have no method names"),
    _no_effect("xla_cpu_compilation_enabled", boolean, _NO_TENSORFLOW),
    _no_effect("xla_gpu_compilation_enabled", boolean, _NO_TENSORFLOW),
    _refused("enable_profiler", boolean, "there is no profiler service; see /metrics at --admin_port"),
    _no_effect("thread_pool_factory_config_file", str, _NO_TENSORFLOW),
    _refused("mixed_precision", str, "models run in the precision they were exported in; export another"),
    _no_effect("skip_initialize_tpu", boolean, "no TPU is used"),
    _obeyed("enable_grpc_healthcheck_service", boolean, "grpc.health.v1 says what /readyz does (off: it is passed on)"),
    _refused(
        "enable_serialization_as_tensor_content",
        boolean,
        "answers carry typed values (float_val and so on); read them with tensorflow.make_ndarray, which takes both",
    ),
)


def add_to(parser: argparse.ArgumentParser) -> None:
    """Let a command line take the flags that are not obeyed; they are left out of ``--help``."""
    for flag in FLAGS:
        if flag.effect is not Effect.OBEYED:
            add_flag(parser, flag.name, flag.kind, help=argparse.SUPPRESS)


def add_flag(
    parser: argparse._ActionsContainer, name: str, kind: Callable[[str], object], **options: str | None
) -> None:
    """Add ``--name``, taken as ``--name=value`` and ``--name value``; of a boolean, ``--name`` alone is true."""
    if kind is boolean:
        parser.add_argument(f"--{name}", type=kind, nargs="?", const=True, **options)  # type: ignore[arg-type]
    else:
        parser.add_argument(f"--{name}", type=kind, **options)  # type: ignore[arg-type]


def notes(args: argparse.Namespace) -> Iterator[str]:
    """What was given without effect, a line for each flag.

    Raises:
        ConfigError: a refused flag was given; the text has the reason and what to use instead.
    """
    given = [flag for flag in FLAGS if getattr(args, flag.name, None) is not None]
    for flag in given:
        value = getattr(args, flag.name)
        if flag.effect is Effect.REFUSED and value not in flag.asks_for_nothing:
            raise ConfigError(f"--{flag.name} is refused: {flag.why}")
    for flag in given:
        if flag.effect is Effect.NONE:
            yield f"--{flag.name} has no effect: {flag.why}"


def markdown() -> str:
    """The table of ``docs/configuration.md``."""
    rows = [f"| `--{flag.name}` | {flag.effect.value} | {flag.why} |" for flag in FLAGS]
    return "\n".join(["| Flag | Here | Why, or what it means |", "|---|---|---|", *rows]) + "\n"
