"""docs/protocols.md says what the tests say: which recorded answers are not matched, and which limits are ours."""

from __future__ import annotations

from tests.conformance.test_limits import TABLE
from tests.golden_cases import ANSWERED_OTHERWISE
from tests.packaging.repository import ROOT

PAGE = (ROOT / "docs" / "protocols.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading; none where no table comes before the next heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_answers_that_differ_are_those_of_the_tests() -> None:
    """Each with its reason; the page says that there are none where there are none."""
    rows = table("Recorded answers that are not matched")

    assert [[f"`{name}`", why] for name, why in ANSWERED_OTHERWISE.items()] == rows
    assert bool(rows) != ("**None.**" in PAGE)


def test_the_limits_are_those_of_the_tests() -> None:
    """With the errors that callers get."""
    expected = [[one.what, one.ours, one.theirs, f"{one.error[0]}: `{one.error[1]}`"] for one in TABLE]

    assert expected == table("Where our limits are stricter")
