"""The health of every service is asked from a gateway that runs on a socket."""

import io
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import structlog
import uvicorn
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.app import create_app
from gateway.settings import Settings

from .conftest import Cooee

TWILIO = {"status": "unavailable", "failure_category": "account_error", "since": "2026-11-25T18:52:31Z"}
PAUSED = {"status": "paused", "since": "2026-11-29T15:02:11Z"}
DETAILS = {
    "database": "ok",
    "lag": {"delivery.intake": 1200, "delivery.contacts": 34},
    "providers": {"twilio": TWILIO, "aws": PAUSED},
}


@pytest.fixture
async def processes() -> AsyncIterator[str]:
    """Return the address of a server that answers as every process of the services."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(DETAILS)

    app = web.Application()
    app.router.add_get("/health/details", answer)
    async with TestServer(app) as server:
        yield str(server.make_url(""))


@pytest.fixture
def start_gateway(processes: str) -> Iterator[Callable[..., str]]:
    """`start_gateway(contacts_url="…")` runs a gateway in a thread and returns its address."""
    running: list[tuple[uvicorn.Server, threading.Thread, socket.socket]] = []

    def start(**changes: Any) -> str:
        urls = {f"{name}_url": processes for name in ("contacts", "scheduling", "delivery")}
        urls |= {f"{name}_worker_url": processes for name in ("contacts", "scheduling", "delivery")}
        clerk = {"clerk_issuer": "https://clerk.test", "clerk_jwks_url": "https://clerk.test/jwks"}
        secret = "test-secret-test-secret-test-secret-0"
        settings = Settings(**{"internal_token_secret": secret, "metrics_port": 0, **clerk, **urls, **changes})
        server = uvicorn.Server(uvicorn.Config(create_app(settings), log_config=None))
        listener = socket.create_server(("127.0.0.1", 0))  # accepts from now on, so nothing waits for the start
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        running.append((server, thread, listener))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    logs = structlog.get_config()
    # Standard output is that of the command, and the gateway would log there, too.
    structlog.configure(**logs | {"logger_factory": structlog.PrintLoggerFactory(io.StringIO())})
    yield start
    structlog.configure(**logs)
    for server, thread, listener in running:
        server.should_exit = True
        thread.join(20)
        listener.close()


async def test_health_of_every_service_and_provider_is_shown(cooee: Cooee, start_gateway: Callable[..., str]) -> None:
    gateway = start_gateway()
    shown = await cooee("health", GATEWAY_URL=gateway)
    lines = [line.split() for line in shown.out.splitlines()]
    assert shown.code == 0, "an unavailable provider makes no service unavailable"
    assert lines[0] == [gateway, "is", "ok"]
    assert lines[1] == ["SERVICE", "STATUS", "API", "WORKER", "DATABASE", "KAFKA", "LAG"]
    assert lines[4] == ["delivery", "ok", "ok", "ok", "ok", "ok", "1,234"]
    assert ["twilio", *TWILIO.values()] in lines
    assert ["aws", "paused", "-", PAUSED["since"]] in lines
    as_json = await cooee("health", "--json", GATEWAY_URL=gateway)
    assert (as_json.document["gateway"], as_json.document["status"]) == (gateway, "ok")
    assert as_json.document["services"]["delivery"]["lag"] == DETAILS["lag"]


async def test_unavailable_service_is_found(cooee: Cooee, start_gateway: Callable[..., str]) -> None:
    gateway = start_gateway(scheduling_worker_url="http://127.0.0.1:9")
    shown = await cooee("health", "--gateway", f"{gateway}/")
    (line,) = (line.split() for line in shown.out.splitlines() if line.startswith("scheduling"))
    assert (shown.code, line) == (1, ["scheduling", "unavailable", "ok", "unavailable", "ok", "-", "0"])
    assert shown.out.startswith("Unavailable: scheduling's worker. ")
    as_json = await cooee("health", "--gateway", gateway, "--json")
    assert (as_json.code, as_json.document["status"]) == (1, "unavailable")
    assert as_json.document["unavailable"] == ["scheduling's worker"]


async def test_gateway_that_cannot_be_asked_is_an_error(cooee: Cooee, processes: str) -> None:
    for gateway, code, reason in (
        ("http://127.0.0.1:9", 3, "does not answer"),
        (processes, 3, "answers 404, but not with the health of Cooee"),
        ("http://[", 3, "does not answer"),
        ("127.0.0.1:8080", 2, "must begin with http:// or https://: 127.0.0.1:8080"),
    ):
        failed = await cooee("health", "--gateway", gateway, "--json")
        assert (failed.code, reason in failed.err, failed.document["error"]["exit_code"]) == (code, True, code), failed
    invalid = await cooee("health", GATEWAY_URL="127.0.0.1:8080")
    assert (invalid.code, "must begin with http://" in invalid.err) == (6, True), "a setting, not the command line"
    unknown = await cooee("health", GATEWAY_URL="")
    assert (unknown.code, "GATEWAY_URL" in unknown.err) == (6, True)
