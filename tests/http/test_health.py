"""The health of a worker, and how many connections a process takes."""

import resource
from typing import Any

import aiohttp
import pytest

from common.http.health import Probes, serve_health
from common.http.server_limits import HttpLimits
from gateway.settings import Settings

from .conftest import SECRET


@pytest.mark.parametrize(
    ("method", "path", "status", "expected"),
    [
        ("GET", "/health/live", 200, {"status": "ok"}),
        ("GET", "/health/ready", 503, {"status": "unavailable", "paused_topics": ["a.v1"]}),
        ("GET", "/health/started", 503, {"status": "starting"}),
        ("GET", "/health/", 404, {"detail": "Not found.", "code": "not_found"}),
        ("POST", "/health/live", 405, {"code": "method_not_allowed"}),
    ],
)
async def test_health_of_a_worker(method: str, path: str, status: int, expected: dict[str, Any]) -> None:
    async def ready() -> tuple[int, dict[str, Any]]:
        return 503, {"status": "unavailable", "paused_topics": ["a.v1"]}

    server = await serve_health(Probes(ready, started=lambda: False), host="127.0.0.1", port=0, limits=HttpLimits())
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as client:
            async with client.request(method, path) as answer:
                body = await answer.json()
            async with client.head(path) as head:
                assert (head.status, await head.read()) == (status if method == "GET" else 200, b"")
    finally:
        await server.close()
    assert answer.status == status
    assert expected.items() <= body.items()
    assert answer.headers.get("Allow") == ("GET, HEAD" if status == 405 else None)


def test_connections_leave_files_for_the_rest_of_the_process() -> None:
    settings = Settings(internal_token_secret=SECRET, clerk_issuer="https://clerk.test", http_max_connections=10**9)
    assert HttpLimits.of(settings).connections <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
