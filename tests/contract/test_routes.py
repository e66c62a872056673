"""Every documented route, for anonymous callers, without an organisation, for another one, members and admins."""

import io
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import aiohttp
import pytest

from tests.conftest import Client, ClientOf

pytestmark = pytest.mark.stack

_NUMBERS = count(1)
_PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64
PUBLIC = {"/api/health/", "/api/schema/", "/api/webhooks/clerk/", "/api/webhooks/providers/{provider}/{kind}/"}
ADMIN = {("POST", "/api/configs/"), ("PUT", "/api/configs/{config_id}/"), ("PATCH", "/api/configs/{config_id}/")}


def phone() -> str:
    """Return a phone number that no test used before."""
    return f"0442{next(_NUMBERS):06d}"


def soon() -> str:
    """Return a time two days ahead."""
    return (datetime.now(UTC) + timedelta(days=2)).isoformat()


def multipart(name: str, content: bytes) -> aiohttp.FormData:
    """Return a form with one file."""
    form = aiohttp.FormData()
    form.add_field("file", io.BytesIO(content), filename=name)
    return form


@dataclass
class Tenant:
    """An organisation with one row of each kind. `ids` fill path parameters and bodies."""

    call: Client
    ids: dict[str, int] = field(default_factory=dict)

    async def create(self, name: str, path: str, body: Any) -> None:
        """Create a row with POST and store its id under the name."""
        answer = await self.call("POST", path, body)
        assert answer.status in (201, 202), (path, answer)
        self.ids[name] = answer.body.get("id") or answer.body.get("schedule_id")


async def furnish(call: Client) -> Tenant:
    """Create one row of each kind. Schedules are days ahead, so nothing is sent."""
    tenant = Tenant(call)
    await tenant.create("contact_id", "/api/contacts/", {"phone": phone(), "first_name": "Ana"})
    await tenant.create("spare_contact_id", "/api/contacts/", {"phone": phone()})
    members = {"name": "Group", "member_ids": [tenant.ids["contact_id"], tenant.ids["spare_contact_id"]]}
    await tenant.create("group_id", "/api/groups/", members)
    await tenant.create("template_id", "/api/templates/", {"name": "T", "text": "Hi {{first_name}}"})
    single = {"text": "Hi", "phone": phone(), "scheduled_time": soon()}
    await tenant.create("schedule_id", "/api/schedules/", single)
    batch = {"name": "Batch", "group_id": tenant.ids["group_id"], "text": "Hi", "scheduled_time": soon()}
    await tenant.create("group_schedule_id", "/api/group-schedules/", batch)
    await tenant.create("config_id", "/api/configs/", {"name": "sms_limit", "value": "1000"})
    await call("POST", "/api/contacts/import/", data=multipart("a.csv", b"phone\n"))
    tenant.ids["import_id"] = (await call("GET", "/api/contacts/imports/")).body["results"][0]["id"]
    tenant.ids["user_id"] = (await call("GET", "/api/users/me/")).body["id"]
    return tenant


def body_of(method: str, path: str, ids: dict[str, int]) -> dict[str, Any]:
    """Return the arguments of a valid request, or {} for a route without a body."""
    if method in ("GET", "DELETE") and not path.endswith("/members/"):
        return {}
    image = "https://example.com/a.png"
    bodies: dict[str, Any] = {
        "/api/contacts/": {"phone": phone()},
        "/api/contacts/{contact_id}/": {"phone": phone(), "first_name": "Bo"},
        "/api/groups/": {"name": "More"},
        "/api/groups/{group_id}/": {"name": "Renamed"},
        "/api/groups/{group_id}/members/": {"contact_ids": [ids["contact_id"]]},
        "/api/templates/": {"name": "Another", "text": "x"},
        "/api/templates/{template_id}/": {"name": "T", "text": "Hello {{first_name}}"},
        "/api/schedules/": {"text": "x", "phone": phone(), "scheduled_time": soon()},
        "/api/schedules/{schedule_id}/": {"text": "y", "phone": phone(), "scheduled_time": soon()},
        "/api/group-schedules/": {"name": "B", "group_id": ids["group_id"], "text": "x", "scheduled_time": soon()},
        "/api/group-schedules/{group_schedule_id}/": {
            "name": "C",
            "group_id": ids["group_id"],
            "text": "z",
            "scheduled_time": soon(),
        },
        "/api/sms/send/": {"message": "now", "recipient": phone()},
        "/api/sms/send-mms/": {"message": "", "media_url": image, "recipient": phone()},
        "/api/sms/send-to-group/": {"message": "now", "group_id": ids["group_id"]},
        "/api/sms/preview/": {"message": "Hi {{first_name}}", "contact_id": ids["contact_id"]},
        "/api/configs/": {"name": f"name_{next(_NUMBERS)}", "value": "x"},
        "/api/configs/{config_id}/": {"name": "sms_limit", "value": "2000"},
    }
    if path == "/api/contacts/import/":
        return {"data": multipart("a.csv", b"phone\n" + phone().encode() + b"\n")}
    if path == "/api/sms/upload-file/":
        return {"data": multipart("a.png", _PNG)}
    return {"json": bodies[path]} if path in bodies else {}


def fill(path: str, ids: dict[str, int]) -> str:
    """Return the path with ids. Other parameters become a name that does not exist."""
    return re.sub(r"\{(\w+)\}", lambda match: str(ids.get(match[1], "pigeon")), path)


@pytest.fixture(scope="module")
async def operations(client_of: ClientOf) -> list[tuple[str, str]]:
    """Return method and path of every documented operation."""
    document = (await client_of(None)("GET", "/api/schema/")).body
    found = [(m.upper(), path) for path, item in document["paths"].items() for m in item if m != "parameters"]
    assert len(found) > 45
    return found


@pytest.fixture(scope="module")
async def tenants(client_of: ClientOf) -> tuple[Tenant, Tenant]:
    """Create two organisations."""
    mine = await furnish(client_of("org_table_a", "admin", "user_a"))
    theirs = await furnish(client_of("org_table_b", "admin", "user_b"))
    return mine, theirs


async def each(operations: list[tuple[str, str]], check: Callable[[str, str], Awaitable[str | None]]) -> None:
    """Run the check for every operation and report all failures together."""
    failures = [failure for method, path in operations if (failure := await check(method, path))]
    assert not failures, "\n".join(failures)


async def test_caller_without_identity_or_organisation_is_refused(
    operations: list[tuple[str, str]], tenants: tuple[Tenant, Tenant], client_of: ClientOf
) -> None:
    ids = tenants[0].ids

    async def check(method: str, path: str) -> str | None:
        if path in PUBLIC:
            return None
        for organisation, status, code in ((None, 401, "not_authenticated"), ("", 403, "permission_denied")):
            answer = await client_of(organisation)(method, fill(path, ids), **body_of(method, path, ids))
            challenged = answer.headers.get("www-authenticate") == "Bearer" if status == 401 else True
            if (answer.status, answer.body.get("code")) != (status, code) or not challenged:
                return f"{method} {path} with organisation {organisation!r}: {answer}"
        return None

    await each(operations, check)


async def test_rows_of_another_organisation_are_not_found(
    operations: list[tuple[str, str]], tenants: tuple[Tenant, Tenant]
) -> None:
    """Use ids of another organisation in paths and in bodies."""
    mine, theirs = tenants

    async def check(method: str, path: str) -> str | None:
        if "{" not in path:
            return None
        arguments = body_of(method, path, mine.ids)
        answer = await mine.call(method, fill(path, theirs.ids), **arguments)
        is_right = answer.status == 404 and answer.body.get("code") == "not_found"
        return None if is_right else f"{method} {path}: {answer}"

    await each(operations, check)
    for path, body in (
        ("/api/schedules/", {"text": "x", "contact": theirs.ids["contact_id"], "scheduled_time": soon()}),
        ("/api/schedules/", {"template": theirs.ids["template_id"], "phone": phone(), "scheduled_time": soon()}),
        *(
            ("/api/schedules/", {"text": "x", "phone": phone(), "scheduled_time": soon(), name: theirs.ids["group_id"]})
            for name in ("group", "group_id")
        ),
        (
            "/api/group-schedules/",
            {"name": "B", "group_id": theirs.ids["group_id"], "text": "x", "scheduled_time": soon()},
        ),
        ("/api/sms/send-to-group/", {"message": "x", "group_id": theirs.ids["group_id"]}),
        ("/api/sms/send/", {"message": "x", "recipient": phone(), "contact_id": theirs.ids["contact_id"]}),
        ("/api/sms/preview/", {"template_id": theirs.ids["template_id"]}),
        ("/api/groups/", {"name": "x", "member_ids": [theirs.ids["contact_id"]]}),
        ("/api/contacts/", {"phone": phone(), "user": theirs.ids["user_id"]}),
    ):
        answer = await mine.call("POST", path, body)
        assert answer.status == 404, (path, body, answer)


async def test_lists_have_only_rows_of_the_organisation(tenants: tuple[Tenant, Tenant]) -> None:
    mine, theirs = tenants
    for path, name in (
        ("/api/contacts/", "contact_id"),
        ("/api/groups/", "group_id"),
        ("/api/templates/", "template_id"),
        (f"/api/schedules/?date_from={datetime.now(UTC):%Y-%m-%d}", "schedule_id"),
        ("/api/group-schedules/", "group_schedule_id"),
        ("/api/configs/", "config_id"),
        ("/api/users/", "user_id"),
    ):
        for tenant, other in ((mine, theirs), (theirs, mine)):
            ids = {row["id"] for row in (await tenant.call("GET", path)).body["results"]}
            assert tenant.ids[name] in ids, path
            assert other.ids[name] not in ids, path


async def test_member_may_use_every_route_except_those_of_admins(
    operations: list[tuple[str, str]], client_of: ClientOf, new_organisation: Callable[[], str]
) -> None:
    organisation = new_organisation()
    tenant = await furnish(client_of(organisation, "admin"))
    order = {"GET": 0, "POST": 1, "PUT": 2, "PATCH": 3, "DELETE": 4}

    async def check(method: str, path: str) -> str | None:
        if path in PUBLIC:
            return None
        for role in ("member", "admin"):
            body = body_of(method, path, tenant.ids)
            answer = await client_of(organisation, role)(method, fill(path, tenant.ids), **body)
            if role == "member" and (method, path) in ADMIN:
                is_right = answer.status == 403
            elif path.endswith("/retry/"):
                is_right = answer.status in (202, 400)  # nothing failed
            elif role == "admin" and method == "DELETE":
                is_right = answer.status in (200, 204, 400, 404)  # the member has deleted the row
            else:
                is_right = answer.status in (200, 201, 202, 204, 207)
            if not is_right:
                return f"{method} {path} as {role}: {answer}"
        return None

    await each(sorted(operations, key=lambda operation: order[operation[0]]), check)


async def test_wrong_method_is_405_and_wrong_media_type_415(
    operations: list[tuple[str, str]], tenants: tuple[Tenant, Tenant]
) -> None:
    mine = tenants[0]
    methods: dict[str, set[str]] = {}
    for method, path in operations:
        methods.setdefault(path, set()).add(method)
    for path, allowed in methods.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - allowed:
            answer = await mine.call(method, fill(path, mine.ids), {} if method != "GET" else None)
            # A path like /api/users/me/ also fits the pattern of one user.
            assert answer.status == 405, (method, path, answer)
            assert answer.body["code"] == "method_not_allowed"
            assert allowed <= set(answer.headers["allow"].split(", ")), (path, answer.headers["allow"])

    async def check(method: str, path: str) -> str | None:
        if not body_of(method, path, mine.ids) or path in PUBLIC:
            return None
        text = {"data": b"phone=1", "headers": {"Content-Type": "text/plain"}}
        answer = await mine.call(method, fill(path, mine.ids), **text)
        is_right = (answer.status, answer.body["code"]) == (415, "unsupported_media_type")
        return None if is_right else f"{method} {path}: {answer}"

    await each(operations, check)


BAD_PATHS = [
    "/api/nothing/",
    "/api/contacts/abc/",
    "/api/contacts/-1/",
    f"/api/contacts/{10**30}/",
    "/api/contacts/1/2/3/",
    "/internal/identity/",
    "/api/../internal/identity/",
    "/health/live/../../internal/",
    "/api/contacts/%00/",
    "/api/contacts/%ff%fe/",
    "/api/contacts/" + "9" * 3000 + "/",
]


@pytest.mark.parametrize("path", BAD_PATHS, ids=[path[:40] for path in BAD_PATHS])
async def test_unknown_path_is_404(tenants: tuple[Tenant, Tenant], path: str) -> None:
    answer = await tenants[0].call("GET", path)
    assert answer.status == 404, answer
    assert answer.body["code"] == "not_found"


async def test_path_without_last_slash_or_with_v2_has_the_same_answer(tenants: tuple[Tenant, Tenant]) -> None:
    mine = tenants[0]
    plain = await mine.call("GET", "/api/templates/")
    for path in ("/api/templates", "/api/v2/templates/", "/api/v2/templates"):
        answer = await mine.call("GET", path, allow_redirects=False)
        assert (answer.status, answer.body) == (200, plain.body), path


BAD_FIELDS: list[tuple[str, str, Any]] = [
    ("/api/contacts/", "first_name", "a\0b"),
    ("/api/contacts/", "first_name", "x" * 101),
    ("/api/contacts/", "company", "x" * 201),
    ("/api/contacts/", "email", "x" * 250 + "@example.com"),
    ("/api/contacts/", "email", "no address"),
    ("/api/contacts/", "phone", "0212345678"),
    ("/api/contacts/", "phone", None),
    ("/api/contacts/", "first_name", None),
    ("/api/contacts/", "first_name", ["a"]),
    ("/api/contacts/", "is_active", "perhaps"),
    ("/api/contacts/", "opt_out", None),
    ("/api/groups/", "name", ""),
    ("/api/groups/", "name", "x" * 201),
    ("/api/groups/", "description", "x" * 1001),
    ("/api/groups/", "member_ids", list(range(1, 1002))),
    ("/api/groups/", "member_ids", "1,2"),
    ("/api/templates/", "text", ""),
    ("/api/templates/", "text", "Hi {{nickname}}"),
    ("/api/templates/", "name", "x" * 201),
    ("/api/schedules/", "text", "x" * 1531),
    ("/api/schedules/", "text", "Hi {{first_name}}"),
    ("/api/schedules/", "scheduled_time", "yesterday"),
    ("/api/schedules/", "scheduled_time", "2001-01-01T00:00:00Z"),
    ("/api/schedules/", "scheduled_time", "2999-01-01T00:00:00Z"),
    ("/api/schedules/", "format", "fax"),
    ("/api/schedules/", "subject", "x" * 65),
    ("/api/schedules/", "group", "mine"),
    ("/api/schedules/", "group_id", 1.5),
    ("/api/sms/send/", "message", ""),
    ("/api/sms/send/", "message", "x" * 1531),
    ("/api/sms/send/", "recipient", "12"),
    ("/api/sms/send-mms/", "media_url", "ftp://example.com/a.png"),
    ("/api/sms/send-mms/", "media_url", "https://example.com/" + "x" * 2048),
    ("/api/configs/", "value", "x" * 1001),
    ("/api/configs/", "name", "x" * 101),
]


@pytest.mark.parametrize(
    ("path", "name", "value"), BAD_FIELDS, ids=[f"{p}{n}-{i}" for i, (p, n, _) in enumerate(BAD_FIELDS)]
)
async def test_invalid_value_is_reported_under_its_field(
    tenants: tuple[Tenant, Tenant], path: str, name: str, value: Any
) -> None:
    mine = tenants[0]
    body = {**body_of("POST", path, mine.ids)["json"], name: value}
    answer = await mine.call("POST", path, body)
    assert answer.status == 400, answer
    assert isinstance(answer.body[name][0], str)
    assert answer.body["code"] == "invalid"
    assert "detail" not in answer.body


async def test_unknown_fields_are_ignored(
    operations: list[tuple[str, str]], client_of: ClientOf, new_organisation: Callable[[], str]
) -> None:
    tenant = await furnish(client_of(new_organisation(), "admin"))
    for method, path in operations:
        body = body_of(method, path, tenant.ids).get("json")
        if method in ("POST", "PUT", "PATCH") and body:
            more = {**body, "unknown": {"deep": [1]}, "id": 7, "created_at": "never"}
            answer = await tenant.call(method, fill(path, tenant.ids), more)
            assert answer.status in (200, 201, 202), (method, path, answer)


async def test_odd_headers_and_bodies_are_a_client_error(tenants: tuple[Tenant, Tenant]) -> None:
    mine = tenants[0]
    deep = b"[" * 200_000
    attempts: list[dict[str, Any]] = [
        {"data": deep, "headers": {"Content-Type": "application/json"}},
        {"data": b'{"phone": "\\ud800"}', "headers": {"Content-Type": "application/json"}},
        {"data": b'{"phone": NaN}', "headers": {"Content-Type": "application/json"}},
        {"data": b"\xff", "headers": {"Content-Type": "application/json; charset=utf-16"}},
        {"data": b"{}", "headers": {"Content-Type": "application/json", "Idempotency-Key": "x" * 300}},
        {"data": b"{}", "headers": {"Content-Type": "application/json", "X-Request-ID": "a b"}},
        {"data": b"{}", "headers": {"Content-Type": "application/json", "Prefer": "wait=-1, wait=abc"}},
        {"data": b'{"first_name": "' + b"x" * 1_000_000 + b'"}', "headers": {"Content-Type": "application/json"}},
    ]
    for attempt in attempts:
        for path in ("/api/contacts/", "/api/sms/send/", "/api/schedules/"):
            answer = await mine.call("POST", path, **attempt)
            assert 400 <= answer.status < 500, (path, answer)
            assert answer.body["request_id"]
    png = await mine.call("POST", "/api/contacts/import/", data=multipart("a.csv", _PNG))
    assert (png.status, next(iter(png.body))) == (400, "file")
    large = await mine.call("POST", "/api/contacts/import/", data=multipart("a.csv", b"phone\n" + b"x" * 11_000_000))
    assert large.status == 413
