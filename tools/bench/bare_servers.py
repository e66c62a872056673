"""The servers of two yardsticks: a bare answer, and a bare proxy. Each does the least that its kind of server can do.

Run as `python -m tools.bench.bare_servers answer PORT` or `… proxy PORT ORIGIN`.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

import aiohttp
import uvicorn
import uvloop
from aiohttp import web
from starlette.types import Receive, Scope, Send

BODY_BYTES = 12_000
"""About the size of a page of 50 contacts."""
_BODY = json.dumps({"results": "x" * (BODY_BYTES - len('{"results": ""}'))}).encode()
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())]


async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer each request with the same 12 kB."""
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})


def serve_answer(port: int) -> None:
    """Serve the bare answer with uvicorn and uvloop."""
    uvicorn.run(
        answer,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="warning",
        access_log=False,
    )


def make_proxy(session: aiohttp.ClientSession, origin: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return a route that forwards each request to the origin, and its answer back."""

    async def forward(request: web.Request) -> web.Response:
        async with session.request(request.method, origin + request.path_qs) as found:
            return web.Response(body=await found.read(), status=found.status, content_type=found.content_type)

    return forward


async def serve_proxy(port: int, origin: str) -> None:
    """Serve the bare proxy with aiohttp as server and as client, until the process is ended."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", make_proxy(session, origin))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "answer":
        serve_answer(int(sys.argv[2]))
    else:
        uvloop.run(serve_proxy(int(sys.argv[2]), sys.argv[3]))
