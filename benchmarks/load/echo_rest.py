"""The yardstick of REST: the shortest aiohttp application that sends a body back. Run as ``... echo_rest PORT``."""

from __future__ import annotations

import sys

import uvloop
from aiohttp import web


async def _echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read(), content_type="application/json")


def main(port: int) -> None:
    """Serve until killed."""
    app = web.Application(client_max_size=0)  # its default of 1 MiB is less than some bodies here
    app.router.add_post("/{path:.*}", _echo)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None, loop=uvloop.new_event_loop())


if __name__ == "__main__":
    main(int(sys.argv[1]))
