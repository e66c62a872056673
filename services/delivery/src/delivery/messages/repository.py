"""Every statement on messages: batches only, one statement each."""
# ruff: noqa: S608 (what is put together are constants of this file)

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from common.events import ContactState, ScheduleDue
from delivery.messages.rules import Order, Result

# Whether the recipient of a message has stopped: its contact, another contact with its number, or the number itself.
# Our own answer to STOP or HELP is for those who stopped too. Scalar subqueries, as EXISTS may be planned as a hash of
# the whole table.
HAS_STOPPED = """
    {m}.answers IS NULL AND coalesce(
        (SELECT true FROM contact_opt_outs c
         WHERE c.organisation_id = {m}.organisation_id AND c.contact_id = {m}.contact_id AND c.opt_out),
        (SELECT true FROM contact_opt_outs c
         WHERE c.organisation_id = {m}.organisation_id AND c.phone = {m}.phone AND c.opt_out LIMIT 1),
        (SELECT true FROM stops s
         WHERE s.organisation_id = {m}.organisation_id AND s.phone = {m}.phone AND s.stopped),
        false)
"""
# Why a message may not go out.
_REFUSAL = f"""
    CASE WHEN (SELECT closed FROM organisations o WHERE o.organisation_id = {{m}}.organisation_id) THEN 'blocked'
         WHEN {HAS_STOPPED} THEN 'opted_out' END AS refusal
"""
_OUTCOME = """
    id, organisation_id, schedule_id, group_schedule_id, run, version, status, attempts, provider,
    provider_message_id, sent_time, delivered_time, next_attempt_at, category, error, request_id, phone, units,
    period, format
"""
_ADD = text(
    f"""
    INSERT INTO messages (organisation_id, schedule_id, run, group_schedule_id, contact_id, phone, text, format,
                          subject, media_url, units, scheduled_time, period, lane, request_id, deadline)
    SELECT *, scheduled_time + make_interval(secs => :deadline_s)
    FROM unnest(CAST(:organisation_id AS text[]), CAST(:schedule_id AS bigint[]), CAST(:run AS int[]),
                CAST(:group_schedule_id AS bigint[]), CAST(:contact_id AS bigint[]), CAST(:phone AS text[]),
                CAST(:text AS text[]), CAST(:format AS text[]), CAST(:subject AS text[]),
                CAST(:media_url AS text[]), CAST(:parts AS int[]), CAST(:scheduled_time AS timestamptz[]),
                CAST(:period AS date[]), CAST(:lane AS text[]), CAST(:request_id AS text[]))
        AS new (organisation_id, schedule_id, run, group_schedule_id, contact_id, phone, text, format, subject,
                media_url, units, scheduled_time, period, lane, request_id)
    ON CONFLICT (schedule_id, run) DO NOTHING
    RETURNING id, schedule_id, run, {_REFUSAL.format(m="messages")}
    """
)
_EVENT_COLUMNS = (
    "organisation_id",
    "schedule_id",
    "run",
    "group_schedule_id",
    "contact_id",
    "phone",
    "text",
    "format",
    "subject",
    "media_url",
    "parts",
    "scheduled_time",
    "lane",
    "request_id",
)
_FAIL = text(
    f"""
    UPDATE messages SET status = 'failed', version = version + 1, changed_at = now(),
                        category = f.failed_category, error = f.failed_error
    FROM unnest(CAST(:ids AS bigint[]), CAST(:categories AS text[]), CAST(:errors AS text[]))
        AS f (failed_id, failed_category, failed_error)
    WHERE id = f.failed_id AND id = ANY(CAST(:ids AS bigint[]))
    RETURNING {_OUTCOME}
    """
)
# One lane of the claim. The organisations that have something queued are found by stepping over the index, from the
# one after the last that was served; those whose messages are another provider's are passed by; each gives an equal
# share.
_LANE = """
    {lane}_steps AS (
        (SELECT organisation_id FROM messages
         WHERE status = 'queued' AND format = :format AND lane = '{lane}' AND organisation_id > :{lane}_after
         ORDER BY organisation_id LIMIT 1)
        UNION ALL
        SELECT (SELECT m.organisation_id FROM messages m
                WHERE m.status = 'queued' AND m.format = :format AND m.lane = '{lane}'
                  AND m.organisation_id > s.organisation_id
                ORDER BY m.organisation_id LIMIT 1)
        FROM {lane}_steps s WHERE s.organisation_id IS NOT NULL
    ),
    {lane}_turns AS MATERIALIZED (
        SELECT organisation_id FROM {lane}_steps
        WHERE organisation_id IS NOT NULL
          AND (organisation_id IN (SELECT unnest(CAST(:organisations AS text[])))) <> CAST(:others AS boolean)
        LIMIT {wanted}
    ),
    {lane}_claim AS MATERIALIZED (
        SELECT m.* FROM {lane}_turns t CROSS JOIN LATERAL (
            SELECT id, organisation_id, contact_id, phone, text, subject, media_url, lane, attempts, alone, deadline,
                   units, period, format, request_id, answers
            FROM messages
            WHERE status = 'queued' AND format = :format AND lane = '{lane}' AND organisation_id = t.organisation_id
            ORDER BY id
            LIMIT (SELECT CAST(ceil(CAST({wanted} AS numeric) / greatest(count(*), 1)) AS bigint) FROM {lane}_turns)
            FOR UPDATE SKIP LOCKED
        ) m LIMIT {wanted}
    )
"""
_CLAIM = text(
    f"""
    WITH RECURSIVE
    {_LANE.format(lane="single", wanted="CAST(:wanted AS bigint)")},
    {_LANE.format(lane="bulk", wanted="(SELECT CAST(:wanted AS bigint) - count(*) FROM single_claim)")},
    claimed AS (SELECT * FROM single_claim UNION ALL SELECT * FROM bulk_claim)
    SELECT *, deadline <= now() AS is_late, {_REFUSAL.format(m="claimed")} FROM claimed
    """
)
_PROMOTE = text(
    """
    UPDATE messages SET status = 'queued', next_attempt_at = NULL
    WHERE id = ANY(ARRAY(
        SELECT id FROM messages WHERE status = 'retry_wait' AND next_attempt_at <= now()
        ORDER BY next_attempt_at LIMIT :batch FOR UPDATE SKIP LOCKED))
    """
)
# An acceptance applies while the call is the message's and the outcome open, however late it comes. Anything else
# applies only to the request that it answers: a late refusal must not free what a repetition is sending.
_FINISH = text(
    f"""
    UPDATE messages SET
        status = r.new_status,
        changed_at = now(),
        version = version + CASE WHEN r.new_status IN ('sent', 'failed', 'retry_wait') THEN 1 ELSE 0 END,
        attempts = attempts - r.given_back,
        alone = alone OR r.new_alone,
        provider_message_id = coalesce(r.new_provider_message_id, provider_message_id),
        sent_time = CASE WHEN r.new_status = 'sent' THEN now() END,
        category = r.new_category,
        error = r.new_error,
        billed_parts = coalesce(r.new_parts, billed_parts),
        provider_status = coalesce(r.new_raw, provider_status),
        next_attempt_at = CASE WHEN r.new_status = 'retry_wait' THEN now() + make_interval(secs => r.delay_s) END
    FROM unnest(CAST(:message_id AS bigint[]), CAST(:key AS uuid[]), CAST(:requests AS int[]),
                CAST(:status AS text[]), CAST(:provider_message_id AS text[]), CAST(:category AS text[]),
                CAST(:error AS text[]), CAST(:delay_s AS float8[]), CAST(:given_back AS int[]),
                CAST(:alone AS boolean[]), CAST(:parts AS int[]), CAST(:raw AS text[]))
        AS r (message_id, key, requests, new_status, new_provider_message_id, new_category, new_error, delay_s,
              given_back, new_alone, new_parts, new_raw)
    WHERE id = r.message_id AND id = ANY(CAST(:message_id AS bigint[])) AND call_key = r.key
      AND (status = 'sending' AND call_requests = r.requests
           OR r.new_status = 'sent' AND status IN ('sending', 'unknown'))
    RETURNING {_OUTCOME}
    """
)
_RESULT_COLUMNS = (
    "message_id",
    "key",
    "requests",
    "status",
    "provider_message_id",
    "category",
    "error",
    "delay_s",
    "given_back",
    "alone",
    "parts",
    "raw",
)
# A receipt was quicker than our commit of the acceptance: only what the receipt did not know is left to say.
_FILL = text(
    """
    UPDATE messages SET provider_message_id = coalesce(provider_message_id, r.new_provider_message_id),
                        billed_parts = coalesce(billed_parts, r.new_parts)
    FROM unnest(CAST(:message_id AS bigint[]), CAST(:key AS uuid[]), CAST(:provider_message_id AS text[]),
                CAST(:parts AS int[])) AS r (message_id, key, new_provider_message_id, new_parts)
    WHERE id = r.message_id AND id = ANY(CAST(:message_id AS bigint[])) AND call_key = r.key
      AND status IN ('sent', 'delivered', 'failed')
    """
)
_LOCK_EXPIRED = text(
    """
    SELECT id FROM messages
    WHERE CASE status WHEN 'queued' THEN true WHEN 'retry_wait' THEN true ELSE false END AND deadline <= now()
    ORDER BY deadline LIMIT :batch FOR UPDATE SKIP LOCKED
    """
)
_STATES = text(
    f"""
    SELECT {_OUTCOME} FROM messages
    JOIN unnest(CAST(:schedules AS bigint[]), CAST(:runs AS int[])) AS asked (schedule_id, run)
        USING (schedule_id, run)
    """
)
_OUTCOMES_SINCE = text(
    f"""
    SELECT {_OUTCOME} FROM messages
    WHERE id > :after AND schedule_id IS NOT NULL AND status IN ('sent', 'delivered', 'failed')
      AND changed_at >= :since
    ORDER BY id LIMIT :batch
    """
)
_HEAR_CONTACTS = text(
    """
    INSERT INTO contact_opt_outs AS c (organisation_id, contact_id, phone, opt_out, version)
    SELECT * FROM unnest(CAST(:organisations AS text[]), CAST(:contacts AS bigint[]), CAST(:phones AS text[]),
                         CAST(:opt_outs AS boolean[]), CAST(:versions AS bigint[]))
    ON CONFLICT (organisation_id, contact_id) DO UPDATE
        SET phone = EXCLUDED.phone, opt_out = EXCLUDED.opt_out, version = EXCLUDED.version
        WHERE c.version < EXCLUDED.version
    """
)


async def add(
    session: AsyncSession, events: Sequence[ScheduleDue], periods: Sequence[Any], deadline_s: float
) -> Sequence[Row[Any]]:
    """Adds a message for each event that is new by (schedule, run): `id, schedule_id, run, refusal`."""
    columns = {name: [getattr(event, name) for event in events] for name in _EVENT_COLUMNS}
    result = await session.execute(_ADD, {**columns, "period": list(periods), "deadline_s": deadline_s})
    return result.all()


async def fail(session: AsyncSession, failures: Mapping[int, tuple[str, str]]) -> Sequence[Row[Any]]:
    """Message id → (category, error): they end. The rows are the caller's: just added, or locked by its claim."""
    result = await session.execute(
        _FAIL,
        {
            "ids": list(failures),
            "categories": [category for category, _ in failures.values()],
            "errors": [error for _, error in failures.values()],
        },
    )
    return result.all()


async def claim(session: AsyncSession, order: Order) -> Sequence[Row[Any]]:
    """Locks queued messages as ordered: single ones first, in each lane the organisations after `turns[lane]` in equal
    shares. Skips what another holds."""
    result = await session.execute(
        _CLAIM,
        {
            "format": order.message_format,
            "wanted": order.messages,
            "organisations": order.share.organisations,
            "others": order.share.others,
            "single_after": order.turns["single"],
            "bulk_after": order.turns["bulk"],
        },
    )
    return result.all()


async def promote(session: AsyncSession, batch: int) -> int:
    """Queues what has waited long enough for its next attempt, and returns how many."""
    return (await session.execute(_PROMOTE, {"batch": batch})).rowcount  # type: ignore[attr-defined,no-any-return]


async def finish(session: AsyncSession, results: Sequence[Result]) -> Sequence[Row[Any]]:
    """Applies the results that still hold and returns those messages. One result a (message, call) at most."""
    columns = {name: [getattr(result, name) for result in results] for name in _RESULT_COLUMNS}
    return (await session.execute(_FINISH, columns)).all()


async def fill(session: AsyncSession, results: Sequence[Result]) -> None:
    """Adds the provider's ids and parts to messages that have an outcome already."""
    names = ("message_id", "key", "provider_message_id", "parts")
    await session.execute(_FILL, {name: [getattr(result, name) for result in results] for name in names})


async def lock_expired(session: AsyncSession, batch: int) -> Sequence[int]:
    """Ids of messages that wait, and are past their deadline; skips what another holds."""
    return (await session.execute(_LOCK_EXPIRED, {"batch": batch})).scalars().all()


async def states(session: AsyncSession, schedules: Collection[tuple[int, int]]) -> Sequence[Row[Any]]:
    """The messages of these (schedule, run)."""
    parameters = {"schedules": [schedule for schedule, _ in schedules], "runs": [run for _, run in schedules]}
    return (await session.execute(_STATES, parameters)).all()


async def hear_contacts(session: AsyncSession, contacts: Mapping[tuple[str, int], ContactState]) -> None:
    """Keeps (organisation, contact) → state where it is newer than what is known."""
    states = contacts.values()
    await session.execute(
        _HEAR_CONTACTS,
        {
            "organisations": [organisation for organisation, _ in contacts],
            "contacts": [contact for _, contact in contacts],
            "phones": [state.phone for state in states],
            "opt_outs": [state.opt_out for state in states],
            "versions": [state.version for state in states],
        },
    )


async def outcomes_since_all_tenants(
    session: AsyncSession, since: datetime, after: int, batch: int
) -> Sequence[Row[Any]]:
    """Messages of schedules, beyond the id `after`, that have come to their outcome since."""
    return (await session.execute(_OUTCOMES_SINCE, {"since": since, "after": after, "batch": batch})).all()
