"""Forwarding: routes, headers, bodies, and failures of services."""

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from common.errors import GatewayTimeout
from gateway.proxy import Proxy
from gateway.routes import IMPORT_BYTES, UPLOAD_BYTES, Route

from .conftest import Issuer, Start, Upstream, listen

Upstreams = dict[str, Upstream]


@pytest.mark.parametrize(
    ("method", "path", "service"),
    [
        ("GET", "/api/contacts/", "contacts"),
        ("POST", "/api/contacts/import/", "contacts"),
        ("GET", "/api/contacts/7/schedules/", "scheduling"),
        ("PATCH", "/api/contacts/7/", "contacts"),
        ("GET", "/api/groups/3/members/", "contacts"),
        ("GET", "/api/users/me/", "contacts"),
        ("GET", "/api/templates/", "scheduling"),
        ("DELETE", "/api/schedules/9/", "scheduling"),
        ("GET", "/api/group-schedules/9/", "scheduling"),
        ("POST", "/api/sms/send/", "scheduling"),
        ("POST", "/api/sms/send-to-group/", "scheduling"),
        ("POST", "/api/sms/send-mms/", "scheduling"),
        ("POST", "/api/sms/preview/", "scheduling"),
        ("POST", "/api/sms/upload-file/", "delivery"),
        ("GET", "/api/stats/monthly/", "scheduling"),
        ("GET", "/api/configs/", "delivery"),
        ("POST", "/api/webhooks/clerk/", "contacts"),
        ("POST", "/api/webhooks/providers/twilio/status/", "delivery"),
        ("GET", "/media/0198.png", "delivery"),
    ],
)
async def test_route_reaches_its_service(
    gateway: aiohttp.ClientSession, issuer: Issuer, method: str, path: str, service: str
) -> None:
    async with gateway.request(method, path, headers=issuer.headers()) as answer:
        received = await answer.json()
    assert (answer.status, received["service"], received["method"], received["path"]) == (200, service, method, path)


@pytest.mark.parametrize("path", ["/api/contacts", "/api/v2/contacts/", "/api/v2/contacts", "/api/%63ontacts/"])
async def test_old_prefix_or_missing_slash_reaches_the_same_route(
    gateway: aiohttp.ClientSession, issuer: Issuer, path: str
) -> None:
    url = URL(f"{str(gateway._base_url).rstrip('/')}{path}?search=a%20b", encoded=True)
    async with gateway.get(url, headers=issuer.headers()) as answer:
        assert (answer.status, (await answer.json())["raw"]) == (200, "/api/contacts/?search=a%20b")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/",
        "/api",
        "/nothing/",
        "/api/nothing/",
        "/internal/identity/",
        "/api/v2/v2/contacts/",
        "/openapi.json",
    ],
)
async def test_unknown_route_answers_404(gateway: aiohttp.ClientSession, issuer: Issuer, path: str) -> None:
    async with gateway.get(path, headers=issuer.headers()) as answer:
        body = await answer.json()
    assert answer.status == 404
    assert body == {"detail": "Not found.", "code": "not_found", "request_id": answer.headers["X-Request-ID"]}


async def test_service_gets_an_internal_token_and_no_forged_headers(
    gateway: aiohttp.ClientSession, issuer: Issuer, upstreams: Upstreams
) -> None:
    headers = {
        **issuer.headers(),
        "Cookie": "__session=x",
        "X-Forwarded-Host": "evil.test",
        "Forwarded": "for=1.2.3.4",
        "Idempotency-Key": "k1",
        "Prefer": "wait=3",
        "Connection": "keep-alive, X-Hop",
        "X-Hop": "1",
    }
    async with gateway.post("/api/sms/send/", json={"message": "hi"}, headers=headers) as answer:
        assert answer.status == 200
    caller = upstreams["scheduling"].caller()
    assert (caller.organisation_id, caller.user_id, caller.role, caller.organisation_slug) == (
        "org_7",
        42,
        "admin",
        "example-co",
    )
    assert caller.permissions == ("org:messages:send", "org:messages:read", "org:contacts:read")
    received = upstreams["scheduling"].requests[-1]["headers"]
    assert (received["idempotency-key"], received["prefer"]) == ("k1", "wait=3")
    assert received["content-type"] == "application/json"
    assert received["x-forwarded-host"].startswith("127.0.0.1:")
    assert not {"cookie", "forwarded", "x-hop"} & set(received)


async def test_public_route_forwards_the_clients_authorization(
    gateway: aiohttp.ClientSession, upstreams: Upstreams
) -> None:
    await gateway.post("/api/webhooks/providers/x/", data=b"a=1", headers={"Authorization": "Basic eDp5"})
    received = upstreams["delivery"].requests[-1]
    assert (received["headers"]["authorization"], received["body"]) == ("Basic eDp5", "a=1")


@pytest.mark.parametrize(
    ("requested", "forwarded"),
    [
        ("/api/webhooks/providers/x/inbound/", None),
        ("/api/webhooks/providers/x/inbound", "/api/webhooks/providers/x/inbound"),
        ("/api/v2/webhooks/providers/x/inbound/", "/api/v2/webhooks/providers/x/inbound/"),
        ("/api/webhooks/providers/%78/inbound/", "/api/webhooks/providers/%78/inbound/"),
        ("/api/v2/webhooks/providers/%78/inbound", "/api/v2/webhooks/providers/%78/inbound"),
    ],
)
async def test_webhook_is_forwarded_with_the_path_that_its_signature_covers(
    gateway: aiohttp.ClientSession, upstreams: Upstreams, requested: str, forwarded: str | None
) -> None:
    url = URL(f"{str(gateway._base_url).rstrip('/')}{requested}?a=1", encoded=True)
    async with gateway.post(url, data=b"a=1", headers={"X-Forwarded-Path": "/forged/"}) as answer:
        assert answer.status == 200
    received = upstreams["delivery"].requests[-1]
    assert received["raw"] == "/api/webhooks/providers/x/inbound/?a=1"
    assert received["headers"].get("x-forwarded-path") == forwarded


async def test_answer_is_returned_without_hop_by_hop_headers(gateway: aiohttp.ClientSession, issuer: Issuer) -> None:
    async with gateway.get(
        "/api/contacts/?status=418", headers={**issuer.headers(), "X-Request-ID": "abc-1"}
    ) as answer:
        received = await answer.json()
    assert answer.status == 418
    assert answer.headers.getall("X-Request-ID") == ["abc-1"]
    assert received["headers"]["x-request-id"] == "abc-1"
    assert answer.headers["Idempotent-Replayed"] == "true"
    assert "X-Secret" not in answer.headers
    assert len(answer.headers.getall("Date")) == 1


async def test_invalid_request_id_is_replaced(gateway: aiohttp.ClientSession, issuer: Issuer) -> None:
    async with gateway.get("/api/contacts/", headers={**issuer.headers(), "X-Request-ID": "a b"}) as answer:
        assert answer.headers["X-Request-ID"] not in ("", "a b")
        assert (await answer.json())["headers"]["x-request-id"] == answer.headers["X-Request-ID"]


async def test_large_bodies_are_streamed_both_ways(
    gateway: aiohttp.ClientSession, issuer: Issuer, upstreams: Upstreams
) -> None:
    async with gateway.get("/api/contacts/?chunks=40&gated=1", headers=issuer.headers()) as answer:
        first = await answer.content.readexactly(65_536)  # it arrives while the service still writes
        upstreams["contacts"].gate.set()
        rest = await answer.read()
    assert hashlib.sha256(first + rest).digest() == hashlib.sha256(b"x" * 40 * 65_536).digest()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"y" * 65_536

    async with gateway.post("/api/contacts/import/", data=body(), headers=issuer.headers()) as answer:
        assert (answer.status, (await answer.json())["size"]) == (200, 100 * 65_536)


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/api/contacts/", 1_000_000),
        ("/api/contacts/import/", IMPORT_BYTES),
        ("/api/sms/upload-file/", UPLOAD_BYTES),
        ("/api/webhooks/clerk/", 1_000_000),
    ],
)
@pytest.mark.parametrize("has_length", [True, False])
async def test_body_over_the_limit_of_its_route_answers_413(
    gateway: aiohttp.ClientSession, issuer: Issuer, path: str, limit: int, has_length: bool
) -> None:
    async def body(size: int) -> AsyncIterator[bytes]:
        for start in range(0, size, 50_000):
            yield b"z" * min(50_000, size - start)

    async def post(size: int) -> tuple[int, str | None]:
        data = io.BytesIO(b"z" * size) if has_length else body(size)
        async with gateway.post(path, data=data, headers=issuer.headers()) as answer:
            return answer.status, (await answer.json()).get("code")

    assert await post(limit) == (200, None)
    assert await post(limit + 1) == (413, "too_large")


async def test_service_that_is_down_answers_502(start: Start, issuer: Issuer) -> None:
    async with (
        aiohttp.ClientSession(start(scheduling_url="http://127.0.0.1:1")) as client,
        client.get("/api/schedules/", headers=issuer.headers()) as answer,
    ):
        assert (answer.status, (await answer.json())["code"]) == (502, "unavailable")


async def test_service_that_does_not_answer_in_time_answers_504() -> None:
    silent = asyncio.Event()

    async def wait(_: web.Request) -> web.Response:
        await silent.wait()
        return web.Response()

    app = web.Application()
    app.router.add_get("/", wait)
    runner, url = await listen(app)
    proxy = Proxy({"contacts": url})
    scope = {"method": "GET", "headers": [], "query_string": b"", "client": None}
    route = Route("/", "contacts", timeout_s=0.05)
    try:
        with pytest.raises(GatewayTimeout):
            await proxy.forward(scope, asyncio.Queue().get, asyncio.Queue().put, path="/", route=route, token="t")
    finally:
        silent.set()
        await proxy.close()
        await runner.cleanup()


async def test_interrupted_answer_closes_the_connection(gateway: aiohttp.ClientSession, issuer: Issuer) -> None:
    async with gateway.get("/api/contacts/?chunks=2&broken=1", headers=issuer.headers()) as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_answer_interrupted_before_its_body_answers_502(gateway: aiohttp.ClientSession, issuer: Issuer) -> None:
    async with gateway.get("/api/contacts/?chunks=0&broken=1", headers=issuer.headers()) as answer:
        assert (answer.status, (await answer.json())["code"]) == (502, "unavailable")


async def test_answers_without_a_body_are_returned(gateway: aiohttp.ClientSession, issuer: Issuer) -> None:
    async with gateway.delete("/api/contacts/1/?status=204", headers=issuer.headers()) as answer:
        assert (answer.status, await answer.read()) == (204, b"")
    async with gateway.head("/api/contacts/", headers=issuer.headers()) as answer:
        assert (answer.status, await answer.read()) == (200, b"")
    async with gateway.get("/api/contacts/", headers=issuer.headers()) as answer:  # the connection is still usable
        assert answer.status == 200


@pytest.mark.parametrize(
    "target",
    [
        b"/api/contacts/..%2f..%2finternal/identity/",
        b"/api/contacts/../../internal/identity/",
        b"/api/contacts/./",
        b"/api//contacts/",
        b"/api/contacts/%00/",
        b"/api/contacts/%ff%fe/",
        b"/api/contacts/%/",
        b"/api/contacts/" + b"9" * 30_000 + b"/",
        b"/api/contacts/?search=%ZZ%00" + b"a" * 30_000,
        b"/api/contacts/?a=\"<>^`{|}\\[]'",
        b"/api/contacts/?a=\xc3\xa9\xff",
        b"/api/contacts/#x",
        b"http://other.test/api/contacts/",
        b"*",
    ],
)
async def test_unusual_target_is_not_a_server_error(
    gateway: aiohttp.ClientSession, issuer: Issuer, upstreams: Upstreams, target: bytes
) -> None:
    status = await raw_status(gateway, b"GET " + target + b" HTTP/1.1", issuer.headers()["Authorization"].encode())
    assert status < 500
    assert all(request["path"].startswith("/api/contacts/") for request in upstreams["contacts"].requests)
    assert len(upstreams["contacts"].identity_requests) <= 1


@pytest.mark.parametrize(
    "header",
    [
        b"X-Odd: \xff\xfe\xc3",
        b"X-Odd: " + b"a" * 40_000,
        b"X-Odd: \x01\x02",
        b"X-Odd:",
        b"Content-Length: 0",
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999999",
        b"Content-Length: x",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n0",
        b"Expect: something",
        b"Connection: authorization, host, content-length",
        b"Upgrade: h2c",
        b"X-Forwarded-For: \xff, nonsense",
        b"Idempotency-Key: \xe9",
        b"Origin: \xff",
        b"Authorization: Bearer second",
    ],
)
async def test_unusual_header_is_not_a_server_error(
    gateway: aiohttp.ClientSession, issuer: Issuer, header: bytes
) -> None:
    token = issuer.headers()["Authorization"].encode()
    assert await raw_status(gateway, b"GET /api/contacts/ HTTP/1.1", token, header) < 500


async def raw_status(gateway: aiohttp.ClientSession, line: bytes, token: bytes, *more: bytes) -> int:
    """Send a request as these bytes. Return the status, or 499 when the connection is closed without an answer."""
    base = gateway._base_url
    assert base is not None
    reader, writer = await asyncio.open_connection(base.host, base.port)
    try:
        lines = [line, b"Host: gateway.test", b"Authorization: " + token, *more, b"Connection: close"]
        writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
        status_line = await asyncio.wait_for(reader.readline(), 10)
        return int(status_line.split()[1]) if status_line else 499
    finally:
        writer.close()


async def test_error_of_a_service_is_returned(gateway: aiohttp.ClientSession, issuer: Issuer) -> None:
    async with gateway.put("/api/contacts/1/?status=405", data=json.dumps({}), headers=issuer.headers()) as answer:
        assert answer.status == 405
