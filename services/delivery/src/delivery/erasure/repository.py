"""The statements that erase a person's messages of both directions, their webhook events, and the phone of opt-outs."""
# ruff: noqa: S608 (the parts of the statements are constants)

from collections.abc import Collection, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from delivery.models import FINAL, WAITING, MessageStatus, sql_list
from delivery.opt_outs.rules import ErasedOptOut
from delivery.retention import REMOVE_CONTENT, REMOVE_INBOUND_CONTENT

_CONTACT = Columns(organisation_id="text", contact_id="bigint")
# Each condition has its own index, so they are not one OR.
_FIND = """
    SELECT r.id FROM {table} r WHERE r.phone = :phone
        AND (CAST(:organisation AS text) IS NULL OR r.organisation_id = :organisation)
    UNION
    SELECT r.id FROM {contacts}
    JOIN {table} r ON r.organisation_id = c.organisation_id AND r.contact_id = c.contact_id
    WHERE r.phone <> 'erased'
    ORDER BY id
"""
_FIND_MESSAGES = text(_FIND.format(table="messages", contacts=_CONTACT.unnest("c")))
_FIND_INBOUND = text(_FIND.format(table="inbound_messages", contacts=_CONTACT.unnest("c")))
_LOCK = text("SELECT id, status FROM messages WHERE id = ANY(CAST(:ids AS bigint[])) ORDER BY id FOR UPDATE")
_ERASE = text(
    f"""
    WITH erased AS (
        UPDATE messages SET {REMOVE_CONTENT}, phone = 'erased'
        WHERE id = ANY(CAST(:ids AS bigint[])) AND status IN ({sql_list(FINAL)}) RETURNING id
    ), deleted AS (DELETE FROM webhook_events WHERE message_id = ANY(ARRAY(SELECT id FROM erased)) RETURNING 1)
    SELECT (SELECT count(*) FROM erased), (SELECT count(*) FROM deleted)
    """
)
_ERASE_INBOUND = text(
    f"""
    WITH erased AS (
        UPDATE inbound_messages SET {REMOVE_INBOUND_CONTENT}, phone = 'erased'
        WHERE id = ANY(CAST(:ids AS bigint[])) RETURNING fingerprint, provider
    ), deleted AS (DELETE FROM webhook_events e USING erased i
                   WHERE e.fingerprint = i.fingerprint AND e.provider = i.provider RETURNING 1)
    SELECT (SELECT count(*) FROM erased), (SELECT count(*) FROM deleted)
    """
)
# An opt-out of a contact becomes one of the phone, because the contact will not have the phone. The row of a phone that
# is not opted out is deleted.
_ERASE_OPT_OUTS = text(
    """
    WITH deleted AS (
        DELETE FROM opt_outs
        WHERE phone = :phone AND (CAST(:organisation AS text) IS NULL OR organisation_id = :organisation)
        RETURNING organisation_id, opted_out, changed_at, source
    ), to_store AS (
        SELECT organisation_id, changed_at, source FROM deleted WHERE opted_out
        UNION ALL
        SELECT DISTINCT c.organisation_id, now(), 'reply'
        FROM unnest(CAST(:organisations_with_opt_out AS text[])) AS c (organisation_id)
        WHERE NOT EXISTS (SELECT FROM deleted d WHERE d.organisation_id = c.organisation_id AND d.opted_out)
    )
    INSERT INTO erased_opt_outs AS e (organisation_id, phone_hash, changed_at, source, version)
    SELECT organisation_id, erased_phone_hash(organisation_id, :phone), changed_at, source, nextval('opt_out_versions')
    FROM to_store
    ON CONFLICT (organisation_id, phone_hash) DO UPDATE SET version = excluded.version
    """
)
_FIND_ERASED_OPT_OUTS = text(
    """
    SELECT organisation_id, changed_at, source, version FROM erased_opt_outs
    WHERE (CAST(:organisation AS text) IS NULL OR organisation_id = :organisation)
      AND phone_hash = erased_phone_hash(organisation_id, :phone)
    ORDER BY organisation_id
    """
)


async def erase_opt_outs_all_tenants(
    session: AsyncSession, phone: str, organisation: str | None, organisations_with_opt_out: Collection[str]
) -> list[ErasedOptOut]:
    """Erase the phone of its opt-outs, with those of contacts at these organisations. Return all of the phone."""
    values = {"phone": phone, "organisation": organisation}
    await session.execute(_ERASE_OPT_OUTS, {**values, "organisations_with_opt_out": list(organisations_with_opt_out)})
    return [ErasedOptOut(*row) for row in await session.execute(_FIND_ERASED_OPT_OUTS, values)]


async def find_messages_all_tenants(
    session: AsyncSession, phone: str, organisation: str | None, contacts: Collection[tuple[str, int]]
) -> Sequence[int]:
    """Return the ids of the messages to a phone, or of these (organisation, contact)."""
    values = {"phone": phone, "organisation": organisation, **_CONTACT.bind_tuples(list(contacts))}
    return (await session.scalars(_FIND_MESSAGES, values)).all()


async def find_inbound_all_tenants(
    session: AsyncSession, phone: str, organisation: str | None, contacts: Collection[tuple[str, int]]
) -> Sequence[int]:
    """Return the ids of the inbound messages from a phone, or of these (organisation, contact)."""
    values = {"phone": phone, "organisation": organisation, **_CONTACT.bind_tuples(list(contacts))}
    return (await session.scalars(_FIND_INBOUND, values)).all()


async def lock_waiting_all_tenants(session: AsyncSession, ids: Collection[int]) -> list[int]:
    """Lock messages in the order of their ids. Return those that have not been submitted."""
    rows = await session.execute(_LOCK, {"ids": list(ids)})
    return [row.id for row in rows if MessageStatus(row.status) in WAITING]


async def erase_messages_all_tenants(session: AsyncSession, ids: Collection[int]) -> tuple[int, int]:
    """Erase those of the messages that are final, with their webhook events. Return how many of both."""
    messages, events = (await session.execute(_ERASE, {"ids": list(ids)})).one()
    return messages, events


async def erase_inbound_all_tenants(session: AsyncSession, ids: Collection[int]) -> tuple[int, int]:
    """Erase inbound messages with their webhook events. Return how many of both."""
    messages, events = (await session.execute(_ERASE_INBOUND, {"ids": list(ids)})).one()
    return messages, events
