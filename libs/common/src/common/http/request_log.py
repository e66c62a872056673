"""Request ids, and one log line and the metrics of each request."""

import asyncio
import atexit
import logging
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.context import accept_request_id
from common.metrics import RequestMetrics

log = structlog.get_logger("http")
_FLUSH_S = 0.05
_HEADER = b"x-request-id"
_NO_ANSWER = 499  # the status in the log when the connection was closed before the answer


class RequestLog:
    """ASGI middleware that accepts or creates the request id, returns it, logs one line per request, and counts it.

    Requests for paths that begin with one of `not_logged` pass through.
    """

    def __init__(self, app: ASGIApp, *, service: str, not_logged: tuple[str, ...] = ("/health/",)) -> None:
        self._app = app
        self._write = make_writer(service)
        self._metrics = RequestMetrics(service)
        self._not_logged = not_logged

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self._not_logged):
            await self._app(scope, receive, send)
            return
        given = next((value.decode("latin-1") for name, value in scope["headers"] if name == _HEADER), None)
        request_id = accept_request_id(given)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started, status = time.perf_counter(), _NO_ANSWER

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _with_request_id(message["headers"], request_id)
            await send(message)

        scope["task"] = asyncio.current_task()
        try:
            await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            if not scope.get("abandoned"):
                raise
        finally:
            route = str(scope.get("route_template") or getattr(scope.get("route"), "path", "-"))
            seconds = time.perf_counter() - started
            self._metrics.add(scope["method"], route, status, seconds)
            self._write(
                {
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "ms": round(seconds * 1000, 1),
                    **scope.get("caller_log", {}),
                },
                request_id,
            )


def _with_request_id(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    return [*(header for header in headers if header[0].lower() != _HEADER), (_HEADER, request_id.encode())]


class JsonLines:
    """Writes request lines as JSON, several at a time.

    A line through structlog costs 21 µs and a write of its own. These lines have fixed fields without private values,
    so they need none of its processors. A process that is killed loses the lines of its last 50 ms.
    """

    def __init__(self, service: str) -> None:
        self._names = {"level": "info", "service": service, "role": "api", "event": "request"}
        self._lines: list[bytes] = []
        atexit.register(self.flush)

    def write(self, fields: dict[str, Any], request_id: str) -> None:
        """Add the line of a request. It is written within 50 ms."""
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._lines.append(orjson.dumps({**fields, "request_id": request_id, "time": now, **self._names}))
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_later(_FLUSH_S, self.flush)

    def flush(self) -> None:
        """Write the lines to standard output. A closed output must not break a request."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            sys.stdout.write(b"\n".join(lines).decode() + "\n")
            sys.stdout.flush()
        except (OSError, ValueError):
            pass


def make_writer(service: str) -> Any:
    """Return the function that logs a request: `write(fields, request_id)`. It follows the logs' configuration."""
    processors = structlog.get_config()["processors"]
    if not isinstance(processors[-1], structlog.processors.JSONRenderer):
        return lambda fields, _: log.info("request", **fields)
    if logging.getLogger().level > logging.INFO:
        return lambda fields, _: None
    return JsonLines(service).write
