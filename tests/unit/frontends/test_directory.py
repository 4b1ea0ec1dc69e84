"""Look-ups in TF Serving's words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from batchproxy.core.errors import Code, UnknownModel
from batchproxy.core.shapes import UNDECLARED, ModelInfo
from batchproxy.frontends.directory import Directory, Served

SERVED = Served(ModelInfo("m", 7, {"serving_default": UNDECLARED}), engine=None)  # type: ignore[arg-type]
DIRECTORY = Directory([SERVED])


@pytest.mark.parametrize("version", [None, 7])
def test_a_served_model_is_found(version: int | None) -> None:
    """By name alone, or with its version."""
    assert SERVED is DIRECTORY.find("m", version, None)
    assert SERVED is DIRECTORY.find_status("m", version)


@pytest.mark.parametrize(
    ("name", "version", "label", "code", "text"),
    [
        ("n", None, None, Code.NOT_FOUND, "Servable not found for request: Latest(n)"),
        ("m", 8, None, Code.NOT_FOUND, "Servable not found for request: Specific(m, 8)"),
        ("m", 0, None, Code.NOT_FOUND, "Servable not found for request: Specific(m, 0)"),
        ("m", None, "stable", Code.INVALID_ARGUMENT, "Unrecognized servable version label: stable"),
        ("n", None, "stable", Code.INVALID_ARGUMENT, "Unrecognized servable version label: stable"),
    ],
)
def test_what_is_not_served_is_refused(
    name: str, version: int | None, label: str | None, code: Code, text: str
) -> None:
    """The texts are recorded ones."""
    with pytest.raises(UnknownModel) as caught:
        DIRECTORY.find(name, version, label)

    assert (code, text) == (caught.value.code, caught.value.message)


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda: DIRECTORY.find_status("n", None), "Could not find any versions of model n"),
        (lambda: DIRECTORY.find_status("n", 3), "Could not find version 3 of model n"),
        (lambda: DIRECTORY.find_status("m", 8), "Could not find version 8 of model m"),
    ],
)
def test_the_status_of_what_is_not_served_has_its_own_texts(ask: Callable[[], Served], text: str) -> None:
    """Status calls say it in other words than inference calls."""
    with pytest.raises(UnknownModel) as caught:
        ask()

    assert text == caught.value.message


def test_models_are_listed_in_order() -> None:
    """The order of the configuration."""
    assert (SERVED,) == tuple(DIRECTORY.models())
