"""Look-ups in TF Serving's words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from batchproxy.codecs.tfs_grpc import State, VersionStatus
from batchproxy.core.errors import Code, UnknownModel
from batchproxy.core.shapes import UNDECLARED, ModelInfo
from batchproxy.frontends.directory import Directory, Served, Versions

SERVED = Served(ModelInfo("m", 7, {"serving_default": UNDECLARED}), engine=None)  # type: ignore[arg-type]
DIRECTORY = Directory([SERVED])


@pytest.mark.parametrize("version", [None, 7])
def test_a_served_model_is_found(version: int | None) -> None:
    """By name alone, or with its version."""
    assert SERVED is DIRECTORY.find("m", version, None)
    assert [VersionStatus(7)] == DIRECTORY.find_status("m", version)


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
def test_the_status_of_what_is_not_served_has_its_own_texts(ask: Callable[[], object], text: str) -> None:
    """Status calls say it in other words than inference calls."""
    with pytest.raises(UnknownModel) as caught:
        ask()

    assert text == caught.value.message


def test_models_are_listed_in_order() -> None:
    """The order of the configuration."""
    assert (SERVED,) == tuple(DIRECTORY.models())


def one(version: int) -> Served:
    """A served version of ``m``."""
    return Served(ModelInfo("m", version, {"serving_default": UNDECLARED}), engine=None)  # type: ignore[arg-type]


def test_several_versions_and_labels() -> None:
    """The highest one without a number; labels mean numbers; what is at its end is told, and cannot be called."""
    directory = Directory([one(1)])
    three, ten = one(3), one(10)
    statuses = [VersionStatus(10), VersionStatus(3), VersionStatus(1, State.END)]
    directory.publish("m", Versions({3: three, 10: ten}, statuses, {"stable": 3, "gone": 1}))

    assert ten is directory.find("m", None, None) is directory.embedded("m") is directory.models()[0]
    assert three is directory.find("m", 3, None) is directory.find("m", None, "stable")
    assert statuses == directory.find_status("m", None)
    assert [VersionStatus(1, State.END)] == directory.find_status("m", 1)
    for version, label in ((1, None), (None, "gone")):
        with pytest.raises(UnknownModel) as caught:
            directory.find("m", version, label)

        assert (Code.NOT_FOUND, "Servable not found for request: Specific(m, 1)") == (
            caught.value.code,
            caught.value.message,
        )


def test_who_keeps_something_is_told_what_changes() -> None:
    """Where another version answers, or a label means another one; not where only a state is another one."""
    directory = Directory([one(1)])
    told: list[int] = []
    directory.on_change(lambda: told.append(1))
    first = directory.find("m", None, None)
    directory.publish("m", Versions({1: first}, [VersionStatus(1), VersionStatus(2, State.LOADING)], {}))

    assert not told
    assert directory.holds(first)

    directory.publish("m", Versions({1: first}, [VersionStatus(1)], {"stable": 1}))
    second = one(2)
    directory.publish("m", Versions({2: second}, [VersionStatus(2)], {"stable": 1}))

    assert [1, 1] == told
    assert not directory.holds(first)
    assert directory.holds(second)
    assert not directory.holds(Served(ModelInfo("n", 1, {}), engine=None))  # type: ignore[arg-type]
