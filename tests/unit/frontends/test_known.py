"""What is known of a kind of requests holds as long as the model is what it was."""

from __future__ import annotations

from batchproxy.core.errors import BatchProxyError
from batchproxy.core.request import BatchKey, Reply
from batchproxy.core.shapes import DEFAULT_SIGNATURE, Signature
from batchproxy.frontends.known import Known
from batchproxy.frontends.remote import RemotePool
from tests.remotes import FIXED, HALF, FakeServer, a_remote_pool
from tests.serving import Recorder


class Form:
    """Writes nothing."""

    def reply(self, reply: Reply) -> str:
        return ""

    def error(self, error: BatchProxyError) -> str:
        return ""


def known(pool: RemotePool, signature: Signature, *, embedded: bool = False) -> Known[str]:
    """Requests for one signature of a model."""
    key = BatchKey("half_plus_two", None, DEFAULT_SIGNATURE)
    return Known(pool.engine, key, 1, 4, Form(), lambda started, code: None, None if embedded else pool, signature)


async def test_a_servers_model_may_change() -> None:
    """An embedded one does not."""
    async with a_remote_pool(FakeServer(), Recorder()) as pool:
        same = known(pool, HALF).holds()
        other = known(pool, FIXED).holds()
        embedded = known(pool, FIXED, embedded=True).holds()

    assert (True, False, True) == (same, other, embedded)


async def test_what_held_is_looked_at_again_once_the_catalogue_changes() -> None:
    """Until then nobody has to look."""
    server = FakeServer()
    async with a_remote_pool(server, Recorder()) as pool:
        kind = known(pool, HALF)
        first = kind.holds()
        edition = pool.catalogue.edition
        again = kind.holds()
        pool.catalogue.answered("half_plus_two", None, 77)  # of which nothing is known yet
        after = kind.holds()

    assert (True, True, False) == (first, again, after)
    assert edition is not pool.catalogue.edition
