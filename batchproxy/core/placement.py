"""Which endpoint of a pool does not have which model, as their own answers say. Asks nobody: `batchproxy.placement`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from batchproxy.core.request import Version

if TYPE_CHECKING:
    from batchproxy.core.balancer import Endpoint

MAX_PLACED = 1024
"""Models and versions that are noted at once; the oldest is forgotten for one more. Callers can name any version."""

Placed = tuple[str, Version]
"""A model's name and the version that is asked for."""


class Placement:
    """Endpoints that said NOT_FOUND where another one may have the model.

    Attributes:
        absent: model and version to those without it; empty where every endpoint has what it is asked for.
    """

    def __init__(self) -> None:
        self.absent: dict[Placed, set[Endpoint]] = {}

    def without(self, model: str, version: Version, endpoints: Sequence[Endpoint]) -> Collection[Endpoint]:
        """Those that are to get no calls for a model: none where that would leave nobody."""
        absent = self.absent.get((model, version))
        if absent is None or not any(_usable(endpoint) and endpoint not in absent for endpoint in endpoints):
            return ()
        return absent

    def lacks(
        self,
        endpoint: Endpoint,
        model: str,
        version: Version,
        endpoints: Sequence[Endpoint],
        notice: Callable[[str], None],
    ) -> bool:
        """An endpoint said that it does not have a model; whether another one may be asked for it.

        Where all others said so before, it may have moved since: they are asked again. How often, the caller bounds.
        """
        placed, others = (model, version), [other for other in endpoints if _usable(other) and other is not endpoint]
        if not others:
            self.absent.pop(placed, None)
            return False
        absent = self.absent.setdefault(placed, set())
        known = endpoint in absent
        if all(other in absent for other in others):
            absent.clear()  # it may have moved since they said so
        absent.add(endpoint)
        if len(self.absent) > MAX_PLACED:
            del self.absent[next(iter(self.absent))]
        if not known:
            notice(
                f"endpoint {endpoint.name}: does not have model {model!r}{_shown(version)}; it gets no calls for it "
                "until it says that it has it"
            )
        return True

    def has(self, endpoint: Endpoint, model: str, version: Version, notice: Callable[[str], None]) -> None:
        """An endpoint has a model now."""
        absent = self.absent.get((model, version))
        if absent is None or endpoint not in absent:
            return
        absent.discard(endpoint)
        if not absent:
            del self.absent[model, version]
        notice(f"endpoint {endpoint.name}: has model {model!r}{_shown(version)} now, and gets calls for it")

    def nobody(self, model: str, version: Version) -> None:
        """All were asked, and none has it."""
        self.absent.pop((model, version), None)

    def forget(self, endpoint: Endpoint) -> None:
        """An endpoint was removed, or started anew: what it has is to be seen."""
        for placed, absent in list(self.absent.items()):
            absent.discard(endpoint)
            if not absent:
                del self.absent[placed]


def _usable(endpoint: Endpoint) -> bool:
    return endpoint.up and not endpoint.out


def _shown(version: Version) -> str:
    return "" if version is None else f", version {version}"
