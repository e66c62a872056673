"""Clients of v1: a journey through the whole system, the document for them, and the page that describes them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from gateway.v1.names import ANSWERED, PATHS, REQUESTED, ROWS, STATUSES, V1_ROWS, to_today, to_v1
from tests.conftest import Client, ClientOf

from .test_routes import multipart, phone, soon

Json = dict[str, Any]


def rows_of(page: str) -> list[tuple[str, ...]]:
    """Return the rows of all tables of a page, without the marks of code."""
    return [tuple(cell.strip().strip("`") for cell in line.strip("|").split("|")) for line in page.splitlines()]


def test_the_page_shows_the_table(repository_root: Path) -> None:
    page = (repository_root / "docs" / "moving-in.md").read_text()
    paths, names = page.split("### Paths")[1].split("### Names")
    shown = [row for row in rows_of(paths) if row[0].startswith("/")]
    assert shown == [(row.v1, row.today, str(row.limit or "–")) for row in PATHS]
    shown = [row for row in rows_of(names.split("### Examples")[0]) if len(row) == 2][2:]
    table = [row for row in shown if re.fullmatch(r"\w+", row[0])]
    assert table == [*ANSWERED.items(), *REQUESTED.items(), *STATUSES.items()]
    assert (f"{ROWS}`, a list", V1_ROWS) in rows_of(names)


@pytest.mark.stack
async def test_the_table_agrees_with_todays_document(client_of: ClientOf) -> None:
    """Compare the table with the document, so that a renamed path or field of today is noticed."""
    document: Json = (await client_of(None)("GET", "/api/schema/")).body
    described: Json = (await client_of(None)("GET", "/api/v1/schema/")).body
    validate(described)
    today = {re.sub(r"\{\w+\}", "{id}", path): item for path, item in document["paths"].items()}
    assert {row.today for row in PATHS} <= today.keys()
    assert described["paths"].keys() == {f"/api/v1{row.v1}" for row in PATHS}
    for row in PATHS:
        item = described["paths"][f"/api/v1{row.v1}"]
        assert item.keys() == today[row.today].keys()
        assert all(operation["deprecated"] for operation in item.values())
        parameters = {one.get("name") for one in today[row.today].get("get", {}).get("parameters", [])}
        assert ("status_format" in parameters) == (row.status_format and "get" in item), row
        assert ("limit" in parameters) == (row.limit is not None), row
    of_today, of_v1 = fields(document), fields(described)
    assert ANSWERED.keys() | set(REQUESTED.values()) | {ROWS} <= of_today
    assert {*ANSWERED.values(), V1_ROWS} <= of_v1
    assert not {name for name in of_v1 if "_" in name}
    names = {name for name in of_today if name.islower() and name not in ANSWERED}
    assert {to_today(to_v1(name)) for name in names} == names
    assert set(document["components"]["schemas"]["ScheduleStatus"]["enum"]) == STATUSES.keys()
    assert set(document["components"]["schemas"]["ScheduleStatusV1"]["enum"]) == set(STATUSES.values())


def fields(document: Json) -> set[str]:
    """Return the names of all fields in the schemas of a document."""
    return {name for schema in document["components"]["schemas"].values() for name in schema.get("properties", {})}


@pytest.mark.stack
async def test_a_client_of_v1_works_as_it_did(client_of: ClientOf, new_organisation: Callable[[], str]) -> None:
    session = client_of(new_organisation(), "admin")
    call = Client(session.http, session.gateway + "/api/v1", session.issuer, session.session)
    customer = (await call("POST", "/customers", {"firstName": "Ana", "phone": phone(), "optOut": False})).body
    assert (customer["firstName"], customer["active"], customer["userId"]) == ("Ana", True, None)
    changed = await call("PUT", f"/customers/{customer['id']}", {**customer, "lastName": "Lee"})
    assert (changed.status, changed.body["lastName"]) == (200, "Lee")
    twice = await call("POST", "/customers", {"phone": customer["phone"]})
    assert (twice.status, [one["field"] for one in twice.body["errors"]]) == (400, ["phone"])

    group = (await call("POST", "/groups", {"name": "VIP"})).body
    added = await call("POST", f"/groups/{group['id']}/customers", {"customerIds": [customer["id"]]})
    assert added.body == {"added": 1, "memberCount": 1}
    members = (await call("GET", f"/groups/{group['id']}")).body["members"]
    assert ([one["id"] for one in members["data"]], members["pagination"]["limit"]) == ([customer["id"]], 10)
    assert (await call("GET", f"/customers?excludeGroupId={group['id']}")).body["data"] == []

    template = (await call("POST", "/templates", {"name": "T", "text": "Hi {{first_name}}"})).body
    single = {"customerId": customer["id"], "templateId": template["id"], "scheduledTime": soon()}
    schedule = (await call("POST", "/schedules", single)).body
    assert (schedule["status"], schedule["customerId"], schedule["text"]) == ("PENDING", customer["id"], "Hi Ana")
    unknown = await call("POST", "/schedules", {**single, "scheduledTime": "soon"})
    assert (unknown.status, [one["field"] for one in unknown.body["errors"]]) == (400, ["scheduledTime"])

    batch = {"name": "Sale", "groupId": group["id"], "templateId": template["id"], "scheduledTime": soon()}
    created = (await call("POST", "/group-schedules", batch)).body
    assert (created["groupId"], created["childCount"], created["status"]) == (group["id"], 1, "PENDING")
    listed = (await call("GET", f"/group-schedules?groupId={group['id']}")).body["data"]
    assert [(one["id"], one["groupName"]) for one in listed] == [(created["id"], "VIP")]
    of_customer = (await call("GET", f"/customers/{customer['id']}/schedules")).body["data"]
    assert {(one["id"] == schedule["id"], one["groupScheduleId"]) for one in of_customer} == {
        *((True, None), (False, created["id"])),
    }
    assert (await call("DELETE", f"/group-schedules/{created['id']}")).status == 204
    shown = (await call("GET", f"/group-schedules/{created['id']}")).body
    assert (shown["status"], shown["counts"]["DELETED"], shown["schedules"][0]["status"]) == ("DELETED", 1, "DELETED")
    assert (await call("GET", "/group-schedules")).body["data"] == []

    report = await call("POST", "/customers/import-customers", data=multipart("a.csv", f"phone\n{phone()}\n".encode()))
    assert (report.status, report.body["imported"]) == (200, 1)
    sent = await call("POST", "/sms/send", {"message": "Hi", "recipient": phone()}, headers={"Prefer": "wait=20"})
    assert (sent.status, sent.body["status"]) == (200, "SENT")
    assert (await call("GET", "/stats/monthly")).body["monthlyStats"][0].keys() >= {"smsSent", "smsParts"}
    assert (await call("GET", "/me")).body["clerkId"] == "user_1"
