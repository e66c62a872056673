"""What was heard of contacts in the last day, and what follows from it for pending schedules."""

# ruff: noqa: S608 (what is put together are constants of this file)

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.events import ContactState

OPTED_OUT = "The recipient has opted out."

_KEEP = text(
    """
    INSERT INTO contact_changes AS c (organisation_id, contact_id, version, phone, first_name, last_name, company,
                                      is_active, opt_out)
    SELECT * FROM unnest(CAST(:organisations AS text[]), CAST(:ids AS bigint[]), CAST(:versions AS bigint[]),
                         CAST(:phones AS text[]), CAST(:first_names AS text[]), CAST(:last_names AS text[]),
                         CAST(:companies AS text[]), CAST(:active AS boolean[]), CAST(:opt_outs AS boolean[]))
    ON CONFLICT (organisation_id, contact_id) DO UPDATE
    SET version = excluded.version, phone = excluded.phone, first_name = excluded.first_name,
        last_name = excluded.last_name, company = excluded.company, is_active = excluded.is_active,
        opt_out = excluded.opt_out, heard_at = now()
    WHERE c.version < excluded.version
    """
)
_APPLY = """
    UPDATE schedules s
    SET phone = CASE WHEN s.own_phone THEN s.phone ELSE c.phone END, first_name = c.first_name,
        last_name = c.last_name, company = c.company, contact_version = c.version,
        status = CASE WHEN NOT c.is_active THEN 'cancelled' WHEN c.opt_out THEN 'failed' ELSE s.status END,
        failure_category = CASE WHEN c.is_active AND c.opt_out THEN 'opted_out' ELSE s.failure_category END,
        error = CASE WHEN c.is_active AND c.opt_out THEN :opted_out ELSE s.error END,
        updated_by = NULL, updated_at = now()
    FROM contact_changes c
    WHERE c.organisation_id = s.organisation_id AND c.contact_id = s.contact_id AND s.contact_version < c.version
      AND s.status = 'pending'
"""
_APPLY_TO_CONTACTS = text(
    _APPLY
    + """
      AND (s.organisation_id, s.contact_id) IN
          (SELECT * FROM unnest(CAST(:organisations AS text[]), CAST(:ids AS bigint[])))
    """
)
# The planner takes such an array for ten long, and goes by the index whatever it thinks of the table.
_APPLY_TO_SCHEDULES = text(_APPLY + " AND s.id = ANY(ARRAY(SELECT unnest(CAST(:ids AS bigint[]))))")
_FAIL_BARE = text(
    """
    UPDATE schedules s
    SET status = 'failed', failure_category = 'opted_out', error = :opted_out, updated_by = NULL, updated_at = now()
    FROM contact_changes c
    WHERE (c.organisation_id, c.contact_id) IN
          (SELECT * FROM unnest(CAST(:organisations AS text[]), CAST(:ids AS bigint[])))
      AND c.opt_out AND s.organisation_id = c.organisation_id AND s.phone = c.phone AND s.contact_id IS NULL
      AND s.status = 'pending' AND s.kind <> 'parent'
    """
)
_FORGET = text("DELETE FROM contact_changes WHERE heard_at < now() - interval '1 day'")


async def keep_all_tenants(session: AsyncSession, contacts: Sequence[tuple[str, ContactState]]) -> None:
    """Keeps (organisation, state) where it is newer; each contact is there once, in order of the keys."""
    await session.execute(
        _KEEP,
        {
            "organisations": [organisation_id for organisation_id, _ in contacts],
            "ids": [contact.contact_id for _, contact in contacts],
            "versions": [contact.version for _, contact in contacts],
            "phones": [contact.phone for _, contact in contacts],
            "first_names": [contact.first_name for _, contact in contacts],
            "last_names": [contact.last_name for _, contact in contacts],
            "companies": [contact.company for _, contact in contacts],
            "active": [contact.is_active for _, contact in contacts],
            "opt_outs": [contact.opt_out for _, contact in contacts],
        },
    )


async def apply_to_contacts_all_tenants(session: AsyncSession, contacts: Sequence[tuple[str, ContactState]]) -> None:
    """Brings the pending schedules of these contacts, and those to an opted-out phone, to what is kept of them."""
    given = {
        "organisations": [organisation_id for organisation_id, _ in contacts],
        "ids": [contact.contact_id for _, contact in contacts],
        "opted_out": OPTED_OUT,
    }
    await session.execute(_APPLY_TO_CONTACTS, given)
    if any(contact.opt_out for _, contact in contacts):
        await session.execute(_FAIL_BARE, given)


async def apply_to_schedules_all_tenants(session: AsyncSession, schedule_ids: Sequence[int]) -> None:
    """Brings these schedules, as far as they are pending, to what is kept of their contacts."""
    await session.execute(_APPLY_TO_SCHEDULES, {"ids": schedule_ids, "opted_out": OPTED_OUT})


async def forget_all_tenants(session: AsyncSession) -> None:
    """Drops what is older than a day: whoever read a contact before that has long written its schedules."""
    await session.execute(_FORGET)
