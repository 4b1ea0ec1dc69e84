"""The operator's door, asked over a real socket."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from batchproxy.frontends.admin import LIMITS, AdminRoutes
from batchproxy.frontends.listener import SPARE_FILES, Listener


@asynccontextmanager
async def an_admin(reasons: list[str]) -> AsyncIterator[str]:
    """The address of a door that is ready while ``reasons`` is empty."""
    routes = AdminRoutes(not_ready=lambda: reasons, metrics=lambda: b"a_metric 1\n", status=lambda: {"models": []})
    listener = Listener(routes, None, "127.0.0.1", 0, limits=LIMITS, flag="--admin_port")
    await listener.start()
    try:
        yield f"http://{listener.address}/"
    finally:
        await listener.aclose()


async def get(admin: str, path: str) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    async with aiohttp.ClientSession() as session, session.get(f"{admin}{path}") as answer:
        return answer.status, answer.content_type, await answer.read()


async def said(admin: str, request: str) -> tuple[str, dict[str, str], str]:
    """Status line, header fields and body of the answer to a request line."""
    host, _, port = admin.removeprefix("http://").rstrip("/").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    status, *fields = head.split("\r\n")
    return status, dict(field.split(": ", 1) for field in fields), body


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


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/status.json"])
async def test_head_is_get_without_the_body(path: str) -> None:
    """Status and content type are the same."""
    async with an_admin([]) as admin:
        get_status, get_fields, get_body = await said(admin, f"GET {path}")
        status, fields, body = await said(admin, f"HEAD {path}")

    assert get_body
    assert ("HTTP/1.1 200 OK", "") == (status, body)
    assert (get_status, get_fields["Content-Type"]) == (status, fields["Content-Type"])


@pytest.mark.parametrize(
    "request_line", ["GET /nothing", "GET /healthz/", "GET //healthz", "POST /nothing", "OPTIONS *"]
)
async def test_a_path_that_is_not_there(request_line: str) -> None:
    """404 in words, whatever the method."""
    async with an_admin([]) as admin:
        status, fields, body = await said(admin, request_line)

    assert ("HTTP/1.1 404 Not Found", "404: Not Found") == (status, body)
    assert "text/plain; charset=utf-8" == fields["Content-Type"]


@pytest.mark.parametrize("request_line", ["POST /healthz", "DELETE /", "OPTIONS /metrics"])
async def test_a_method_that_is_not_taken(request_line: str) -> None:
    """405 in words, and which methods are."""
    async with an_admin([]) as admin:
        status, fields, body = await said(admin, request_line)

    assert ("HTTP/1.1 405 Method Not Allowed", "405: Method Not Allowed") == (status, body)
    assert ("GET,HEAD", "text/plain; charset=utf-8") == (fields["Allow"], fields["Content-Type"])


@pytest.mark.parametrize("target", ["/healthz?verbose=1", "/%68ealthz", "http://a.host:8502/healthz"])
async def test_a_path_may_be_written_in_other_ways(target: str) -> None:
    """With a query, with percents, with the host in it."""
    async with an_admin([]) as admin:
        status, _, body = await said(admin, f"GET {target}")

    assert ("HTTP/1.1 200 OK", '{"status":"ok"}') == (status, body)


async def test_http2_is_spoken_here_too() -> None:
    """By curl, that knows beforehand."""
    async with an_admin([]) as admin:
        done = await asyncio.to_thread(
            subprocess.run,
            ["curl", "-s", "--http2-prior-knowledge", f"{admin}metrics"],
            capture_output=True,
            check=True,
        )

    assert b"a_metric 1\n" == done.stdout


def test_lookers_on_leave_files_to_spare() -> None:
    """The connections of this door fit into the descriptors that the listeners leave free, beside other things."""
    assert 2 * LIMITS.connections <= SPARE_FILES
