"""A request whose client has gone is stopped when it only reads, and goes on when it writes."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
from starlette.types import Receive, Scope, Send

from common.http.request_log import RequestLog
from common.http.server_limits import HttpLimits

from .conftest import Server, serve_app


class SlowApp:
    """An application whose requests wait until `go_on` is set. It says what became of them."""

    def __init__(self) -> None:
        self.begun, self.cancelled, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.go_on = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.begun.set()
        try:
            while not self.go_on.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})
        self.ended.set()


@pytest.fixture
def app() -> SlowApp:
    return SlowApp()


@pytest.fixture
def slow_server(app: SlowApp) -> Iterator[Server]:
    with serve_app(RequestLog(app, service="sample"), HttpLimits(), None) as port:
        yield Server(port, "/", b"")
        app.go_on.set()


def leave(server: Server, app: SlowApp, request: bytes) -> None:
    """Send a request and close the connection when the application has begun with it."""
    with server.connect() as connection:
        connection.sendall(request)
        assert app.begun.wait(20)


def test_a_read_is_cancelled(slow_server: Server, app: SlowApp) -> None:
    leave(slow_server, app, b"GET /api/contacts/ HTTP/1.1\r\nHost: a.test\r\n\r\n")
    assert app.cancelled.wait(20)
    assert not app.ended.is_set()


def test_a_write_goes_on(slow_server: Server, app: SlowApp) -> None:
    leave(slow_server, app, b"POST /api/contacts/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n")
    app.go_on.set()
    assert app.ended.wait(20)
    assert not app.cancelled.is_set()
