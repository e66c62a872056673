"""Each kind of server of Cooee on a real socket, with time-outs that are short enough to wait for them."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from starlette.types import ASGIApp

from common.caller import Caller, sign
from common.http.health import HealthServer, Probes, serve_health
from common.http.server_limits import HttpLimits, server_options
from contacts.app import create_app as create_contacts
from contacts.settings import Settings as ContactsSettings
from gateway.app import create_app as create_gateway
from gateway.settings import Settings as GatewaySettings

SECRET = "test-secret-test-secret-test-secret-0"
NOWHERE = "127.0.0.1:1"
LIMITS: dict[str, Any] = {
    "internal_token_secret": SECRET,
    "http_max_header_bytes": 16_384,
    "http_max_headers": 50,
    "http_header_timeout_s": 0.3,
    "http_body_timeout_s": 0.3,
}


@dataclass(frozen=True)
class Server:
    """A running server. `body_path` is a path at which `headers` make the server read a body."""

    port: int
    body_path: str
    headers: bytes

    def connect(self) -> socket.socket:
        """Return a new connection. A read that gets nothing for a long time fails the test."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def exchange(self, data: bytes) -> bytes:
        """Send bytes and return all that the server sends until it closes."""
        with self.connect() as connection:
            connection.sendall(data)
            return read_to_end(connection)

    def is_answering(self) -> bool:
        """Say whether another client gets an answer."""
        answer = self.exchange(b"GET /health/live HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        return answer.startswith(b"HTTP/1.1 200 ")


def read_to_end(connection: socket.socket) -> bytes:
    """Return what the server sends until it closes or resets the connection."""
    received = b""
    try:
        while chunk := connection.recv(65_536):
            received += chunk
    except ConnectionError:
        pass
    return received


Serve = Callable[..., AbstractContextManager[Server]]


@contextmanager
def serve_app(app: ASGIApp, limits: HttpLimits, proxies: str | None) -> Iterator[int]:
    """Run uvicorn with an application in a thread, and yield its port."""
    options = {"port": 0, "log_config": None, "forwarded_allow_ips": proxies, "loop": "uvloop"}
    server = uvicorn.Server(uvicorn.Config(app, **options, **server_options(limits)))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)  # from now on connections are accepted, so nothing waits for the start
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(20)


@contextmanager
def _serve_health(limits: HttpLimits) -> Iterator[int]:
    async def ready() -> tuple[int, dict[str, Any]]:
        return 200, {"status": "ok"}

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    start = serve_health(Probes(ready), host="127.0.0.1", port=0, limits=limits)
    server: HealthServer = asyncio.run_coroutine_threadsafe(start, loop).result(20)
    yield server.port
    asyncio.run_coroutine_threadsafe(server.close(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)
    loop.close()


@contextmanager
def _serve_gateway(changes: dict[str, Any]) -> Iterator[Server]:
    """Run a gateway in front of the API of contacts, which has the time-outs of a normal installation."""
    with _serve_contacts({"http_header_timeout_s": 10.0, "http_body_timeout_s": 30.0}) as contacts:
        urls = {f"{name}_url": f"http://127.0.0.1:{contacts.port}" for name in ("contacts", "scheduling", "delivery")}
        settings = GatewaySettings(
            **{"port": 0, "metrics_port": 0, "clerk_issuer": "https://clerk.test", **urls, **LIMITS, **changes}
        )
        with serve_app(create_gateway(settings), HttpLimits.of(settings), settings.forwarded_allow_ips) as port:
            yield Server(port, "/api/webhooks/clerk/", b"Host: a.test\r\n")


def _contacts_settings(changes: dict[str, Any]) -> ContactsSettings:
    values = {
        "port": 0,
        "worker_port": 0,
        "database_url": f"postgresql://contacts:x@{NOWHERE}/cooee",
        "kafka_bootstrap_servers": NOWHERE,
        "clerk_webhook_signing_secret": "whsec_dGVzdA==",
    }
    return ContactsSettings(**{**values, **LIMITS, **changes})


@contextmanager
def _serve_contacts(changes: dict[str, Any]) -> Iterator[Server]:
    settings = _contacts_settings(changes)
    caller = Caller(organisation_id="org_a", user_id=1, role="member")
    token = sign(caller, issuer="gateway", audience="contacts", secret=SECRET)
    with serve_app(create_contacts(settings), HttpLimits.of(settings), settings.forwarded_allow_ips) as port:
        yield Server(port, "/api/contacts/", f"Host: a.test\r\nAuthorization: Bearer {token}\r\n".encode())


@contextmanager
def _serve_worker(changes: dict[str, Any]) -> Iterator[Server]:
    with _serve_health(HttpLimits.of(_contacts_settings(changes))) as port:
        yield Server(port, "/health/live", b"Host: a.test\r\n")


# No attack reaches the database, so there is none.
KINDS = {"gateway": _serve_gateway, "service": _serve_contacts, "worker": _serve_worker}


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of each kind."""
    with KINDS[request.param]({}) as running:
        yield running


@pytest.fixture(scope="module", params=KINDS)
def start(request: pytest.FixtureRequest) -> Serve:
    """`with start(http_max_connections=2) as server:` runs a server of each kind with changed settings."""
    return lambda **changes: KINDS[request.param](changes)
