"""Clients of v1: their requests as the services get them, and the answers as the clients get them."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from pydantic import ValidationError
from yarl import URL

from gateway.routes import find_route
from gateway.settings import Settings
from gateway.v1.names import ANSWERED, PATHS, STATUSES, to_today, to_v1
from gateway.v1.translate import translate_answer, translate_query, translate_request

from .conftest import Issuer, Start, Upstream
from .v1_requests import RECORDED, Recorded

Upstreams = dict[str, Upstream]
JSON = {"Content-Type": "application/json"}
Ask = Callable[..., Awaitable[tuple[aiohttp.ClientResponse, Any]]]


@pytest.fixture
def ask(gateway: aiohttp.ClientSession, issuer: Issuer) -> Ask:
    """`await ask("GET", "/customers")` returns the answer to a client of v1, and its body."""

    async def send(method: str, path: str, **more: Any) -> tuple[aiohttp.ClientResponse, Any]:
        headers = {**issuer.headers(), **more.pop("headers", {})}
        async with gateway.request(method, "/api/v1" + path, headers=headers, **more) as answer:
            body = await answer.read()
            return answer, json.loads(body) if answer.content_type == "application/json" and body else body

    return send


def reply(upstreams: Upstreams, body: Any, status: int = 200, **headers: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    for upstream in upstreams.values():
        upstream.reply = (
            status,
            {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}},
            content,
        )


@pytest.mark.parametrize("recorded", RECORDED, ids=str)
async def test_recorded_request_is_answered_as_by_v1(ask: Ask, upstreams: Upstreams, recorded: Recorded) -> None:
    reply(upstreams, recorded.answer, recorded.status)
    answer, body = await ask(recorded.method, recorded.path, json=recorded.body)
    assert (answer.status, body) == (recorded.status, recorded.v1_answer)
    [request] = [request for upstream in upstreams.values() for request in upstream.requests]
    assert (request["method"], request["raw"]) == (recorded.method, recorded.target)
    if recorded.body is not None:
        assert json.loads(request["body"]) == recorded.target_body


def test_every_path_of_v1_has_a_route_that_needs_a_token() -> None:
    assert len({row.v1 for row in PATHS}) == len({row.today for row in PATHS}) == len(PATHS)
    for row in PATHS:
        route = find_route(row.today.replace("{id}", "7"))
        assert route is not None, row
        assert route.service, row
        assert not route.public, row


async def test_upload_passes_as_it_is(ask: Ask, upstreams: Upstreams) -> None:
    reply(upstreams, {"id": 4, "status": "failed"}, 202, Location="/api/contacts/imports/4/")
    form = aiohttp.FormData()
    form.add_field("file", b'firstName,phone\n"Ana",0491570006\n', filename="a.csv")
    answer, body = await ask("POST", "/customers/import-customers?groupId=3", data=form)
    received = upstreams["contacts"].requests[-1]
    assert received["raw"] == "/api/contacts/import/?group_id=3"
    assert "firstName,phone\n" in received["body"]
    assert int(received["headers"]["content-length"]) == received["size"]
    assert answer.headers["Location"] == "/api/v1/customers/imports/4"
    assert body == {"id": 4, "status": "failed"}


@pytest.mark.parametrize(
    ("status", "given", "shown"),
    [
        (404, {"detail": "Not found."}, {"error": "Not found.", "detail": "Not found."}),
        (
            400,
            {"first_name": ["Too long."], "contact": ["Unknown.", "Too long."]},
            {
                "error": "Too long. Unknown.",
                "errors": [
                    {"field": "firstName", "message": "Too long."},
                    {"field": "customerId", "message": "Unknown."},
                    {"field": "customerId", "message": "Too long."},
                ],
                "firstName": ["Too long."],
                "customerId": ["Unknown.", "Too long."],
            },
        ),
        (
            502,
            {"success": False, "error": "Busy.", "failure_category": "x"},
            {"error": "Busy.", "failureCategory": "x"},
        ),
    ],
)
async def test_error_has_names_and_shape_of_v1(
    ask: Ask, upstreams: Upstreams, status: int, given: dict[str, Any], shown: dict[str, Any]
) -> None:
    reply(upstreams, {**given, "code": "some_code", "request_id": "r1"}, status)
    answer, body = await ask("POST", "/schedules", json={})
    assert answer.status == status
    assert body == {
        **({"success": False} if "success" in given else {}),
        **shown,
        "code": "some_code",
        "requestId": "r1",
    }


@pytest.mark.parametrize(("path", "name"), [("/schedules", "customerId"), ("/sms/send", "contactId")])
async def test_error_names_the_contact_as_the_request_does(
    ask: Ask, upstreams: Upstreams, path: str, name: str
) -> None:
    reply(upstreams, {"contact_id": ["Enter a number."], "code": "invalid", "request_id": "r1"}, 400)
    _, body = await ask("POST", path, json={name: "x"})
    assert json.loads(upstreams["scheduling"].requests[-1]["body"]) == {"contact_id": "x"}
    assert (body[name], body["errors"]) == (["Enter a number."], [{"field": name, "message": "Enter a number."}])


async def test_large_body_is_translated_as_a_whole(ask: Ask, upstreams: Upstreams) -> None:
    body = b'{"padding": "' + b"x" * 200_000 + b'", "firstName": "Ana"}'
    await ask("POST", "/customers", data=body, headers=JSON)
    assert upstreams["contacts"].requests[-1]["size"] == len(body) + 1


@pytest.mark.parametrize(
    "path",
    [
        *("/contacts", "/contacts/7", "/configs", "/messages", "/health", "/webhooks/clerk", "/", "/v1/customers"),
        *(
            "/internal/identity",
            "/customers/../internal/identity",
            "/customers/%2e%2e",
            "/customers/..%2f..%2finternal",
        ),
        *("/customers/7/schedules/9", "/customers//schedules", "/me/..", "/../../internal/identity/", "/docs/"),
    ],
)
async def test_path_that_is_not_in_the_table_answers_404(
    gateway: aiohttp.ClientSession, issuer: Issuer, upstreams: Upstreams, path: str
) -> None:
    url = URL(f"{str(gateway._base_url).rstrip('/')}/api/v1{path}", encoded=True)
    async with gateway.get(url, headers=issuer.headers()) as answer:
        body = await answer.json()
    request_id = answer.headers["X-Request-ID"]
    assert body == {"error": "Not found.", "detail": "Not found.", "code": "not_found", "requestId": request_id}
    assert answer.status == 404
    assert not any(upstream.requests for upstream in upstreams.values())


async def test_token_and_rate_limits_are_those_of_the_path_that_answers(
    start: Start, issuer: Issuer, upstreams: Upstreams
) -> None:
    permissions = '{"POST /api/sms/send-mms/": "org:messages:burn"}'
    async with aiohttp.ClientSession(start(throttle_rate_sms="1/min", route_permissions=permissions)) as client:
        async with client.get("/api/v1/customers") as answer:
            assert (answer.status, (await answer.json())["code"]) == (401, "not_authenticated")
        statuses = []
        for path in ("/api/v1/sms/send", "/api/sms/send/"):
            async with client.post(path, json={}, headers={**issuer.headers(), "Idempotency-Key": "k"}) as answer:
                statuses.append((answer.status, answer.headers["RateLimit-Remaining"]))
        assert statuses == [(200, "0"), (429, "0")]
        headers = issuer.headers(sub="user_2")
        async with client.post("/api/v1/sms/send-mms", json={}, headers=headers) as answer:
            assert (answer.status, (await answer.json())["error"]) == (
                403,
                "You do not have permission to perform this action.",
            )
    assert [request["headers"]["idempotency-key"] for request in upstreams["scheduling"].requests] == ["k"]


async def test_body_over_the_limit_answers_413_and_reaches_no_service(ask: Ask, upstreams: Upstreams) -> None:
    async def chunks() -> Any:
        for _ in range(40):
            yield b'"' + b"\\" * 30_000

    for body in (b"[" + b" " * 1_000_001, chunks()):
        answer, error = await ask("POST", "/customers", data=body, headers=JSON)
        assert (answer.status, error["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("body", "received"),
    [
        (b'{"firstName": NaN', b'{"first_name": NaN'),
        (b"\xff\xfe", b"\xff\xfe"),
        (b'{"firstName": "a', b'{"first_name": "a'),
        (b'{"a": 1e999, "a": "\\ud800"}', b'{"a": 1e999, "a": "\\ud800"}'),
    ],
)
async def test_malformed_body_reaches_the_service_for_its_error(
    ask: Ask, upstreams: Upstreams, body: bytes, received: bytes
) -> None:
    await ask("POST", "/customers", data=body, headers=JSON)
    assert upstreams["contacts"].requests[-1]["body"].encode("latin-1") == received


async def test_answer_that_is_not_json_or_has_no_body_passes(ask: Ask, upstreams: Upstreams) -> None:
    for status, headers, content in ((204, {}, b""), (200, {"Content-Type": "text/csv"}, b'"first_name":1')):
        for upstream in upstreams.values():
            upstream.reply = (status, headers, content)
        answer, body = await ask("DELETE", "/group-schedules/5")
        assert (answer.status, body) == (status, content)


async def test_answer_is_requested_uncompressed(ask: Ask, upstreams: Upstreams) -> None:
    await ask("GET", "/customers", headers={"Accept-Encoding": "gzip"})
    assert "accept-encoding" not in upstreams["contacts"].requests[-1]["headers"]


@pytest.mark.parametrize("query", ["chunks=1&broken=1", "chunks=260"])
async def test_answer_that_breaks_off_or_is_too_large_is_an_error(ask: Ask, query: str) -> None:
    answer, body = await ask("GET", f"/customers/7?{query}&json=1")
    assert (answer.status, body["code"]) == (502, "unavailable")
    assert body["error"] == body["detail"]


@pytest.mark.parametrize("path", ["/api/v1/customers", "/api/v1/nothing", "/api/v1/schema/"])
async def test_every_answer_says_that_v1_is_deprecated(start: Start, path: str) -> None:
    values = {"v1_deprecated_at": "2026-12-01T00:00:00Z", "v1_sunset_at": "2027-06-30T23:59:59+09:30"}
    async with aiohttp.ClientSession(start(**values)) as client, client.get(path) as answer:
        assert answer.headers["Deprecation"] == "@1796083200"
        assert answer.headers["Sunset"] == "Wed, 30 Jun 2027 14:29:59 GMT"
        assert answer.headers["Link"] == '</api/v1/schema/>; rel="deprecation"; type="application/json"'
        async with client.get("/api/contacts/") as other:
            assert not {"Deprecation", "Sunset", "Link"} & other.headers.keys()


async def test_answer_has_no_header_of_a_time_that_is_not_set(ask: Ask) -> None:
    answer, _ = await ask("GET", "/customers")
    assert not {"Deprecation", "Sunset", "Link"} & answer.headers.keys()


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"v1_clients": "off"}, 410),
        ({"v1_clients": "until_sunset", "v1_sunset_at": "2026-01-01T00:00:00Z"}, 410),
        ({"v1_clients": "until_sunset", "v1_sunset_at": "2199-01-01T00:00:00Z"}, 401),
        ({"v1_clients": "on", "v1_sunset_at": "2026-01-01T00:00:00Z"}, 401),
    ],
)
async def test_v1_is_gone_when_a_setting_says_so(start: Start, values: dict[str, str], status: int) -> None:
    async with aiohttp.ClientSession(start(**values)) as client:
        async with client.get("/api/v1/customers") as answer:
            assert answer.status == status
            assert (await answer.json()).keys() == {"error", "detail", "code", "requestId"}
        async with client.get("/api/contacts/") as answer:
            assert answer.status == 401


def test_until_sunset_needs_a_time(settings: Callable[..., Settings]) -> None:
    with pytest.raises(ValidationError, match="V1_SUNSET_AT"):
        settings(v1_clients="until_sunset")
    with pytest.raises(ValidationError, match="v1_deprecated_at"):
        settings(v1_deprecated_at="tomorrow")


def test_names_round_trip() -> None:
    for name, shown in ANSWERED.items():
        assert to_v1(name) == shown
        assert to_today(shown) in (name, f"{name}_id")
    assert [to_v1(name) for name in ("first_name", "mms_sent", "totalPages", "PENDING", "Idempotency-Key")] == [
        *("firstName", "mmsSent", "totalPages", "PENDING", "Idempotency-Key"),
    ]
    assert set(STATUSES.values()) == {"PENDING", "SENT", "FAILED", "DELETED"}


def test_values_are_never_translated() -> None:
    body = b'{"text": "firstName: \\"lastName\\": x", "name" : "customerId", "lastName":\t[1.50, "mediaUrl"]}'
    assert translate_request(body) == body.replace(b'"lastName":\t', b'"last_name":\t')
    row = next(row for row in PATHS if row.statuses)
    answer = b'{"text":"status","status":"sent","error":"is_active"}'
    assert translate_answer(answer, row) == b'{"text":"status","status":"SENT","error":"is_active"}'


def test_hostile_text_is_translated_in_linear_time() -> None:
    """Translate texts that would take minutes if each quote began a search to the end of the text."""
    for text in (b'"' + b'\\"' * 500_000, b'"' * 1_000_000, b'"a"' + b" " * 900_000, b'{"a":' * 200_000):
        assert translate_request(text) == text


def test_status_format_of_the_client_is_replaced() -> None:
    row = next(row for row in PATHS if row.v1 == "/schedules")
    query = b"status_format=v2&statusFormat=&limit=&dateFrom=2026-01-01&%67roupId=3&x"
    assert translate_query(query, row, "GET") == b"date_from=2026-01-01&group_id=3&x&limit=50&status_format=v1"
