"""Organisations are listed in pages, and one is closed as Clerk's event closes it."""

import pytest

from common.events import TOPICS

from .conftest import Cooee, Sql

CLOSE = ("organisations", "close", "org_a")


@pytest.fixture(autouse=True)
async def organisations(sql: Sql) -> None:
    """Add two organisations. One has a member and a contact."""
    await sql("contacts", "INSERT INTO organisations (organisation_id, name) VALUES ('org_a', 'Fern'), ('org_b', '')")
    await sql("contacts", "INSERT INTO users (clerk_id) VALUES ('user_1')")
    await sql("contacts", "INSERT INTO memberships (organisation_id, user_id) VALUES ('org_a', 1)")
    for name in ("org_a", "org_b"):
        phone = "INSERT INTO contacts (organisation_id, phone) VALUES (:name, '+61491570006')"
        await sql("contacts", phone, name=name)


async def test_organisations_are_listed_by_id_in_pages(cooee: Cooee) -> None:
    first = (await cooee("organisations", "list", "--limit", "1", "--json")).document
    assert [(one["organisation_id"], one["name"], one["members"]) for one in first["organisations"]] == [
        ("org_a", "Fern", 1)
    ]
    rest = (await cooee("organisations", "list", "--after", first["next"], "--json")).document
    assert ([one["organisation_id"] for one in rest["organisations"]], rest["next"]) == (["org_b"], None)
    assert "for more add --after org_a" in (await cooee("organisations", "list", "--limit", "1")).out


async def test_nothing_is_closed_without_yes(cooee: Cooee, sql: Sql) -> None:
    asked = await cooee(*CLOSE)
    assert (asked.code, "org_a (Fern, 1 member) would be closed." in asked.out, "--yes" in asked.out) == (2, True, True)
    assert await sql("contacts", "SELECT 1 FROM organisations WHERE NOT is_active") == []
    [row] = await sql("contacts", "SELECT * FROM operator_actions WHERE step = 'end'")
    assert row.outcome == "refused"


async def test_a_closed_organisation_loses_its_contacts_and_is_published_once(cooee: Cooee, sql: Sql) -> None:
    closed = await cooee(*CLOSE, "--yes")
    assert (closed.code, closed.out.startswith("org_a (Fern, 1 member) is closed.\n")) == (0, True)
    again = await cooee(*CLOSE, "--yes", "--json")
    assert (again.code, again.document["status"]) == (0, "closed_before")
    kept = await sql("contacts", "SELECT organisation_id FROM contacts WHERE is_active")
    assert [row.organisation_id for row in kept] == ["org_b"]
    rows = await sql("contacts", "SELECT topic, body FROM outbox")
    events = [TOPICS[row.topic].model_validate_json(row.body) for row in rows]
    assert [(event.organisation_id, event.closed) for event in events] == [("org_a", True)]  # type: ignore[attr-defined]
    [row] = await sql("contacts", "SELECT DISTINCT organisation_id FROM operator_actions")
    assert row.organisation_id == "org_a"


async def test_an_organisation_that_is_not_known_is_refused_by_name(cooee: Cooee) -> None:
    refused = await cooee("organisations", "close", "org_nonsuch", "--yes")
    assert (refused.code, "there is no organisation org_nonsuch" in refused.err) == (4, True)
