"""A server that drains still serves, and lets its clients close their connections."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from common.http.draining import DrainingServer
from common.http.server_limits import HttpLimits, server_options

from .conftest import read_to_end

REQUEST = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
CLOSE = b"\r\nconnection: close\r\n"


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request with two bytes."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def server() -> Iterator[tuple[DrainingServer, int]]:
    """A server in a thread that drains for longer than the test lasts, and its port."""
    options = {"log_config": None, "lifespan": "off", **server_options(HttpLimits())}
    running = DrainingServer(uvicorn.Config(answer, **options), drain_s=600)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield running, listener.getsockname()[1]
        running.should_exit = running.force_exit = True
        thread.join(20)
        assert not thread.is_alive()


def ask(connection: socket.socket) -> bytes:
    """Return the answer to a request on a connection that stays open afterwards or not."""
    connection.sendall(REQUEST)
    received = b""
    while not received.endswith(b"\r\n\r\nok"):
        chunk = connection.recv(65_536)
        assert chunk, received
        received += chunk
    return received


def ask_once(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        return ask(connection)


def test_a_draining_server_answers_and_closes_each_connection_after_its_answer(
    server: tuple[DrainingServer, int],
) -> None:
    running, port = server
    with socket.create_connection(("127.0.0.1", port), timeout=30) as idle:
        assert CLOSE not in ask(idle)
        running.should_exit = True
        deadline = time.monotonic() + 30
        while CLOSE not in ask_once(port):  # new connections are served before and after the draining begins
            assert time.monotonic() < deadline
        last = ask(idle)
        assert last.startswith(b"HTTP/1.1 200 ")
        assert CLOSE in last
        assert read_to_end(idle) == b""
