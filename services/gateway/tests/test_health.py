"""The health of the system at `/api/health/`, and the port of the gateway's metrics."""

import socket
from typing import Any

import aiohttp
import pytest

from common import metrics
from services.gateway.tests.conftest import Start, Upstream

WORKER = {"worker": "ok", "database": "ok", "kafka": "ok", "lag": {"delivery.intake": 3}}


async def read_health(gateway: aiohttp.ClientSession, path: str = "/api/health/") -> tuple[int, Any]:
    async with gateway.get(path) as answer:
        return answer.status, await answer.json()


async def test_health_lists_each_service_with_its_dependencies(
    gateway: aiohttp.ClientSession, upstreams: dict[str, Upstream]
) -> None:
    unavailable = {"status": "unavailable", "failure_category": "account_error", "since": "2026-11-25T18:52:31Z"}
    providers = {"twilio": unavailable, "mobile_message": {"status": "available"}}
    upstreams["delivery"].details = (200, {**WORKER, "providers": providers})
    status, body = await read_health(gateway, "/api/v2/health")
    assert (status, body["status"]) == (200, "ok")
    assert body["services"]["delivery"] == {
        "status": "ok",
        "dependencies": {"api": "ok", "worker": "ok", "database": "ok", "kafka": "ok"},
        "lag": {"delivery.intake": 3},
        "providers": providers,
    }
    assert body["services"].keys() == {"contacts", "scheduling", "delivery"}


@pytest.mark.parametrize(
    ("details", "unavailable"),
    [
        ((200, {**WORKER, "database": "unavailable"}), ["database"]),
        ((200, {**WORKER, "kafka": "unavailable"}), ["kafka"]),
        ((200, {**WORKER, "worker": "unavailable"}), ["worker"]),
        ((500, []), ["api", "worker"]),
        ((200, []), ["api", "worker"]),
    ],
)
async def test_missing_dependency_makes_health_503_and_is_named(
    gateway: aiohttp.ClientSession, upstreams: dict[str, Upstream], details: tuple[int, Any], unavailable: list[str]
) -> None:
    upstreams["scheduling"].details = details
    status, body = await read_health(gateway)
    found = body["services"]["scheduling"]
    assert (status, body["status"], found["status"]) == (503, "unavailable", "unavailable")
    assert [name for name, state in found["dependencies"].items() if state != "ok"] == unavailable
    assert found["detail"] == f"Unavailable: {', '.join(unavailable)}."
    assert body["services"]["contacts"]["status"] == "ok"


@pytest.mark.parametrize(("setting", "name"), [("delivery_url", "api"), ("delivery_worker_url", "worker")])
async def test_process_that_does_not_answer_makes_health_503(start: Start, setting: str, name: str) -> None:
    async with aiohttp.ClientSession(start(**{setting: "http://127.0.0.1:1"})) as gateway:
        status, body = await read_health(gateway)
    found = body["services"]["delivery"]
    assert (status, found["status"], found["dependencies"][name]) == (503, "unavailable", "unavailable")


async def test_process_that_accepts_and_never_answers_is_unavailable(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with aiohttp.ClientSession(start(contacts_worker_url=url)) as gateway:
            status, body = await read_health(gateway)
    assert (status, body["services"]["contacts"]["dependencies"]["worker"]) == (503, "unavailable")


async def test_metrics_are_on_a_port_of_their_own_and_not_on_the_public_one(
    start: Start, unused_tcp_port: int, upstreams: dict[str, Upstream]
) -> None:
    upstreams["contacts"].reset()
    async with aiohttp.ClientSession(start(metrics_port=unused_tcp_port)) as gateway:
        for path in (
            "/metrics",
            "/metrics/",
            "/api/metrics",
            "/health/../metrics",
            "/health/metrics",
            "/health/details",
        ):
            async with gateway.get(path) as answer:
                assert answer.status == 404, path
                assert "cooee_" not in await answer.text()
        async with gateway.get(f"http://127.0.0.1:{unused_tcp_port}/metrics") as answer:
            text = await answer.text()
            assert (answer.status, answer.headers["Content-Type"]) == (200, metrics.CONTENT_TYPE)
        async with gateway.get(f"http://127.0.0.1:{unused_tcp_port}/api/contacts/") as answer:
            assert answer.status == 404
    assert 'cooee_http_requests_total{method="GET",route="-",service="gateway",status="404"}' in text
    assert not upstreams["contacts"].requests


async def test_paths_and_methods_of_clients_are_no_labels(start: Start) -> None:
    async with aiohttp.ClientSession(start()) as gateway:
        for number, method in enumerate(("PROPFIND", "MKCOL", "LOCK")):
            async with gateway.request(method, f"/api/contacts/{number}/secret-{number}/") as answer:
                assert answer.status == 401
            async with gateway.get(f"/invented/{number}") as answer:
                assert answer.status == 404
    text = metrics.render().decode()
    assert 'method="other",route="/api/contacts/**",service="gateway",status="401"' in text
    assert "invented" not in text.lower()
    assert "secret" not in text
