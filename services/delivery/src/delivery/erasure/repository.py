"""The statements that erase a person's messages of both directions, and their webhook events."""
# ruff: noqa: S608 (the parts of the statements are constants)

from collections.abc import Collection, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from delivery.models import FINAL, WAITING, MessageStatus, sql_list
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
    ), gone AS (DELETE FROM webhook_events WHERE message_id = ANY(ARRAY(SELECT id FROM erased)) RETURNING 1)
    SELECT (SELECT count(*) FROM erased), (SELECT count(*) FROM gone)
    """
)
_ERASE_INBOUND = text(
    f"""
    WITH erased AS (
        UPDATE inbound_messages SET {REMOVE_INBOUND_CONTENT}, phone = 'erased'
        WHERE id = ANY(CAST(:ids AS bigint[])) RETURNING fingerprint, provider
    ), gone AS (DELETE FROM webhook_events e USING erased i
                WHERE e.fingerprint = i.fingerprint AND e.provider = i.provider RETURNING 1)
    SELECT (SELECT count(*) FROM erased), (SELECT count(*) FROM gone)
    """
)


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
