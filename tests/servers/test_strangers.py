"""Other people's clients, unchanged but for the address, before the servers of the other protocol and embedded models.

Before servers of their own protocol: ``test_wire``; curl: ``tests/integration/test_curl.py``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.proxy import Proxy, running_in_front_of
from tests.servers.fixture import KINDS, RealServer, python_of
from tests.servers.test_matrix import front
from tests.tfserving.fixture import Server, running_server

STRANGERS = Path(__file__).with_name("strangers")


def outcome(python: str, script: str, *places: str) -> tuple[int, str, str]:
    """How a script ended, and what it printed."""
    line = [python, str(STRANGERS / script), *places]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def doors_of(proxy: Proxy) -> tuple[str, str]:
    """Its REST and gRPC addresses."""
    return proxy.rest.removeprefix("http://"), proxy.grpc


@pytest.mark.parametrize(("kind", "script"), [("triton", "tritonclient_calls.py"), ("kserve", "kserve_calls.py")])
def test_embedded_models(kind: str, script: str) -> None:
    """tritonclient and KServe's clients."""
    with front(None, "here") as before:
        status, printed, problems = outcome(str(python_of(kind)), script, *doors_of(before.proxy))

    assert (0, "as expected\n") == (status, printed), problems


def test_tensorflow_serving_api(servers: dict[str, RealServer]) -> None:
    """Before servers of the Open Inference Protocol, through either door; loading TensorFlow once is long enough."""
    with ExitStack() as stack:
        before = [stack.enter_context(front(servers[kind], door)) for kind in KINDS for door in ("grpc", "rest")]
        places = [one.proxy.grpc for one in before]
        status, printed, problems = outcome(sys.executable, "tf_serving_api.py", *places)

    assert (0, "as expected\n") == (status, printed), problems


@pytest.fixture(scope="module")
def tf_serving() -> Iterator[Server]:
    """TF Serving's test server."""
    with running_server(models=["dtypes"]) as one:
        yield one


@pytest.mark.parametrize("door", ["grpc", "rest"])
@pytest.mark.parametrize(
    ("kind", "script"), [("triton", "tritonclient_tf_serving.py"), ("kserve", "kserve_tf_serving.py")]
)
def test_tf_serving(tf_serving: Server, kind: str, script: str, door: str) -> None:
    """tritonclient and KServe's clients before TensorFlow Serving, through either door."""
    with running_in_front_of([tf_serving], doors=[door]) as proxy:
        status, printed, problems = outcome(str(python_of(kind)), script, *doors_of(proxy))

    assert (0, "as expected\n") == (status, printed), problems
