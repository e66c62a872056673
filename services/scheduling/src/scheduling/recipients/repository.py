"""Statements on the contact changes of the last day, and on the pending schedules that they concern."""

# ruff: noqa: S608 (the statements are put together from constants of this file)

import json
from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from common.events import ContactState

OPTED_OUT = "The recipient has opted out."

_CHANGE = Columns(
    organisation_id="text",
    contact_id="bigint",
    version="bigint",
    phone="text",
    fields="jsonb",
    is_active="boolean",
    opt_out="boolean",
)
_CONTACT = Columns(organisation_id="text", contact_id="bigint")
_IDS = Columns(id="bigint")

_SAVE = text(
    f"""
    INSERT INTO contact_changes AS c ({", ".join(_CHANGE.names)})
    SELECT * FROM {_CHANGE.unnest("new")}
    ON CONFLICT (organisation_id, contact_id) DO UPDATE
    SET version = excluded.version, phone = excluded.phone, fields = excluded.fields, is_active = excluded.is_active,
        opt_out = excluded.opt_out, received_at = now()
    WHERE c.version < excluded.version
    """
)
_APPLY = """
    UPDATE schedules s
    SET phone = CASE WHEN s.has_own_phone THEN s.phone ELSE c.phone END, fields = c.fields,
        contact_version = c.version,
        status = CASE WHEN NOT c.is_active THEN 'cancelled' WHEN c.opt_out THEN 'failed' ELSE s.status END,
        failure_category = CASE WHEN c.is_active AND c.opt_out THEN 'opted_out' ELSE s.failure_category END,
        error = CASE WHEN c.is_active AND c.opt_out THEN :opted_out ELSE s.error END,
        updated_by = NULL, updated_at = now()
    FROM contact_changes c
    WHERE c.organisation_id = s.organisation_id AND c.contact_id = s.contact_id AND s.contact_version < c.version
      AND s.status = 'pending'
"""
_APPLY_TO_CONTACTS = text(
    f"{_APPLY} AND (s.organisation_id, s.contact_id) IN (SELECT * FROM {_CONTACT.unnest('changed')})"
)
# PostgreSQL estimates ten elements for an array from a query, so it uses the index even with stale statistics.
_APPLY_TO_SCHEDULES = text(f"{_APPLY} AND s.id = ANY(ARRAY(SELECT unnest({_IDS.array('id')})))")
_FAIL_WITHOUT_CONTACT = text(
    f"""
    UPDATE schedules s
    SET status = 'failed', failure_category = 'opted_out', error = :opted_out, updated_by = NULL, updated_at = now()
    FROM contact_changes c
    WHERE (c.organisation_id, c.contact_id) IN (SELECT * FROM {_CONTACT.unnest("changed")})
      AND c.opt_out AND s.organisation_id = c.organisation_id AND s.phone = c.phone AND s.contact_id IS NULL
      AND s.status = 'pending' AND s.kind <> 'batch'
    """
)


class Change(NamedTuple):
    """The newest state of a contact, with its organisation."""

    organisation_id: str
    contact: ContactState


async def save_all_tenants(session: AsyncSession, changes: Collection[Change]) -> None:
    """Store the changes that are newer than the stored ones. `changes` has each contact once, in order of the keys."""
    contacts = [change.contact for change in changes]
    values = _CHANGE.bind(
        contacts,
        organisation_id=[change.organisation_id for change in changes],
        fields=[json.dumps(contact.fields) for contact in contacts],
    )
    await session.execute(_SAVE, values)


async def apply_to_contacts_all_tenants(session: AsyncSession, changes: Collection[Change]) -> None:
    """Bring the pending schedules of these contacts to the stored changes.

    Pending schedules to the phone of an opted-out contact fail, too, when they name no contact themselves.
    """
    values = {
        **_CONTACT.bind_tuples([(change.organisation_id, change.contact.contact_id) for change in changes]),
        "opted_out": OPTED_OUT,
    }
    await session.execute(_APPLY_TO_CONTACTS, values)
    if any(change.contact.opt_out for change in changes):
        await session.execute(_FAIL_WITHOUT_CONTACT, values)


async def apply_to_schedules_all_tenants(session: AsyncSession, schedule_ids: Sequence[int]) -> None:
    """Bring these schedules, as far as they are pending, to the stored changes of their contacts."""
    await session.execute(_APPLY_TO_SCHEDULES, {"id": list(schedule_ids), "opted_out": OPTED_OUT})
