"""A server that drains serves its open connections, and lets its clients close them."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import uvicorn
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from common.http.draining import DrainingServer
from common.http.server_limits import HttpLimits, server_options
from gateway.settings import Settings

from .conftest import read_to_end

REQUEST = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
CLOSE = b"\r\nconnection: close\r\n"


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request with two bytes."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@dataclass
class Running:
    """A server that runs in a thread."""

    server: DrainingServer
    port: int
    thread: threading.Thread

    def stop(self) -> None:
        """Do what the signal SIGTERM does."""
        self.server.should_exit = True


@pytest.fixture
def server() -> Iterator[Running]:
    """A server in a thread that drains for longer than the test lasts."""
    options = {"log_config": None, "lifespan": "off", **server_options(HttpLimits())}
    running = DrainingServer(uvicorn.Config(answer, **options), drain_s=600)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield Running(running, listener.getsockname()[1], thread)
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


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=30).close()
    except ConnectionError:
        return True
    return False


def test_a_draining_server_answers_on_its_open_connections_and_closes_each_after_its_answer(
    server: Running,
) -> None:
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as used,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as new,
    ):
        assert CLOSE not in ask(used)
        assert CLOSE not in ask(new)
        server.stop()
        deadline = time.monotonic() + 30
        while not is_refused(server.port):
            assert time.monotonic() < deadline
        for connection in (used, new):
            last = ask(connection)
            assert last.startswith(b"HTTP/1.1 200 ")
            assert CLOSE in last
            assert read_to_end(connection) == b""


def test_the_draining_ends_when_no_connection_is_open(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        ask(connection)
        server.stop()
    server.thread.join(30)
    assert not server.thread.is_alive()


def test_several_processes_that_share_a_port_cannot_drain() -> None:
    with pytest.raises(ValidationError, match="DRAIN_S needs API_WORKERS=1"):
        Settings(clerk_issuer="https://clerk.test", internal_token_secret="x" * 32, api_workers=2, drain_s=1)
