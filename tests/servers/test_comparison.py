"""Each cell of docs/comparison.md that says what was run, against the real servers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack

import pytest

from tests.servers.cases import CASES
from tests.servers.comparison import CONTENDERS, TABLE
from tests.servers.contenders import Contender, before, itself
from tests.servers.fixture import ROOT, RealServer, running_servers
from tests.servers.zoo import COMPANY

MARKING = {"a bad row among 31 good ones", "the model says 429, 500, 503"}
"""Cases after which batchproxy makes smaller batches for a while, or spares the server."""

HERE = [(name, case) for name in CONTENDERS for case in CASES]


@pytest.fixture(scope="module", name="batchers")
def _batchers() -> Iterator[dict[str, RealServer]]:
    """Triton and MLServer with models that they batch themselves, and the same ones unbatched."""
    with running_servers(("triton", "mlserver"), tuple(COMPANY)) as found:
        yield found


@pytest.fixture(scope="module", name="contenders")
def _contenders(batchers: dict[str, RealServer]) -> Iterator[dict[str, Contender]]:
    """All four, for cases that leave no traces in who batches."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(_contender(batchers, name)) for name in CONTENDERS}


def _contender(batchers: dict[str, RealServer], name: str) -> AbstractContextManager[Contender]:
    server = batchers[name.rsplit(maxsplit=1)[-1].lower()]
    return before(server) if name.startswith("batchproxy") else itself(server)


@pytest.mark.parametrize(("name", "case"), HERE, ids=[f"{name}: {case}" for name, case in HERE])
def test_what_happens(batchers: dict[str, RealServer], contenders: dict[str, Contender], name: str, case: str) -> None:
    """The case, run against the contender, comes out as the page says."""
    if case in MARKING:
        with _contender(batchers, name) as contender:
            found = CASES[case](contender)
    else:
        found = CASES[case](contenders[name])

    assert TABLE[case].run[CONTENDERS.index(name)].text.rpartition(" says: ")[2] == found


def test_the_page_has_every_case() -> None:
    """In the order of the cases, each contender with a cell."""
    assert list(CASES) == list(TABLE)
    assert {len(CONTENDERS)} == {len(row.run) for row in TABLE.values()}
    assert all(cell.passes for row in TABLE.values() for cell in row.run[:2])


def test_recorded_answers_are_there() -> None:
    """Those that the page names are in the recordings of TF Serving's batching."""
    recorded = "".join(file.read_text() for file in (ROOT / "tests" / "golden").glob("rest_batching*.json"))
    named = {name for row in TABLE.values() for name in re.findall(r"`(batching\w*/\w+)`", row.tf_serving.text)}

    assert named
    assert not {name for name in named if f'"{name}"' not in recorded}
