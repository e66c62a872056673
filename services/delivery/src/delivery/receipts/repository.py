"""Every statement on notices, and what receipts make of messages."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from delivery.receipts.rules import Settlement, spellings

RETENTION_DAYS = 30

# Sorted, so that two webhooks with the same notices take them in the same order.
_KEEP = text(
    """
    INSERT INTO notices (provider, fingerprint, kind, reference, provider_message_id, body, request_id)
    SELECT :provider, n.fingerprint, n.kind, n.reference, n.provider_message_id, CAST(n.body AS jsonb), :request_id
    FROM unnest(CAST(:fingerprints AS bytea[]), CAST(:kinds AS text[]), CAST(:references AS bigint[]),
                CAST(:provider_ids AS text[]), CAST(:bodies AS text[]))
        AS n (fingerprint, kind, reference, provider_message_id, body)
    ORDER BY n.fingerprint
    ON CONFLICT (fingerprint, provider) DO NOTHING
    """
)
_CLAIM = text(
    """
    SELECT id, provider, kind, reference, provider_message_id, CAST(body AS text) AS body, looks, received_at,
           request_id, now() AS looked_at
    FROM notices WHERE due_at <= now() ORDER BY due_at, id LIMIT :batch FOR UPDATE SKIP LOCKED
    """
)
# By our reference, else by the provider's id in any of its spellings, the first of them that is known. Where references
# bear no mark (a provider from outside), another system on the account counts from 1 as we do: what was told before
# ours was there, or of another id of the provider's (as long as ours: ids are mangled, not made up), is not about it.
_FIND = text(
    """
    SELECT n.notice_id, coalesce(
        (SELECT m.id FROM messages m
         WHERE m.id = n.reference AND m.provider = n.provider AND m.created_at <= n.received_at
           AND (length(m.provider_message_id) = length(n.told_id)
                AND lower(m.provider_message_id) <> lower(n.told_id)) IS NOT TRUE),
        (SELECT m.id FROM jsonb_array_elements_text(CAST(n.spellings AS jsonb)) WITH ORDINALITY AS s (spelling, place)
         JOIN messages m ON m.provider_message_id = s.spelling AND m.provider = n.provider
         ORDER BY s.place, m.id DESC LIMIT 1)) AS message_id
    FROM unnest(CAST(:ids AS bigint[]), CAST(:providers AS text[]), CAST(:references AS bigint[]),
                CAST(:told_ids AS text[]), CAST(:spellings AS text[]), CAST(:moments AS timestamptz[]))
        AS n (notice_id, provider, reference, told_id, spellings, received_at)
    """
)
_LOCK = text(
    """
    SELECT id, organisation_id, phone, provider, status, sent_time, delivered_time, category, error, call_key
    FROM messages WHERE id = ANY(CAST(:ids AS bigint[])) ORDER BY id FOR UPDATE
    """
)
# Read under the messages' locks: what another has applied to them is seen.
_HISTORY = text(
    """
    SELECT id, message_id, provider, kind, CAST(body AS text) AS body, received_at FROM notices
    WHERE message_id = ANY(CAST(:ids AS bigint[])) AND kind = 'receipt'
    """
)
_SETTLE = text(
    """
    UPDATE messages m SET
        status = s.new_status,
        version = m.version + CASE WHEN s.is_new THEN 1 ELSE 0 END,
        changed_at = CASE WHEN s.is_new THEN now() ELSE m.changed_at END,
        sent_time = s.new_sent_time,
        delivered_time = s.new_delivered_time,
        category = s.new_category,
        error = s.new_error,
        next_attempt_at = CASE WHEN s.is_new THEN NULL ELSE m.next_attempt_at END,
        provider_status = s.new_provider_status,
        provider_message_id = coalesce(m.provider_message_id, s.new_provider_message_id),
        billed_parts = coalesce(s.new_billed_parts, m.billed_parts)
    FROM unnest(CAST(:message_id AS bigint[]), CAST(:is_new AS boolean[]), CAST(:status AS text[]),
                CAST(:sent_time AS timestamptz[]), CAST(:delivered_time AS timestamptz[]), CAST(:category AS text[]),
                CAST(:error AS text[]), CAST(:provider_status AS text[]), CAST(:provider_message_id AS text[]),
                CAST(:billed_parts AS int[]))
        AS s (message_id, is_new, new_status, new_sent_time, new_delivered_time, new_category, new_error,
              new_provider_status, new_provider_message_id, new_billed_parts)
    WHERE m.id = s.message_id AND m.id = ANY(CAST(:message_id AS bigint[]))
    RETURNING m.*, s.is_new
    """
)
_SETTLE_COLUMNS = (
    "message_id",
    "is_new",
    "status",
    "sent_time",
    "delivered_time",
    "category",
    "error",
    "provider_status",
    "provider_message_id",
    "billed_parts",
)
_DONE = text(
    """
    UPDATE notices n SET due_at = NULL, message_id = d.message_id
    FROM unnest(CAST(:ids AS bigint[]), CAST(:messages AS bigint[])) AS d (id, message_id)
    WHERE n.id = d.id
    """
)
_POSTPONE = text(
    """
    UPDATE notices n SET looks = n.looks + 1, due_at = now() + make_interval(secs => p.pause_s)
    FROM unnest(CAST(:ids AS bigint[]), CAST(:pauses AS float8[])) AS p (id, pause_s)
    WHERE n.id = p.id
    """
)
_FORGET = text(
    """
    DELETE FROM notices WHERE id = ANY(ARRAY(
        SELECT id FROM notices WHERE received_at < now() - make_interval(days => :days)
        ORDER BY received_at LIMIT :batch FOR UPDATE SKIP LOCKED))
    """
)


async def keep(session: AsyncSession, provider: str, request_id: str, notices: Sequence[Mapping[str, Any]]) -> None:
    """Keeps the notices that are new: `fingerprint, kind, reference, provider_message_id, body`."""
    await session.execute(
        _KEEP,
        {
            "provider": provider,
            "request_id": request_id,
            "fingerprints": [notice["fingerprint"] for notice in notices],
            "kinds": [notice["kind"] for notice in notices],
            "references": [notice["reference"] for notice in notices],
            "provider_ids": [notice["provider_message_id"] for notice in notices],
            "bodies": [notice["body"] for notice in notices],
        },
    )


async def claim_all_tenants(session: AsyncSession, batch: int) -> Sequence[Row[Any]]:
    """Locks notices that are due, the longest due first. Skips what another holds."""
    return (await session.execute(_CLAIM, {"batch": batch})).all()


async def find_messages_all_tenants(session: AsyncSession, notices: Sequence[Row[Any]]) -> dict[int, int]:
    """ProviderEvent id → id of the message that it names, where there is one."""
    parameters = {
        "ids": [notice.id for notice in notices],
        "providers": [notice.provider for notice in notices],
        "references": [notice.reference for notice in notices],
        "told_ids": [notice.provider_message_id for notice in notices],
        "moments": [notice.received_at for notice in notices],
        "spellings": [to_json(spellings(notice.provider_message_id)).decode() for notice in notices],
    }
    rows = await session.execute(_FIND, parameters)
    return {row.notice_id: row.message_id for row in rows if row.message_id is not None}


async def lock_messages_all_tenants(session: AsyncSession, ids: Collection[int]) -> Sequence[Row[Any]]:
    """Locks messages in order, as they stand."""
    return (await session.execute(_LOCK, {"ids": list(ids)})).all()


async def history_all_tenants(session: AsyncSession, ids: Collection[int]) -> Sequence[Row[Any]]:
    """The receipts that these messages had before: `id, message_id, provider, kind, body, received_at`."""
    return (await session.execute(_HISTORY, {"ids": list(ids)})).all()


async def settle(session: AsyncSession, settlements: Sequence[Settlement]) -> Sequence[Row[Any]]:
    """Writes how messages, locked, are to stand: the rows, with `is_new`."""
    columns = {name: [getattr(one, name) for one in settlements] for name in _SETTLE_COLUMNS}
    return (await session.execute(_SETTLE, columns)).all()


async def done(session: AsyncSession, notices: Mapping[int, int | None]) -> None:
    """ProviderEvent id → message id: these are dealt with (None: given up)."""
    await session.execute(_DONE, {"ids": list(notices), "messages": list(notices.values())})


async def postpone(session: AsyncSession, pauses: Mapping[int, float]) -> None:
    """ProviderEvent id → seconds: these are looked at again then."""
    await session.execute(_POSTPONE, {"ids": list(pauses), "pauses": list(pauses.values())})


async def forget_all_tenants(session: AsyncSession, batch: int) -> int:
    """Removes notices that are old, and returns how many."""
    parameters = {"days": RETENTION_DAYS, "batch": batch}
    return (await session.execute(_FORGET, parameters)).rowcount  # type: ignore[attr-defined,no-any-return]
