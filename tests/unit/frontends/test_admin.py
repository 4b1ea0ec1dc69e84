"""The operator's door, asked over a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from batchproxy.core.errors import ConfigError
from batchproxy.frontends.admin import Admin


@asynccontextmanager
async def an_admin(reasons: list[str]) -> AsyncIterator[Admin]:
    """A door that is ready while ``reasons`` is empty."""
    admin = Admin(
        "127.0.0.1", 0, not_ready=lambda: reasons, metrics=lambda: b"a_metric 1\n", status=lambda: {"models": []}
    )
    await admin.start()
    try:
        yield admin
    finally:
        await admin.aclose()


async def get(admin: Admin, path: str) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    async with aiohttp.ClientSession() as session, session.get(f"{admin.address}{path}") as answer:
        return answer.status, answer.content_type, await answer.read()


async def test_what_each_path_says() -> None:
    """Health, metrics, the page and what it shows."""
    async with an_admin([]) as admin:
        healthz, metrics = await get(admin, "healthz"), await get(admin, "metrics")
        page, status = await get(admin, ""), await get(admin, "status.json")
        nothing = await get(admin, "nothing")

    assert (200, "application/json", b'{"status":"ok"}') == healthz
    assert (200, "text/plain", b"a_metric 1\n") == metrics
    assert (200, "text/html") == page[:2]
    assert b"status.json" in page[2]
    assert (200, "application/json", b'{"models":[]}') == status
    assert 404 == nothing[0]


async def test_readiness_comes_and_goes_with_its_reasons() -> None:
    """503 with the reasons, 200 without."""
    reasons = ["pool 'tf': no endpoint"]
    async with an_admin(reasons) as admin:
        before = await get(admin, "readyz")
        reasons.clear()
        after = await get(admin, "readyz")

    assert (503, {"ready": False, "reasons": ["pool 'tf': no endpoint"]}) == (before[0], json.loads(before[2]))
    assert (200, {"ready": True, "reasons": []}) == (after[0], json.loads(after[2]))


async def test_a_taken_port_is_a_configuration_error() -> None:
    """It names the flag."""
    async with an_admin([]) as admin:
        port = int(admin.address.rstrip("/").rpartition(":")[2])
        other = Admin("127.0.0.1", port, not_ready=list, metrics=lambda: b"", status=dict)
        with pytest.raises(ConfigError, match="--admin_port"):
            await other.start()
        await other.aclose()
