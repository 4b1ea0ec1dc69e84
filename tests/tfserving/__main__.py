"""The command: ``python -m tests.tfserving``. TF Serving's flags as far as tests need them, and a few more."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


def _flag(text: str) -> bool:
    return {"true": True, "false": False}[text]


def _arguments(line: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.tfserving")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rest_api_port", type=int, default=0)
    parser.add_argument("--model_config_file", type=Path, required=True, help="base paths are relative to it")
    parser.add_argument("--models", default="", help="names, by commas; all if left out")
    parser.add_argument("--rest_api_timeout_in_ms", type=int, default=30000)
    parser.add_argument("--latency_ms", type=float, default=0, help="each run takes this much longer")
    parser.add_argument("--max_threads", type=int, default=0, help="gRPC calls at a time; more are refused")
    for name in (
        "--rest_api_enable_cors_support",
        "--enable_signature_method_name_check",
        "--enable_serialization_as_tensor_content",
    ):
        parser.add_argument(name, type=_flag, nargs="?", const=True, default=False)
    return parser.parse_args(line)


def main(line: list[str]) -> None:
    """Serves until SIGTERM."""
    arguments = _arguments(line)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})  # for sigwait, and for all threads

    # Only now: TensorFlow takes a while to import, and reads the environment.
    from tests.tfserving.lean import open_tensorflow  # noqa: PLC0415

    open_tensorflow()
    from tests.tfserving import grpc_front, rest_front  # noqa: PLC0415
    from tests.tfserving.inference import Inference  # noqa: PLC0415
    from tests.tfserving.ledger import Ledger  # noqa: PLC0415
    from tests.tfserving.models import Repository, read_config  # noqa: PLC0415

    ledger = Ledger()
    repository = Repository(arguments.model_config_file.parent)
    only = [name for name in arguments.models.split(",") if name]
    repository.configure(read_config(arguments.model_config_file, only))
    inference = Inference(
        repository,
        ledger,
        check_method_names=arguments.enable_signature_method_name_check,
        latency_s=arguments.latency_ms / 1000,
    )
    content = arguments.enable_serialization_as_tensor_content
    grpc_server, grpc_port = grpc_front.serve(
        inference, ledger, arguments.port, content=content, max_threads=arguments.max_threads
    )
    rest = rest_front.Rest(
        inference, ledger, arguments.rest_api_timeout_in_ms, arguments.rest_api_enable_cors_support, content
    )
    rest_port = rest_front.serve(rest, arguments.rest_api_port)
    print(f"serving: grpc 127.0.0.1:{grpc_port} rest 127.0.0.1:{rest_port}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    grpc_server.stop(grace=None).wait()


if __name__ == "__main__":
    main(sys.argv[1:])
