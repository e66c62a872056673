"""Unusual request targets and methods, as bytes on a socket: none reaches an internal route, and none answers 5xx."""

import asyncio
import json
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import Client, ClientOf
from tools.embedded.supervisor import Stack
from tools.token import mint

from .test_routes import phone

pytestmark = pytest.mark.stack

SERVICES = ("contacts", "scheduling", "delivery")
_ROUTE = re.compile(r'router\.(get|post|put|patch|delete)\(\s*"(/internal/[^"]*)"')
_CONNECTIONS = 20

# `{}` is the path of an internal route without its first slash: `internal/…`.
DISGUISES = (
    *(
        "/{}",
        "//{}",
        "///{}",
        "/./{}",
        "/x/../{}",
        "/{}?a=b",
        "/{}#a",
        "/{};a=b",
        "/;/{}",
        "/{}%00",
        "/%00/{}",
        "/{}%20",
    ),
    *(
        "/api/v1/{}",
        "/api/v1//{}",
        "/api/v1/../../{}",
        "/api/v1/customers/../../../{}",
        "/api/v1/customers/..%2f..%2f{}",
    ),
    *("/api/{}", "/api/v2/{}", "/api//{}", "/api/v2//{}", "/API/{}", "/api/V2/{}", "/api/;/{}", "/api/v2/;a=b/{}"),
    *(
        "/api/../{}",
        "/api/v2/../../{}",
        "/api/..//{}",
        "/api/%2e%2e/{}",
        "/api/.%2e/{}",
        "/api/%2E./{}",
        "/api/..%2f{}",
    ),
    *("/api/%2e%2e%2f{}", "/api/%252e%252e/{}", "/api/%252e%252e%252f{}", "/api/..%5c{}", "/api/..\\{}", "/api/..;/{}"),
    *("/api/..%00/{}", "/api/%c0%ae%c0%ae/{}", "/api/%c0%ae%c0%ae%c0%af{}", "/api/%e0%80%ae%e0%80%ae/{}"),
    *("/api/%ef%bc%8e%ef%bc%8e/{}", "/api/%u002e%u002e/{}", "/api/..%0d%0a/{}", "/api/..%09/{}", "/api/...//{}"),
    *("/api/contacts/../../{}", "/api/contacts/%2e%2e/%2e%2e/{}", "/api/contacts/..%2f..%2f{}", "/api/contacts//{}"),
    *("/api/contacts/%252e%252e/%252e%252e/{}", "/api/contacts/..;/..;/{}", "/api/contacts/..;a=b/..;a=b/{}"),
    *("/api/contacts/..%c0%af..%c0%af{}", "/api/contacts/..%255c..%255c{}", "/api/contacts/1/%2e%2e%2f../../../{}"),
    *("/api/schedules/../../{}", "/api/schedules/..%2f..%2f{}", "/api/messages/..%2f..%2f{}", "/api/configs/../../{}"),
    *("/api/webhooks/providers/../../../{}", "/api/webhooks/providers/..%2f..%2f..%2f{}", "/api/webhooks/{}"),
    *("/api/webhooks/providers/%252e%252e/%252e%252e/%252e%252e/{}", "/api/webhooks/providers/..;/..;/..;/{}"),
    *("/media/../{}", "/media/..%2f{}", "/media/%252e%252e/{}", "/media/..;/{}", "/media//{}", "/media/%2e%2e%2f{}"),
    *("/api/docs/../../{}", "/api/docs/..%2f..%2f{}", "/api/docs/%252e%252e/%252e%252e/{}", "/api/health/../../{}"),
    *("/health/../{}", "/health/..%2f{}", "/health//{}", "/metrics/../{}"),
)
# Spellings of the word `internal` itself.
SPELLINGS = (
    *("/INTERNAL/{}", "/Internal/{}", "/%69nternal/{}", "/%69%6e%74%65%72%6e%61%6c/{}", "/%2569nternal/{}"),
    *("/internal%2f{}", "/internal%252f{}", "/internal%5c{}", "/internal\\{}", "/internal;a=b/{}", "/internal%00/{}"),
    *("/internal//{}", "/internal/./{}", "/internal/../internal/{}", "/%c0%afinternal/{}", "/%ef%bd%89nternal/{}"),
    *("/%2finternal/{}", "/%2f%2finternal/{}", "/internal /{}", "/internal%20/{}", "/%0ainternal/{}", "/ internal/{}"),
)


@dataclass
class Raw:
    """Sends bytes to the gateway as a member of an organisation."""

    call: Client
    logs: dict[str, Path]

    async def __call__(self, method: str, target: str, *headers: str, request_id: str = "") -> tuple[int, bytes]:
        """Return the status and the body, or 0 when the connection is closed without an answer."""
        address = urlsplit(self.call.gateway)
        assert self.call.session is not None
        lines = [f"{method} {target} HTTP/1.1", f"Host: {address.netloc}"]
        lines += [f"Authorization: Bearer {mint(self.call.session, self.call.issuer)}", *headers]
        lines += [f"X-Request-ID: {request_id or secrets.token_hex(8)}", "Content-Length: 0", "Connection: close"]
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode())
            async with asyncio.timeout(30):
                content = await reader.read()
        finally:
            writer.close()
        head, _, body = content.partition(b"\r\n\r\n")
        return (int(head.split()[1]) if head else 0), body

    def logged(self, request_ids: set[str]) -> list[tuple[str, str, str]]:
        """Return service, method and route of the requests with these ids that reached a service."""
        return [
            (service, entry["method"], entry["route"])
            for service, log in self.logs.items()
            for line in log.read_text().splitlines()
            if line.startswith("{")
            and (entry := json.loads(line)).get("event") == "request"
            and entry.get("request_id") in request_ids
        ]


@pytest.fixture
async def raw(stack: Stack, client_of: ClientOf, new_organisation: Callable[[], str]) -> Raw:
    call = client_of(new_organisation(), "admin")
    for path in ("/api/contacts/", "/api/templates/", "/api/configs/"):
        assert (await call("GET", path)).status == 200
    return Raw(call, {service: stack.log(f"{service} api") for service in SERVICES})


def internal_routes(root: Path) -> list[tuple[str, str]]:
    """Return method and path of every internal route of the services."""
    found = [
        (method.upper(), re.sub(r"\{[^}]*\}", "1", path))
        for file in sorted((root / "services").glob("*/src/*/*/api.py"))
        for method, path in _ROUTE.findall(file.read_text())
    ]
    assert len(found) > 8
    return found


async def test_no_spelling_of_a_path_reaches_an_internal_route(
    raw: Raw, stack: Stack, repository_root: Path, eventually: Callable[..., Awaitable[Any]]
) -> None:
    """Read the logs of the services, because an internal route may also answer 404."""
    ports = urlsplit(stack.url("contacts api")).netloc
    requests: list[tuple[str, str]] = []
    for method, path in internal_routes(repository_root):
        targets = [disguise.replace("{}", path[1:]) for disguise in DISGUISES]
        targets += [spelling.replace("{}", path.removeprefix("/internal/")) for spelling in SPELLINGS]
        targets += [f"http://{ports}{path}", f"https://contacts{path}", f"http://x@{ports}{path}", f"{ports}{path}"]
        requests += [(sent, target) for target in targets for sent in sorted({method, "GET"})]
    slots = asyncio.Semaphore(_CONNECTIONS)
    ids: dict[str, tuple[str, str]] = {secrets.token_hex(8): request for request in requests}

    async def send(request_id: str) -> str | None:
        async with slots:
            status, body = await raw(*ids[request_id], request_id=request_id)
        is_refused = status in (0, 400, 404, 405) or (status == 403 and b"signature" in body)
        return None if is_refused else f"{ids[request_id]}: {status} {body[:200]!r}"

    faults = [fault for fault in await asyncio.gather(*map(send, ids)) if fault]
    assert not faults, "\n".join(faults)
    # The services write their logs in order, so these lines come after those of all requests above.
    last = {service: secrets.token_hex(8) for service in SERVICES}
    for service, path in zip(SERVICES, ("/api/users/me/", "/api/stats/monthly/", "/api/configs/"), strict=True):
        assert (await raw("GET", path, request_id=last[service]))[0] == 200

    async def all_logged() -> bool:
        return {service for service, _, _ in raw.logged(set(last.values()))} == set(SERVICES)

    await eventually(all_logged)
    reached = raw.logged(set(ids))
    assert reached, "some of the paths are of documented routes, so the services log them"
    # The gateway itself asks who the caller is, with the id of the request.
    assert {entry for entry in reached if "/internal/" in entry[2]} <= {("contacts", "POST", "/internal/identity/")}


async def test_log_shows_that_an_internal_route_was_reached(
    raw: Raw, eventually: Callable[..., Awaitable[Any]]
) -> None:
    """Prove that the test above would see it: a service calls another one with the id of the request."""
    contact = (await raw.call("POST", "/api/contacts/", {"phone": phone()})).body["id"]
    request_id = secrets.token_hex(8)
    body = {"message": "Hi", "contact_id": contact}
    answer = await raw.call("POST", "/api/sms/preview/", body, headers={"X-Request-ID": request_id})
    assert answer.status == 200

    async def is_logged() -> bool:
        return any(route.startswith("/internal/") for _, _, route in raw.logged({request_id}))

    await eventually(is_logged)


# The target, and the statuses that may answer a GET.
TARGETS = [
    ("/api/contacts", 200),
    ("/api/v2/contacts/", 200),
    ("/api/v2/contacts", 200),
    ("/api/v2%2fcontacts/", 200),
    ("/api%2Fcontacts%2F", 200),
    ("/%61pi/contacts/", 200),
    ("/api/v2/v2/contacts/", 404),
    ("/api/v2/api/contacts/", 404),
    ("/api/v2//contacts/", 404),
    ("/api//v2/contacts/", 404),
    ("//api/v2/contacts/", 404),
    ("/api/v2/../contacts/", 404),
    ("/api/v2/%2e/contacts/", 404),
    ("/api/v2./contacts/", 404),
    ("/api/V2/contacts/", 404),
    ("/api/v02/contacts/", 404),
    ("/api/v1/contacts/", 404),
    ("/api/v3/contacts/", 404),
    ("/api/v2;x=1/contacts/", 404),
    ("/api/v2/", 404),
    ("/api/v2", 404),
    ("/api/", 404),
    ("/api", 404),
    ("/", 404),
    ("/API/contacts/", 404),
    ("/api/Contacts/", 404),
    ("/api/contacts//", 404),
    ("/api/contacts/;x=1/", 404),
    ("/api/contacts;x=1/", 404),
    ("/api/contacts/./", 404),
    ("/api/contacts/1/..", 404),
    ("/api/contacts/%2e%2e/groups/", 404),
    ("/api/contacts/%252e%252e/groups/", 404),
    ("/api/contacts/..%2fgroups/", 404),
    ("/api/contacts/%00/", 404),
    ("/api/contacts%00/", 404),
    ("/api/contacts/1%00/", 404),
    ("/api/contacts/1%0a/", 404),
    ("/api/contacts/1%20/", 404),
    ("/api/contacts/%201/", 404),
    ("/api/contacts/+1/", 404),
    ("/api/contacts/-1/", 404),
    ("/api/contacts/0x1/", 404),
    ("/api/contacts/1_0/", 404),
    ("/api/contacts/1.0/", 404),
    ("/api/contacts/1e0/", 404),
    ("/api/contacts/%EF%BC%91/", 404),
    ("/api/contacts/%D9%A1/", 404),
    ("/api/contacts/99999999999999999999999/", 404),
    ("/api/contacts/" + "9" * 5000 + "/", 404),
    ("/api/contacts/%c0%af/", 404),
    ("/api/contacts/%c0%80/", 404),
    ("/api/contacts/%f8%80%80%80%af/", 404),
    ("/api/contacts/%ed%a0%80/", 404),
    ("/api/contacts/%ff%fe/", 404),
    ("/api/contacts/%/", 404),
    ("/api/contacts/%zz/", 404),
    ("/api/contacts/%u0031/", 404),
    ('/api/contacts/<>"^`{|}/', 404),
    ("/api/contacts/\\..\\..\\/", 404),
    ("/api/contacts/import/", 405),
    ("/api/contacts/import//", 404),
    ("/api/sms/send//", 404),
    ("/api/sms/%73end/", 405),
    ("/api/docs/assets/", 404),
    ("/api/docs/assets/../../../etc/passwd", 404),
    ("/api/docs/assets/..%2f..%2f..%2f..%2fetc/passwd", 404),
    ("/api/docs/assets/%252e%252e/%252e%252e/app.py", 404),
    ("/api/docs/assets/%00", 404),
    ("/api/docs/assets/" + "a" * 5000, 404),
    ("/media/x/../../etc/passwd", 404),
    ("/media/x/..%2f..%2fetc%2fpasswd", 404),
    ("/media/x/%00.png", 404),
    ("/media/x/%c0%ae%c0%ae%c0%afx.png", 404),
    ("/media/" + "a" * 5000 + "/a.png", 404),
    ("/media/", 404),
    ("/api/webhooks/clerk/", 405),
    ("/api/webhooks/clerk//", 404),
    ("/api/webhooks/clerk;/", 404),
    ("/api/webhooks/providers/", 404),
    ("/api/webhooks/providers/twilio/%2e%2e/", 404),
    ("http://other.test/api/contacts/", 200),
    ("http://other.test/internal/limits/", 404),
    ("http://other.test//api/contacts/", 404),
    ("*", 404),
]


@pytest.mark.parametrize(("target", "status"), TARGETS, ids=[target[:60] for target, _ in TARGETS])
async def test_unusual_target_is_a_documented_route_or_unknown(raw: Raw, target: str, status: int) -> None:
    found, body = await raw("GET", target)
    assert found == status, body[:300]


@pytest.mark.parametrize("target", ["api/contacts/", "", "/api/contacts/ x", "/api/contacts/\tx", "http://", "://x/"])
async def test_target_that_is_not_one_is_a_client_error(raw: Raw, target: str) -> None:
    status, body = await raw("GET", target)
    assert status in (0, 400, 404), body[:300]


METHODS = [
    ("CONNECT", "127.0.0.1:5432"),
    ("CONNECT", "/api/contacts/"),
    ("CONNECT", "/internal/limits/"),
    ("TRACE", "/api/contacts/"),
    ("TRACE", "*"),
    ("TRACK", "/api/contacts/"),
    ("HEAD", "/api/contacts/"),
    ("OPTIONS", "/api/contacts/"),
    ("OPTIONS", "*"),
    ("PROPFIND", "/api/contacts/"),
    ("PURGE", "/api/contacts/"),
    ("LINK", "/api/contacts/"),
    ("SEARCH", "/api/contacts/"),
    ("QUERY", "/api/contacts/"),
    ("delete", "/api/contacts/{contact}/"),
    ("Delete", "/api/contacts/{contact}/"),
    ("DELETE\t", "/api/contacts/{contact}/"),
    ("XYZ", "/api/contacts/{contact}/"),
    ("PRI", "*"),
    ("POST", "/api/contacts/{contact}/?_method=DELETE"),
    ("GET", "/api/contacts/{contact}/?_method=DELETE"),
]
OVERRIDES = [
    f"{name}: {method}"
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
    for method in ("DELETE", "PATCH", "PUT")
] + ["X-Original-URL: /internal/limits/", "X-Rewrite-URL: /internal/limits/", "X-Forwarded-Prefix: /internal"]


async def test_other_methods_and_overrides_have_no_effect(raw: Raw) -> None:
    """Only the method of the request line counts, and methods that no route has are refused."""
    contact = (await raw.call("POST", "/api/contacts/", {"phone": phone()})).body
    path = f"/api/contacts/{contact['id']}/"
    faults = []
    for method, target in METHODS:
        status, body = await raw(method, target.replace("{contact}", str(contact["id"])))
        is_read = method in ("GET", "HEAD") and status == 200
        if not is_read and (status >= 500 or 200 <= status < 400):
            faults.append(f"{method} {target}: {status} {body[:100]!r}")
        if method.startswith("TRAC"):
            assert b"Bearer" not in body
    for header in OVERRIDES:
        for method, expected in (("POST", 405), ("GET", 200)):
            status, body = await raw(method, path, header)
            if status != expected or (status == 200 and json.loads(body)["id"] != contact["id"]):
                faults.append(f"{method} with {header}: {status} {body[:100]!r}")
    assert not faults, "\n".join(faults)
    assert (await raw.call("GET", path)).body == contact
