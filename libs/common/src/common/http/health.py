"""Serve the health of a worker over HTTP, with the same limits as the APIs."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import orjson
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from common.errors import AppError, MethodNotAllowed, NotFound
from common.http.server_limits import BoundedHttp, Connections, HttpLimits

Ready = Callable[[], Awaitable[tuple[int, dict[str, Any]]]]


class HealthServer:
    """A listening server. `port` is the port that it got."""

    def __init__(self, server: asyncio.Server, connections: Connections) -> None:
        self._server = server
        self._connections = connections
        self.port: int = server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and close all connections."""
        self._server.close()
        self._connections.close_all()
        await self._server.wait_closed()


async def serve_health(ready: Ready, *, host: str, port: int, limits: HttpLimits) -> HealthServer:
    """Serve `/health/live`, and `/health/ready` with the status and body that `ready` returns.

    uvicorn's server is not used: it would take over the signals of the worker.
    """
    config = uvicorn.Config(_health_app(ready), lifespan="off", log_config=None, ws="none", proxy_headers=False)
    config.load()
    connections = Connections(limits)
    protocol = partial(BoundedHttp, config=config, server_state=ServerState(), app_state={}, connections=connections)
    return HealthServer(await asyncio.get_running_loop().create_server(protocol, host, port), connections)


def _health_app(ready: Ready) -> ASGIApp:
    async def app(scope: Scope, _: Receive, send: Send) -> None:
        status, body = await _answer(scope, ready)
        content = b"" if scope["method"] == "HEAD" else orjson.dumps(body)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return app


async def _answer(scope: Scope, ready: Ready) -> tuple[int, dict[str, Any]]:
    if scope["path"] not in ("/health/live", "/health/ready"):
        return _of(NotFound())
    if scope["method"] not in ("GET", "HEAD"):
        return _of(MethodNotAllowed())
    return await ready() if scope["path"] == "/health/ready" else (200, {"status": "ok"})


def _of(error: AppError) -> tuple[int, dict[str, Any]]:
    return error.status, error.body("")
