"""Every kind of caller through the proxy to every kind of real server, over either of its doors, by element type."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from tests.proxy import Proxy, running
from tests.servers import callers
from tests.servers.callers import CALLERS, Place, read, same, some_inputs, wanted
from tests.servers.fixture import KINDS, ROOT, RealServer
from tests.servers.zoo import BF16, DTYPES, MODELS, WITHOUT

DOORS = ("grpc", "rest")
CROWD = 6
"""Callers at once."""

LACKING = {
    "tfs-rest-rows": {"UINT16", "FP16", BF16},
    "tfs-rest-columns": {"UINT16", "FP16", BF16},
    "v2-rest-json": {"FP16", BF16},
}
"""Element types that a caller's protocol has no words for, or that servers do not take in them."""


class Front:
    """What has the models, and the proxy before it.

    Attributes:
        server: a real one; None: the proxy itself.
        refused: gRPC's code and the status of HTTP where a model refuses a row.
    """

    def __init__(self, server: RealServer | None, proxy: Proxy) -> None:
        self.server = server
        self.proxy = proxy
        self.through = Place(proxy.rest.removeprefix("http://"), proxy.grpc)
        self.direct = self.through if server is None else Place(server.rest, server.grpc)
        self.refused = (3, 400) if server is None else (13, 500)

    def said(self, model: str, inputs: callers.Inputs) -> callers.Outputs:
        """What is answered without the proxy."""
        return MODELS[model].run(inputs) if self.server is None else callers.v2_grpc_call(self.direct, model, inputs)

    def close(self) -> None:
        self.direct.close()
        self.through.close()


@contextmanager
def front(server: RealServer | None, door: str) -> Iterator[Front]:
    """A proxy before one door of a server, or ``both``; None: one that has the models itself."""
    if server is None:
        models = {name: f"python:tests.servers.embedded:{name}" for name in MODELS if name != "mlp"}
    else:
        doors = {"grpc": f"v2+grpc://{server.grpc}", "rest": f"v2+http://{server.rest}"}
        models = {"*": doors.get(door) or ",".join(doors.values())}
    entries = {name: {"endpoint": endpoint, "canary_every": 0} for name, endpoint in models.items()}
    with running(entries) as proxy:
        found = Front(server, proxy)
        try:
            yield found
        finally:
            found.close()


@pytest.fixture(scope="module", params=["embedded-here", *(f"{kind}-{door}" for kind in KINDS for door in DOORS)])
def before(request: pytest.FixtureRequest, servers: dict[str, RealServer]) -> Iterator[Front]:
    """A proxy before each door of each server, and one with the models in its own process."""
    kind, door = request.param.split("-")
    with front(servers.get(kind), door) as found:
        yield found


MATRIX = [(caller, datatype) for caller in CALLERS for datatype in DTYPES if datatype not in LACKING.get(caller, ())]


def check_each_gets_its_own(before: Front, caller: str, datatype: str) -> None:
    """Alone and in company an answer is what the server says directly, bit for bit."""
    model = f"echo_{datatype.lower()}"
    asked = [some_inputs(datatype, 1 + number % 3, 10 * number) for number in range(1 + CROWD)]
    expected = [wanted(caller, before.said(model, inputs)) for inputs in asked]
    alone = CALLERS[caller](before.through, model, asked[0])
    with ThreadPoolExecutor(CROWD) as crowd:
        together = list(crowd.map(lambda inputs: CALLERS[caller](before.through, model, inputs), asked[1:]))

    assert same(expected[0], alone)
    assert [True] * CROWD == [same(*pair) for pair in zip(expected[1:], together, strict=True)]


@pytest.mark.parametrize(("caller", "datatype"), MATRIX)
def test_each_gets_its_own(before: Front, caller: str, datatype: str) -> None:
    """Of each type that numpy has."""
    check_each_gets_its_own(before, caller, datatype)


@pytest.mark.parametrize("caller", [caller for caller in CALLERS if BF16 not in LACKING.get(caller, ())])
def test_bfloat16(before: Front, caller: str) -> None:
    """Where there is a server for it; else it is refused (what such a server says itself: ``test_wire``)."""
    if before.server is None or before.server.kind not in WITHOUT:
        check_each_gets_its_own(before, caller, BF16)
        return
    with pytest.raises(callers.Refused):
        CALLERS[caller](before.through, "echo_fp16", some_inputs(BF16, 1, 1))


def test_half_precision_as_json() -> None:
    """Which embedded models take."""
    with front(None, "here") as before:
        for datatype in ("FP16", BF16):
            check_each_gets_its_own(before, "v2-rest-json", datatype)


@pytest.mark.parametrize("caller", CALLERS)
def test_a_model_of_matrix_products(before: Front, caller: str) -> None:
    """As R1's third law has it: within 2e-6 relative or 1e-6 absolute; row numbers exactly."""
    if before.server is None:
        return  # tests/integration has it
    draw = np.random.default_rng(1)
    asked = [
        {"x": draw.standard_normal((1, 8)).astype(np.float32), "row": np.array([[number]])} for number in range(CROWD)
    ]
    expected = [before.said("mlp", inputs) for inputs in asked]
    with ThreadPoolExecutor(CROWD) as crowd:
        found = list(crowd.map(lambda inputs: read(CALLERS[caller](before.through, "mlp", inputs)), asked))

    for one, other in zip(expected, found, strict=True):
        assert one["row"].tolist() == other["row"].tolist()
        np.testing.assert_allclose(other["y"], one["y"], rtol=2e-6, atol=1e-6)


def test_callers_of_all_kinds_share_batches(before: Front) -> None:
    """They are merged, whoever they are, and the row numbers say that nobody got another's rows."""
    kinds = tuple(CALLERS)

    def ask(number: int) -> bool:
        inputs = some_inputs("INT64", 1, number)
        answer = CALLERS[kinds[number % len(kinds)]](before.through, "echo_int64", inputs)
        return same(wanted(kinds[number % len(kinds)], {"y": inputs["x"][:, ::-1], "row": inputs["row"]}), answer)

    right, number = True, 0
    with ThreadPoolExecutor(CROWD) as crowd:
        while before.proxy.metric("batchproxy_batch_rows_sum") < before.proxy.metric("batchproxy_batch_rows_count") + 8:
            right = right and all(crowd.map(ask, range(number, number + 4 * CROWD)))
            number += 4 * CROWD

    assert right


@pytest.mark.parametrize("caller", CALLERS)
def test_one_bad_row_fails_alone(before: Front, caller: str) -> None:
    """A model that refuses a call for one of its rows: the others get theirs all the same (R3)."""

    def ask(number: int) -> list[list[int]] | int:
        x = np.array([[number, -1 if number % 4 == 0 else 1]])
        try:
            answer = CALLERS[caller](before.through, "strict", {"x": x, "row": np.array([[number]])})
        except callers.Refused as error:
            return error.status
        rows: list[list[int]] = read(answer)["row"].tolist()
        return rows

    with ThreadPoolExecutor(CROWD) as crowd:
        found = list(crowd.map(ask, range(4 * CROWD)))
    refused = before.refused[not caller.endswith("grpc")]

    assert [refused if number % 4 == 0 else [[number]] for number in range(4 * CROWD)] == found


def test_the_page_says_what_is_tried() -> None:
    """docs/protocols.md has a row for each caller and a column for each server, and the types that are left out."""
    page = (ROOT / "docs" / "protocols.md").read_text().partition("\n## Callers and servers\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]

    def cell(caller: str, kind: str) -> str:
        lacking = LACKING.get(caller, set()) | ({BF16} if kind in WITHOUT else set())
        return " but ".join(["all", ", ".join(sorted(lacking, reverse=True))] if lacking else ["all"])

    kinds = ["embedded", *KINDS]

    assert ["caller", *kinds] == [name.lower() for name in rows[0]]
    assert [[f"`{caller}`", *(cell(caller, kind) for kind in kinds)] for caller in CALLERS] == rows[2:]
