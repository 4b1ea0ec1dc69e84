"""A call of a client: what is known of it before, and after it has ended."""

from __future__ import annotations

from batchproxy.wire.http2_client_call import Call, Fate
from tests.http2_host import Host


def test_a_call_says_what_it_is() -> None:
    """And what became of it; metadata is there once a head came."""
    host = Host()
    call = host.start()
    before = repr(call), call.headers
    [ended] = host.say(host.answer())

    assert ("<Call 1 /s.S/M>", ()) == before
    assert "<Call 1 /s.S/M, has a status>" == repr(ended)
    assert isinstance(ended, Call)
    assert Fate.STATUS is ended.fate


def test_an_extra_is_made_once() -> None:
    """Its length is not known before a prefix came."""
    call = Host().start()
    extra = call.extended(100)

    assert extra is call.extended(200)
    assert (100, -1, None) == (extra.credit, extra.wanted, extra.claim)
