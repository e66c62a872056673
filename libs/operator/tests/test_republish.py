"""States that are published again are in the outboxes, each with a version that consumers apply."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from common.database import Database

from .conftest import Cooee, Sql
from .test_stuck import add_message

OutboxEvents = Callable[[Database], Awaitable[list[Any]]]


async def test_states_that_changed_since_a_time_are_published_again(
    cooee: Cooee, sql: Sql, databases: dict[str, Database], outbox_events: OutboxEvents, organisation: str
) -> None:
    opt_out = f"'{organisation}', '+61491570%s', true, now() - interval '%s', 'reply', NULL, %s"
    rows = f"({opt_out % ('006', '1 hour', 8)}), ({opt_out % ('110', '9 days', 7)})"
    await sql("delivery", f"INSERT INTO opt_outs VALUES {rows}")
    await sql(
        "delivery",
        "INSERT INTO configs (organisation_id, name, value) VALUES (:o, 'timezone', 'Australia/Perth'),"
        " ('org_without', 'sms_limit', '5')",
        o=organisation,
    )
    version = (await sql("delivery", "SELECT nextval('settings_versions') AS v"))[0].v
    done = await cooee("republish", "--since", "2d")
    assert (done.code, "opt-outs: changes since" in done.out) == (0, True)
    events = await outbox_events(databases["delivery"])
    opt_outs = [event for event in events if event.topic == "delivery.opt-out-changed.v1"]
    assert [(event.phone, event.opted_out, event.version) for event in opt_outs] == [("+61491570006", True, 8)]
    zones = {event.organisation_id: event for event in events if event.topic == "delivery.settings-changed.v1"}
    assert {name: event.timezone for name, event in zones.items()} == {
        organisation: "Australia/Perth",
        "org_without": "Australia/Adelaide",
    }
    assert all(event.version > version for event in zones.values())


async def test_contacts_and_organisations_are_published_again(
    cooee: Cooee, sql: Sql, databases: dict[str, Database], outbox_events: OutboxEvents, organisation: str
) -> None:
    await sql(
        "contacts",
        "INSERT INTO organisations (organisation_id, deleted_at, version) VALUES (:o, now(), 3)",
        o=organisation,
    )
    done = await cooee("republish", "--since", "2020-01-01T00:00:00Z", "--json")
    assert (done.code, done.document["since"]) == (0, "2020-01-01T00:00:00Z")
    assert {"state": "organisations", "service": "contacts"} in done.document["states"]
    events = await outbox_events(databases["contacts"])
    assert [(event.organisation_id, event.closed, event.version) for event in events] == [(organisation, True, 3)]


async def test_outcomes_are_published_again(
    cooee: Cooee, sql: Sql, databases: dict[str, Database], outbox_events: OutboxEvents, organisation: str
) -> None:
    old = {"created_at": "now() - interval '3 days'", "sent_time": "now() - interval '3 days'"}
    await add_message(sql, organisation, "sent", **old, changed_at=old["sent_time"])
    late = await add_message(sql, organisation, "delivered", **old, delivered_time="now()")
    failed = await add_message(sql, organisation, "failed", **old, failure_category="'unroutable'", error="'No.'")
    await add_message(sql, organisation, "queued")
    await cooee("republish", "--since", "2d")
    events = await outbox_events(databases["delivery"])
    assert [(event.topic, event.message_id) for event in events] == [
        ("delivery.message-delivered.v1", late),
        ("delivery.message-failed.v1", failed),
    ]


@pytest.mark.parametrize("since", ["yesterday", "", "d", "99999999999d", "0001-01-01T00:00:00+10:00"])
async def test_invalid_time_is_refused(cooee: Cooee, since: str) -> None:
    refused = await cooee("republish", "--since", since)
    assert (refused.code, "--since" in refused.err, "is not a time" in refused.err) == (2, True, True)
