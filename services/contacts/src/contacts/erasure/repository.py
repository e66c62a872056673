"""Every statement that erases a person's contacts, and those on the record of erasures."""
# ruff: noqa: S608 (the parts of the statements are constants)

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from contacts.contacts.rules import ERASED, ErasedOptOut
from contacts.models import ContactRow

_COLUMNS = ", ".join(ContactRow._fields)
_HAS_PHONE = "phone = :phone AND (CAST(:organisation AS text) IS NULL OR organisation_id = :organisation)"
_LIST = text(f"SELECT {_COLUMNS} FROM contacts WHERE {_HAS_PHONE} ORDER BY id FOR UPDATE")
_DELETE = text(
    f"""
    UPDATE contacts SET is_active = false, version = version + 1, updated_by = NULL, updated_at = now()
    WHERE {_HAS_PHONE} AND is_active RETURNING {_COLUMNS}
    """
)
# The phone is unique in an organisation, and no phone that a person can enter has this form.
_ERASE = text(
    f"""
    UPDATE contacts SET phone = '{ERASED}' || id, first_name = '', last_name = '', email = '', company = '',
        user_id = NULL, is_active = false, opt_in_confirmed_at = NULL, version = version + 1, updated_by = NULL,
        updated_at = now()
    WHERE {_HAS_PHONE} RETURNING {_COLUMNS}
    """
)
# `n` has the opt-outs as delivery has them. One that only this service has stays, too.
_OPT_OUTS = Columns(organisation_id="text", changed_at="timestamptz", source="text", version="bigint")
_ERASE_OPT_OUTS = text(
    f"""
    WITH deleted AS (
        DELETE FROM opt_outs WHERE {_HAS_PHONE} RETURNING organisation_id, opted_out, changed_at, source, version
    ), to_store AS (
        SELECT n.organisation_id, n.changed_at, n.source, n.version FROM {_OPT_OUTS.unnest("n")}
        UNION ALL
        SELECT d.organisation_id, d.changed_at, d.source, d.version FROM deleted d
        WHERE d.opted_out AND NOT EXISTS (
            SELECT FROM {_OPT_OUTS.unnest("n")} WHERE n.organisation_id = d.organisation_id)
    )
    INSERT INTO erased_opt_outs AS e (organisation_id, phone_hash, changed_at, source, version)
    SELECT organisation_id, erased_phone_hash(organisation_id, :phone), changed_at, source, version FROM to_store
    ON CONFLICT (organisation_id, phone_hash) DO UPDATE SET version = excluded.version
    WHERE e.version < excluded.version
    """
)
_ADD_RECORD = text(
    "INSERT INTO erasures (organisation_id, operator, reason) VALUES (:organisation, :operator, :reason) RETURNING id"
)
_COMPLETE_RECORD = text("UPDATE erasures SET counts = CAST(:counts AS jsonb), finished_at = now() WHERE id = :id")


async def lock_all_tenants(session: AsyncSession, phone: str, organisation: str | None) -> list[ContactRow]:
    """Return the contacts with a phone, of one organisation or all, and lock them."""
    return await _rows(session, _LIST, phone, organisation)


async def delete_all_tenants(session: AsyncSession, phone: str, organisation: str | None) -> list[ContactRow]:
    """Delete the active contacts with a phone softly and return them."""
    return await _rows(session, _DELETE, phone, organisation)


async def erase_all_tenants(session: AsyncSession, phone: str, organisation: str | None) -> list[ContactRow]:
    """Remove names and the phone from the contacts with a phone, and return them."""
    return await _rows(session, _ERASE, phone, organisation)


async def erase_opt_outs_all_tenants(
    session: AsyncSession, phone: str, organisation: str | None, opt_outs: Sequence[ErasedOptOut]
) -> None:
    """Replace the phone of its opt-outs by a hash. `opt_outs` has them as delivery has them."""
    values = {"phone": phone, "organisation": organisation}
    await session.execute(_ERASE_OPT_OUTS, {**values, **_OPT_OUTS.bind(opt_outs)})


async def _rows(session: AsyncSession, statement: Any, phone: str, organisation: str | None) -> list[ContactRow]:
    found: Sequence[Any] = (await session.execute(statement, {"phone": phone, "organisation": organisation})).all()
    return [ContactRow._make(row) for row in found]


async def add_record(session: AsyncSession, organisation: str | None, *, operator: str, reason: str) -> int:
    """Record that an erasure begins, and return its id."""
    values = {"organisation": organisation, "operator": operator, "reason": reason}
    return int((await session.execute(_ADD_RECORD, values)).scalar_one())


async def complete_record(session: AsyncSession, erasure_id: int, counts: Mapping[str, Any]) -> None:
    """Record what was erased."""
    await session.execute(_COMPLETE_RECORD, {"id": erasure_id, "counts": json.dumps(counts)})
