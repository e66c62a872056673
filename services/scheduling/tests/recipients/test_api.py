"""Contacts saves a deletion at scheduling before it answers: from then on nothing is dispatched."""

from collections.abc import Callable
from typing import Any

from common.database import Database
from scheduling.dispatch.service import dispatch_due
from services.scheduling.tests.stage import Client, Stage

ClientOf = Callable[..., Client]


async def save(client: Client, contact: dict[str, Any], **changes: Any) -> int:
    """Save a contact, as contacts does, and return the status."""
    body = {name: contact[name] for name in ("contact_id", "version", "phone", "fields", "is_active", "opt_out")}
    return (await client("PUT", "/internal/contacts/", body | changes)).status_code


async def dispatch(database: Database) -> None:
    async with database.all_tenants() as session:
        await dispatch_due(session, window=5000, max_parts=10, sweep_after_s=20)


async def test_a_deletion_cancels_pending_schedules_before_they_are_due(stage: Stage, client_of: ClientOf) -> None:
    contact = stage.make_contact()
    schedule = await stage.make_schedule(contact_id=contact["contact_id"], phone=None)
    assert await save(client_of(stage.organisation, issuer="contacts"), contact, version=2, is_active=False) == 204
    assert (await stage.row(schedule["id"])).status == "cancelled"
    await stage.rows("UPDATE schedules SET scheduled_time = now() - interval '1 second'")
    await dispatch(stage.database)
    assert not await stage.dispatches()


async def test_a_message_that_fan_out_writes_after_the_deletion_is_not_dispatched(
    stage: Stage, client_of: ClientOf
) -> None:
    contact = stage.make_contact()
    assert await save(client_of(stage.organisation, issuer="contacts"), contact, version=2, is_active=False) == 204
    schedule = await stage.make_schedule(contact_id=contact["contact_id"], phone=None)  # from an older copy
    await stage.rows("UPDATE schedules SET scheduled_time = now() - interval '1 second'")
    await dispatch(stage.database)
    assert (await stage.row(schedule["id"])).status == "cancelled"
    assert not await stage.dispatches()


async def test_another_organisation_and_other_callers_change_nothing(stage: Stage, client_of: ClientOf) -> None:
    contact = stage.make_contact()
    schedule = await stage.make_schedule(contact_id=contact["contact_id"], phone=None)
    assert await save(client_of("org_other", issuer="contacts"), contact, version=2, is_active=False) == 204
    for issuer in ("gateway", "delivery"):
        assert await save(client_of(stage.organisation, issuer=issuer), contact, version=2, is_active=False) == 401
    assert (await stage.row(schedule["id"])).status == "pending"
