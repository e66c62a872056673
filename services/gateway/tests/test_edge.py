"""Permissions of routes, CORS, and health."""

import json

import aiohttp
import pytest

from .conftest import Issuer, Start

REQUIRED = {
    "POST /api/sms/send/": "org:messages:send",
    "DELETE /api/contacts/{id}/": "org:contacts:manage",
    "GET /api/configs": "org:configs:read",
}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/sms/send/", 200),
        ("DELETE", "/api/contacts/7/", 403),
        ("DELETE", "/api/v2/contacts/7", 403),
        ("DELETE", "/api/%63ontacts/7/", 403),
        ("GET", "/api/contacts/7/", 200),
        ("GET", "/api/configs/", 403),
        ("POST", "/api/configs/", 200),
    ],
)
async def test_route_without_its_required_permission_answers_403(
    start: Start, issuer: Issuer, method: str, path: str, status: int
) -> None:
    async with (
        aiohttp.ClientSession() as client,
        client.request(
            method, start(route_permissions=json.dumps(REQUIRED)) + path, headers=issuer.headers()
        ) as answer,
    ):
        body = await answer.json()
    assert answer.status == status
    assert status == 200 or body["code"] == "permission_denied"


async def test_answer_without_configured_origins_has_no_cors_headers(
    gateway: aiohttp.ClientSession, issuer: Issuer
) -> None:
    headers = {**issuer.headers(), "Origin": "https://app.test"}
    async with gateway.get("/api/contacts/", headers=headers) as answer:
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


async def test_cors_headers_are_for_configured_origins_only(start: Start, issuer: Issuer) -> None:
    base = start(cors_allowed_origins="https://app.test,https://b.test", throttle_rate_user="1/day")
    async with aiohttp.ClientSession(base) as client:
        preflight = {
            "Origin": "https://app.test",
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "authorization,content-type,idempotency-key,prefer,x-request-id",
        }
        async with client.options("/api/contacts/1/", headers=preflight) as answer:
            assert answer.status == 200
            assert answer.headers["Access-Control-Allow-Origin"] == "https://app.test"
            assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
        for refused in (
            {"Origin": "https://evil.test"},
            {"Access-Control-Request-Headers": "x-other"},
            {"Access-Control-Request-Method": "TRACE"},
        ):
            async with client.options("/api/contacts/1/", headers={**preflight, **refused}) as answer:
                body = await answer.json()
            assert (answer.status, body["code"]) == (400, "invalid")
            assert body["request_id"] == answer.headers["X-Request-ID"]
        headers = {**issuer.headers(), "Origin": "https://b.test"}
        for status in (200, 429):  # a browser can read errors, too
            async with client.get("/api/contacts/", headers=headers) as answer:
                assert answer.status == status
                assert answer.headers["Access-Control-Allow-Origin"] == "https://b.test"
                exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
            assert exposed == {
                "X-Request-ID",
                "RateLimit-Limit",
                "RateLimit-Remaining",
                "RateLimit-Reset",
                "Retry-After",
                "Idempotent-Replayed",
                "Preference-Applied",
                "Location",
            }
        async with client.get("/api/contacts/", headers={"Origin": "https://evil.test"}) as answer:
            assert answer.status == 401
            assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("path", ["/health/live", "/health/started", "/health/ready"])
async def test_running_gateway_is_live_and_ready(gateway: aiohttp.ClientSession, path: str) -> None:
    async with gateway.get(path) as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})


async def test_wrong_method_of_an_own_route_answers_405(gateway: aiohttp.ClientSession) -> None:
    async with gateway.post("/api/health/") as answer:
        body = await answer.json()
    assert (answer.status, body["code"], answer.headers["Allow"]) == (405, "method_not_allowed", "GET")
