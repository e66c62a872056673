"""Clients of v2: the answers of v2, field by field, beside ours, and the page that lists every difference."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

import pytest

from tests.conftest import Answer, Client, ClientOf

from .test_routes import multipart, phone, soon


class Shape(dict[str, Any]):
    """The fields of an object of v2: field → its types, the shape of an object, or a list with the shape of its rows.

    `name` is what the page calls the object.
    """

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self.name = name

    def __or__(self, fields: Any) -> "Shape":
        return Shape(self.name, {**self, **fields})


OPTIONAL_ID, OPTIONAL_TEXT = (int, NoneType), (str, NoneType)
AUDIT = {"created_by": OPTIONAL_ID, "updated_by": OPTIONAL_ID, "created_at": str, "updated_at": str}
PAGINATION = Shape(
    "pagination",
    {
        **dict.fromkeys(("total", "page", "limit", "totalPages"), int),
        **dict.fromkeys(("hasNext", "hasPrev"), bool),
    },
)
CONTACT = Shape(
    "contact",
    {
        "id": int,
        **dict.fromkeys(("first_name", "last_name", "phone", "email", "company"), str),
        "user": OPTIONAL_ID,
        "is_active": bool,
        "opt_out": bool,
        **AUDIT,
    },
)
GROUP = Shape("group", {"id": int, "name": str, "description": str, "is_active": bool, "member_count": int, **AUDIT})
TEMPLATE = Shape("template", {"id": int, "name": str, "text": str, "is_active": bool, "version": int, **AUDIT})
SCHEDULE = Shape(
    "schedule",
    {
        "id": int,
        **dict.fromkeys(("text", "scheduled_time", "status", "format"), str),
        **dict.fromkeys(("name", "phone", "sent_time", "error", "media_url", "subject"), OPTIONAL_TEXT),
        **dict.fromkeys(("template", "contact", "group", "parent"), OPTIONAL_ID),
        "message_parts": int,
        **AUDIT,
    },
)
BATCH = Shape(
    "group schedule",
    {
        "id": int,
        **dict.fromkeys(("name", "text", "scheduled_time", "status", "group_name"), str),
        **dict.fromkeys(("sent_time", "error", "phone"), OPTIONAL_TEXT),
        **dict.fromkeys(("template", "contact", "parent"), OPTIONAL_ID),
        "group": int,
        "child_count": int,
        "message_parts": int,
        **AUDIT,
    },
)
COUNTS = Shape(
    "counts of a group schedule", dict.fromkeys(("pending", "processing", "sent", "failed", "cancelled"), int)
)
CONFIG = Shape("config", {"id": int, "name": str, "value": str})
USER = Shape(
    "user",
    {
        "id": int,
        **dict.fromkeys(("first_name", "last_name", "email", "clerk_id", "role", "created_at", "updated_at"), str),
        "is_active": bool,
    },
)
ORGANISATION = Shape(
    "organisation of a user", {**dict.fromkeys(("clerk_org_id", "name", "slug", "role"), str), "permissions": list}
)
MONTH = Shape(
    "month of the statistics",
    {"month": str, **dict.fromkeys(("sms_sent", "sms_parts", "mms_sent", "pending", "failed"), int)},
)
SEND = Shape("send", {"success": bool, "message": str, "schedule_id": int})
RESULTS = Shape("results of a group send", dict.fromkeys(("successful", "failed", "total"), int))
GROUP_SEND = Shape(
    "group send",
    {
        "success": bool,
        "message": str,
        "results": RESULTS,
        "group_name": str,
        "group_schedule_id": int,
    },
)
REPORT = Shape(
    "report of an import",
    {
        **dict.fromkeys(("total", "imported", "failed"), int),
        "errors": [Shape("error of a row", {"row": int, "error": str})],
    },
)
MEMBERS = Shape("change of members", {"member_count": int})
FILE = Shape("file", {"url": str, "file_id": str, "size": int, "content_type": str})
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8ff1f0003030202"
    "ef97d1a50000000049454e44ae426082"
)


def page_of(row: Shape) -> Shape:
    """Return the shape of a page of rows."""
    return Shape("page", {"results": [row], "pagination": PAGINATION})


@dataclass
class Differences:
    """What differs from v2: the new fields of each object, and the statuses of requests as (request, v2's, ours)."""

    fields: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    statuses: set[tuple[str, str, str]] = field(default_factory=set)

    def compare(self, request: str, answer: Answer, status: int, shape: Shape | None = None) -> Any:
        """Compare an answer with v2's status and shape, and return its body. A missing field or another type fails."""
        if answer.status != status:
            self.statuses.add((request, str(status), str(answer.status)))
        assert answer.status < 500
        if shape is not None:
            self._compare(request, answer.body, shape)
        return answer.body

    def _compare(self, request: str, body: Any, shape: Shape) -> None:
        assert isinstance(body, dict), (request, shape.name, body)
        assert shape.keys() <= body.keys(), (request, shape.name, shape.keys() - body.keys())
        self.fields[shape.name] |= body.keys() - shape.keys()
        for name, expected in shape.items():
            value, where = body[name], (request, shape.name, name)
            if isinstance(expected, Shape):
                self._compare(request, value, expected)
            elif isinstance(expected, list):
                assert value, (where, "an empty list proves nothing")
                for row in value:
                    self._compare(request, row, expected[0])
            else:
                assert isinstance(value, expected), (where, value)
                assert expected is not int or not isinstance(value, bool), (where, value)


@pytest.mark.stack
async def test_every_difference_from_v2_is_described(
    client_of: ClientOf, new_organisation: Callable[[], str], repository_root: Path
) -> None:
    call = client_of(new_organisation(), "admin")
    found = Differences()
    await replay_contacts(call, found)
    await replay_schedules(call, found)
    await replay_sends(call, found)
    await replay_the_rest(call, found)

    page = (repository_root / "docs" / "moving-in.md").read_text()
    section = page.split("## Clients of v2")[1].split("\n## ")[0]
    fields, statuses = section.split("### New fields")[1].split("### Other statuses")
    shown = {row[0]: set(row[1].split(", ")) for row in rows_of(fields)[2:]}
    assert shown == {name: new for name, new in found.fields.items() if new}
    assert {row[:3] for row in rows_of(statuses) if "/" in row[0]} == found.statuses


def rows_of(page: str) -> list[tuple[str, ...]]:
    """Return the rows of all tables of a page, without the marks of code."""
    lines = [line for line in page.splitlines() if line.startswith("|")]
    return [tuple(cell.strip().replace("`", "") for cell in line.strip("|").split("|")) for line in lines]


async def replay_contacts(call: Client, found: Differences) -> None:
    """Replay requests about contacts and groups."""
    compare = found.compare
    body = {"first_name": "Ana", "last_name": "Lee", "phone": phone(), "email": "ana@example.com", "company": "Bakery"}
    contact = compare("POST /contacts/", await call("POST", "/api/contacts/", body), 201, CONTACT)
    path = f"/api/contacts/{contact['id']}/"
    compare("GET /contacts/", await call("GET", "/api/contacts/"), 200, page_of(CONTACT))
    compare("GET /contacts/{id}/", await call("GET", path), 200, CONTACT)
    compare("PUT /contacts/{id}/", await call("PUT", path, {**body, "is_active": True}), 200, CONTACT)
    compare("PATCH /contacts/{id}/", await call("PATCH", path, {"company": ""}), 200, CONTACT)
    rows = f"first_name,last_name,phone\nBen,Wu,{phone()}\nBad,Row,12\n".encode()
    report = await call("POST", "/api/contacts/import/", data=multipart("a.csv", rows))
    compare("POST /contacts/import/", report, 207, REPORT)

    body = {"name": "VIP", "description": "", "member_ids": [contact["id"]]}
    group = compare("POST /groups/", await call("POST", "/api/groups/", body), 201, GROUP)
    path = f"/api/groups/{group['id']}/"
    compare("GET /groups/", await call("GET", "/api/groups/"), 200, page_of(GROUP))
    compare("GET /groups/{id}/", await call("GET", path), 200, GROUP | {"members": page_of(CONTACT)})
    compare("PUT /groups/{id}/", await call("PUT", path, {"name": "VIPs"}), 200, GROUP)
    compare("PATCH /groups/{id}/", await call("PATCH", path, {"name": "VIP"}), 200, GROUP)
    ids = {"contact_ids": [contact["id"]]}
    removed = await call("DELETE", path + "members/", ids)
    compare("DELETE /groups/{id}/members/", removed, 200, MEMBERS | {"removed": int})
    added = await call("POST", path + "members/", ids)
    compare("POST /groups/{id}/members/", added, 200, MEMBERS | {"added": int})


async def replay_schedules(call: Client, found: Differences) -> None:
    """Replay requests about templates, schedules and group schedules."""
    compare = found.compare
    body = {"name": "T", "text": "Hello"}
    template = compare("POST /templates/", await call("POST", "/api/templates/", body), 201, TEMPLATE)
    path = f"/api/templates/{template['id']}/"
    compare("GET /templates/", await call("GET", "/api/templates/"), 200, page_of(TEMPLATE))
    compare("GET /templates/{id}/", await call("GET", path), 200, TEMPLATE)
    compare("PUT /templates/{id}/", await call("PUT", path, body), 200, TEMPLATE)
    compare("PATCH /templates/{id}/", await call("PATCH", path, {"name": "U"}), 200, TEMPLATE)

    contact = (await call("GET", "/api/contacts/?search=ana")).body["results"][0]["id"]
    single = {"contact": contact, "text": "Hello", "scheduled_time": soon()}
    schedule = compare("POST /schedules/", await call("POST", "/api/schedules/", single), 201, SCHEDULE)
    path = f"/api/schedules/{schedule['id']}/"
    day = schedule["scheduled_time"][:10]
    listed = await call("GET", f"/api/schedules/?date={day}&tz=UTC")
    compare("GET /schedules/", listed, 200, page_of(SCHEDULE))
    compare("GET /schedules/{id}/", await call("GET", path), 200, SCHEDULE)
    compare("PUT /schedules/{id}/", await call("PUT", path, single), 200, SCHEDULE)
    compare("PATCH /schedules/{id}/", await call("PATCH", path, {"text": "Bye"}), 200, SCHEDULE)
    of_contact = await call("GET", f"/api/contacts/{contact}/schedules/")
    compare("GET /contacts/{id}/schedules/", of_contact, 200, page_of(SCHEDULE))

    group = (await call("GET", "/api/groups/")).body["results"][0]["id"]
    body = {"name": "Sale", "group_id": group, "text": "Hello", "scheduled_time": soon()}
    shape = BATCH | {"schedules": [SCHEDULE]}
    batch = compare("POST /group-schedules/", await call("POST", "/api/group-schedules/", body), 201, shape)
    path = f"/api/group-schedules/{batch['id']}/"
    compare("GET /group-schedules/", await call("GET", "/api/group-schedules/"), 200, page_of(BATCH))
    shape |= {"pagination": PAGINATION, "counts": COUNTS}
    compare("GET /group-schedules/{id}/", await call("GET", path), 200, shape)
    compare("PUT /group-schedules/{id}/", await call("PUT", path, body), 200, BATCH)
    compare("PATCH /group-schedules/{id}/", await call("PATCH", path, {"name": "Sales"}), 200, BATCH)
    compare("DELETE /group-schedules/{id}/", await call("DELETE", path), 204)


async def replay_sends(call: Client, found: Differences) -> None:
    """Replay sends, as a client of v2 sends them, and the upload of a file."""
    compare = found.compare
    sent = await call("POST", "/api/sms/send/", {"message": "Hello", "recipient": phone()})
    compare("POST /sms/send/", sent, 200, SEND)
    wait = {"Prefer": "wait=20"}
    sent = await call("POST", "/api/sms/send/", {"message": "Hello", "recipient": phone()}, headers=wait)
    assert sent.status == 200
    body = {"message": "Hello", "media_url": "https://example.com/a.png", "recipient": phone()}
    compare("POST /sms/send-mms/", await call("POST", "/api/sms/send-mms/", body), 200, SEND)
    group = (await call("GET", "/api/groups/")).body["results"][0]["id"]
    body = {"message": "Hello", "group_id": group}
    compare("POST /sms/send-to-group/", await call("POST", "/api/sms/send-to-group/", body), 200, GROUP_SEND)
    uploaded = await call("POST", "/api/sms/upload-file/", data=multipart("a.png", PNG))
    compare("POST /sms/upload-file/", uploaded, 201, FILE)


async def replay_the_rest(call: Client, found: Differences) -> None:
    """Replay requests about configs, users and statistics, and refused ones."""
    compare = found.compare
    body = {"name": "sms_limit", "value": "1000"}
    config = compare("POST /configs/", await call("POST", "/api/configs/", body), 201, CONFIG)
    path = f"/api/configs/{config['id']}/"
    compare("GET /configs/", await call("GET", "/api/configs/"), 200, page_of(CONFIG))
    compare("GET /configs/{id}/", await call("GET", path), 200, CONFIG)
    compare("PUT /configs/{id}/", await call("PUT", path, body), 200, CONFIG)
    compare("PATCH /configs/{id}/", await call("PATCH", path, {"value": "2000"}), 200, CONFIG)
    me = compare("GET /users/me/", await call("GET", "/api/users/me/"), 200, USER | {"organisation": ORGANISATION})
    compare("GET /users/", await call("GET", "/api/users/"), 200, page_of(USER))
    compare("GET /users/{id}/", await call("GET", f"/api/users/{me['id']}/"), 200, USER)
    stats = Shape("statistics", {"monthly_stats": [MONTH], "sms_limit": OPTIONAL_ID, "mms_limit": OPTIONAL_ID})
    compare("GET /stats/monthly/", await call("GET", "/api/stats/monthly/"), 200, stats)
    invalid = await call("POST", "/api/contacts/", {"phone": "12"})
    compare("POST /contacts/", invalid, 400, Shape("error of a field", {"phone": list}))
    missing = await call("GET", "/api/contacts/999999999/")
    compare("GET /contacts/{id}/", missing, 404, Shape("another error", {"detail": str}))
