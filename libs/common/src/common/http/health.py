"""Serve the health and the metrics of a process over HTTP, with the same limits as the APIs."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from common import metrics
from common.errors import AppError, MethodNotAllowed, NotFound
from common.http.server_limits import BoundedHttp, Connections, HttpLimits

CHECK_S = 0.5
"""How long the check of a dependency may take for `/health/details`."""
_METHODS = ("GET", "HEAD")
_PATHS = ("/health/live", "/health/started", "/health/ready", "/health/details", "/metrics")
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


@dataclass(frozen=True)
class Probes:
    """What the health of a process says.

    `started` is whether it has started. `ready` and `details` return the bodies of their paths. `refresh` updates the
    metrics before they are read.
    """

    ready: Ready
    started: Callable[[], bool] = lambda: True
    details: Callable[[], Awaitable[dict[str, Any]]] | None = None
    refresh: Callable[[], Awaitable[None]] | None = None


async def serve_health(
    probes: Probes, *, host: str, port: int, limits: HttpLimits, shared: bool = False
) -> HealthServer:
    """Serve `/health/live`, `/health/started`, `/health/ready`, `/health/details` and `/metrics`.

    `shared`: several processes listen on the port, and the system gives each connection to one of them. uvicorn's
    server is not used: it would take over the signals of the worker.
    """
    config = uvicorn.Config(_health_app(probes), lifespan="off", log_config=None, ws="none", proxy_headers=False)
    config.load()
    connections = Connections(limits)
    protocol = partial(BoundedHttp, config=config, server_state=ServerState(), app_state={}, connections=connections)
    server = await asyncio.get_running_loop().create_server(protocol, host, port, reuse_port=shared or None)
    return HealthServer(server, connections)


async def state_of(check: Awaitable[None]) -> str:
    """Return "ok" when the check of a dependency succeeds within half a second, else "unavailable".

    The check runs in a task of its own: ending it may take longer than it may take to answer.
    """
    task = asyncio.ensure_future(check)
    task.add_done_callback(_retrieve)
    await asyncio.wait({task}, timeout=CHECK_S)
    is_ok = task.done() and not task.cancelled() and task.exception() is None
    task.cancel()
    return "ok" if is_ok else "unavailable"


def _retrieve(task: "asyncio.Future[None]") -> None:
    """Retrieve the error of a check. Python would log it otherwise."""
    if not task.cancelled():
        task.exception()


def _health_app(probes: Probes) -> ASGIApp:
    async def app(scope: Scope, _: Receive, send: Send) -> None:
        status, content, content_type = await _answer(scope, probes)
        if scope["method"] == "HEAD":
            content = b""
        headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(content))]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return app


async def _answer(scope: Scope, probes: Probes) -> tuple[int, bytes, str]:
    if scope["path"] == "/metrics" and scope["method"] in _METHODS:
        if probes.refresh is not None:
            await probes.refresh()
        return 200, metrics.render(), metrics.CONTENT_TYPE
    status, body = await _health(scope, probes)
    return status, orjson.dumps(body), "application/json"


async def _health(scope: Scope, probes: Probes) -> tuple[int, dict[str, Any]]:
    path = scope["path"]
    if path not in _PATHS:
        return _of(NotFound())
    if scope["method"] not in _METHODS:
        return _of(MethodNotAllowed())
    if path == "/health/ready":
        return await probes.ready()
    if path == "/health/details" and probes.details is not None:
        return 200, await probes.details()
    if path == "/health/started" and not probes.started():
        return 503, {"status": "starting"}
    return 200, {"status": "ok"}


def _of(error: AppError) -> tuple[int, dict[str, Any]]:
    return error.status, error.body("")
