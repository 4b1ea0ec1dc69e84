"""Processes that take the listening sockets over from each other, with callers who make a new connection each time."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.proxy import ROOT, ask, started

MODEL = "--model=half=python:tests.models:picky"
PATH = "/v1/models/half:predict"
HANDOVERS = 10


class Callers:
    """Threads that ask, each request on a connection of its own, or all of a thread's on one that is kept."""

    def __init__(self, places: list[str], *, kept: bool = False) -> None:
        self.answers: Counter[object] = Counter()
        self._ended = threading.Event()
        self._kept = kept
        self._threads = [threading.Thread(target=self._ask, args=(place,)) for place in places]
        for thread in self._threads:
            thread.start()

    def _ask(self, place: str) -> None:
        client = http.client.HTTPConnection(place, timeout=20)
        number = 0
        while not self._ended.is_set():
            number += 2
            try:
                client.request("POST", PATH, json.dumps({"instances": [number]}))
                answer = client.getresponse()
                right = (answer.status, json.loads(answer.read())) == (200, {"predictions": [number / 2 + 2]})
                self.answers["right" if right else answer.status] += 1
            except OSError as error:
                self.answers[repr(error)] += 1
                client.close()
            if not self._kept:
                client.close()
        client.close()

    def wait_for(self, more: int) -> None:
        """Return when so many more answers have come."""
        enough = self.answers.total() + more
        while self.answers.total() < enough:
            pass

    def end(self) -> Counter[object]:
        """What they got, by kind."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        return self.answers


@pytest.mark.parametrize("kept", [False, True], ids=["a connection each", "kept connections"])
def test_ten_processes_one_after_the_other_lose_nobody(tmp_path: Path, kept: bool) -> None:
    """Each takes over while callers go on; the one before it answers what it took, and ends well."""
    flags = [MODEL, f"--takeover={tmp_path / 'takeover'}"]
    statuses = []
    with ExitStack() as stack:
        serving = stack.enter_context(started(flags))
        first = serving
        callers = Callers([serving.grpc, serving.rest.removeprefix("http://")], kept=kept)
        for _ in range(HANDOVERS):
            callers.wait_for(10)
            following = stack.enter_context(started(flags))
            statuses.append(serving.wait())
            serving = following
        callers.wait_for(10)
        found = callers.end()
        same = (first.rest, first.grpc, first.admin) == (serving.rest, serving.grpc, serving.admin)
        ready = ask(f"{serving.admin}/readyz")[0]
        statuses.append(serving.stop())

    assert {"right"} == set(found), found
    assert [0] * (HANDOVERS + 1) == statuses
    assert same
    assert 200 == ready
    assert [] == list(tmp_path.iterdir())


def test_a_process_that_cannot_serve_leaves_the_former_one_alone(tmp_path: Path) -> None:
    """It says why and ends; the former one says so too, and can still hand over."""
    takeover = f"--takeover={tmp_path / 'takeover'}"
    with started([MODEL, takeover]) as former:
        wrong = [sys.executable, "-m", "batchproxy", "serve", "--model=half=onnx:nowhere", takeover]
        status = subprocess.run(wrong, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False).returncode
        with started([MODEL, takeover]) as following:
            ended = former.wait()
            answer = following.post(PATH, {"instances": [1.0]})[0]

    assert (2, 0, 200) == (status, ended, answer)
    assert any("asked to take over and ended before it served" in line for line in former.log)


def test_a_path_that_a_killed_process_left_is_taken_again(tmp_path: Path) -> None:
    """Nobody listens there; the new process opens its own ports."""
    path = tmp_path / "takeover"
    with started([MODEL, f"--takeover={path}"]) as killed:
        killed.process.kill()
        killed.wait()
        left = path.is_socket()
        with started([MODEL, f"--takeover={path}"]) as proxy:
            mode = path.stat().st_mode & 0o777
            answer = proxy.post(PATH, {"instances": [1.0]})[0]

    assert (True, 0o600, 200) == (left, mode, answer)


def test_sockets_that_come_with_the_environment_are_listened_on(tmp_path: Path) -> None:
    """As systemd passes them: from descriptor 3 on, one by its name and one by its address."""
    with socket.create_server(("127.0.0.1", 0)) as rest, socket.create_server(("127.0.0.1", 0)) as grpc:
        places = [one.getsockname()[1] for one in (rest, grpc)]
        serve = [sys.executable, "-m", "batchproxy", "serve", MODEL, "--host=127.0.0.1", "--admin_port=0"]
        environment = {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "REST:batchproxy.socket"}
        moved = [3 + len(places), 4 + len(places)]
        script = (
            "import os, sys\n"
            f"for fd, to in zip(({rest.fileno()}, {grpc.fileno()}), {moved}): os.dup2(fd, to + 40)\n"
            f"for to, fd in enumerate({moved}): os.dup2(fd + 40, 3 + to, inheritable=True)\n"
            "os.environ['LISTEN_PID'] = str(os.getpid())\n"
            f"os.execv(sys.executable, {[*serve, f'--rest_api_port={places[0]}', f'--port={places[1]}']!r})\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**os.environ, **environment},
            pass_fds=[rest.fileno(), grpc.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        answers = [ask(f"http://127.0.0.1:{place}{PATH}", b'{"instances": [1.0]}')[0] for place in places]
        process.terminate()
        said = process.communicate(timeout=30)[1]

    assert [200, 200] == answers, said
    assert 0 == process.returncode
