"""Every statement that changes messages or reads their states. The statements that list them are in `lists.py`."""
# ruff: noqa: S608 (the parts of the statements are constants)

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from common.events import FailureCategory, ScheduleDue
from delivery.messages.rules import (
    ERRORS,
    REFUSAL,
    AutoReply,
    InSubmission,
    MessageUpdate,
    Result,
)
from delivery.messages.schemas import DispatchId
from delivery.models import (
    FINAL,
    IN_SUBMISSION,
    IS_WAITING,
    PUBLISHED,
    AddedMessage,
    OutcomeRow,
    columns,
    read_rows,
    sql_list,
)

_AUTO_REPLY_DEADLINE_S = 3600.0  # a later auto-reply would confuse the recipient

_NEW = Columns(
    organisation_id="text",
    schedule_id="bigint",
    dispatch_number="int",
    batch_id="bigint",
    contact_id="bigint",
    phone="text",
    text="text",
    format="text",
    subject="text",
    media_url="text",
    parts="int",
    scheduled_time="timestamptz",
    period="date",
    lane="text",
    request_id="text",
    traceparent="text",
)
_RECEIPT = Columns(
    message_id="bigint",
    is_new_status="boolean",
    status="text",
    sent_time="timestamptz",
    delivered_time="timestamptz",
    failure_category="text",
    error="text",
    provider_status="text",
    provider_message_id="text",
    billed_parts="int",
)
_AUTO_REPLY = Columns(
    organisation_id="text",
    contact_id="bigint",
    phone="text",
    text="text",
    parts="int",
    period="date",
    request_id="text",
    traceparent="text",
    auto_reply_to="bigint",
)
_SENDING = Columns(message_id="bigint", submission_key="uuid", tries="int", sender_id="text")
_RESULT = Columns(
    message_id="bigint",
    key="uuid",
    tries="int",
    status="text",
    failure_category="text",
    error="text",
    provider_message_id="text",
    billed_parts="int",
    provider_status="text",
    delay_s="float8",
    returns_attempt="boolean",
    is_separate="boolean",
)
_ACCEPTANCE = Columns(message_id="bigint", key="uuid", provider_message_id="text", billed_parts="int")
_FAILURE = Columns(message_id="bigint", failure_category="text", error="text")
_DISPATCH = Columns(schedule_id="bigint", dispatch_number="int")
_ADD = text(
    f"""
    INSERT INTO messages ({", ".join(_NEW.names)}, deadline)
    SELECT *, scheduled_time + make_interval(secs => :deadline_s) FROM {_NEW.unnest("new")}
    ON CONFLICT (schedule_id, dispatch_number) DO NOTHING
    RETURNING id, schedule_id, dispatch_number, {REFUSAL.format(m="messages")} AS refusal
    """
)
_FAIL = text(
    f"""
    UPDATE messages m SET status = 'failed', version = m.version + 1, changed_at = now(),
                          failure_category = f.failure_category, error = f.error
    FROM {_FAILURE.unnest("f")}
    WHERE m.id = f.message_id AND m.id = ANY({_FAILURE.array("message_id")})
    RETURNING {columns(OutcomeRow, "m")}
    """
)
_SET_SENDING = text(
    f"""
    UPDATE messages m SET status = 'sending', attempts = m.attempts + 1, provider = :provider,
                          sender_id = n.sender_id, submission_key = n.submission_key, submission_tries = n.tries
    FROM {_SENDING.unnest("n")} WHERE m.id = n.message_id AND m.id = ANY({_SENDING.array("message_id")})
    """
)
_SET_UNKNOWN = text(
    f"""
    UPDATE messages m SET status = 'unknown' FROM {_SENDING.unnest("n")}
    WHERE m.id = n.message_id AND m.id = ANY({_SENDING.array("message_id")})
      AND m.submission_key = n.submission_key AND m.status = 'sending'
    """
)
_SET_RESENDING = text(
    f"""
    UPDATE messages m SET status = 'sending', submission_tries = n.tries FROM {_SENDING.unnest("n")}
    WHERE m.id = n.message_id AND m.id = ANY({_SENDING.array("message_id")})
      AND m.submission_key = n.submission_key AND m.status = 'unknown'
    """
)
# An acceptance applies while the message is in this submission, however late it arrives. Any other result applies only
# to the try that it answers: a late refusal must not free a message that a resend is sending.
_APPLY_RESULTS = text(
    f"""
    UPDATE messages m SET
        status = r.status,
        changed_at = now(),
        version = m.version + CASE WHEN r.status IN ({sql_list(PUBLISHED)}) THEN 1 ELSE 0 END,
        attempts = m.attempts - CASE WHEN r.returns_attempt THEN 1 ELSE 0 END,
        is_separate = m.is_separate OR r.is_separate,
        provider_message_id = coalesce(r.provider_message_id, m.provider_message_id),
        sent_time = CASE WHEN r.status = 'sent' THEN now() END,
        failure_category = r.failure_category,
        error = r.error,
        billed_parts = coalesce(r.billed_parts, m.billed_parts),
        provider_status = CASE WHEN r.status = 'sent' THEN r.provider_status
                               ELSE coalesce(r.provider_status, m.provider_status) END,
        next_attempt_at = CASE WHEN r.status = 'retry_wait' THEN now() + make_interval(secs => r.delay_s) END
    FROM {_RESULT.unnest("r")}
    WHERE m.id = r.message_id AND m.id = ANY({_RESULT.array("message_id")}) AND m.submission_key = r.key
      AND (m.status = 'sending' AND m.submission_tries = r.tries
           OR r.status = 'sent' AND m.status IN ({sql_list(IN_SUBMISSION)}))
    RETURNING {columns(OutcomeRow, "m")}
    """
)
# A delivery receipt arrived before the acceptance was committed. The acceptance only adds what the receipt lacked.
_COMPLETE = text(
    f"""
    UPDATE messages m SET provider_message_id = coalesce(m.provider_message_id, a.provider_message_id),
                          billed_parts = coalesce(m.billed_parts, a.billed_parts)
    FROM {_ACCEPTANCE.unnest("a")}
    WHERE m.id = a.message_id AND m.id = ANY({_ACCEPTANCE.array("message_id")}) AND m.submission_key = a.key
      AND m.status IN ({sql_list(FINAL)})
    """
)
_APPLY_RECEIPTS = text(
    f"""
    UPDATE messages m SET
        status = u.status,
        version = m.version + CASE WHEN u.is_new_status THEN 1 ELSE 0 END,
        changed_at = CASE WHEN u.is_new_status THEN now() ELSE m.changed_at END,
        sent_time = u.sent_time,
        delivered_time = u.delivered_time,
        failure_category = u.failure_category,
        error = u.error,
        next_attempt_at = CASE WHEN u.is_new_status THEN NULL ELSE m.next_attempt_at END,
        provider_status = u.provider_status,
        provider_message_id = coalesce(m.provider_message_id, u.provider_message_id),
        billed_parts = coalesce(u.billed_parts, m.billed_parts)
    FROM {_RECEIPT.unnest("u")}
    WHERE m.id = u.message_id AND m.id = ANY({_RECEIPT.array("message_id")})
    RETURNING u.is_new_status, {columns(OutcomeRow, "m")}
    """
)
_ADD_AUTO_REPLIES = text(
    f"""
    INSERT INTO messages ({", ".join(_AUTO_REPLY.names)}, dispatch_number, format, lane, scheduled_time, deadline)
    SELECT n.*, 1, 'sms', 'single', now(), now() + make_interval(secs => :deadline_s)
    FROM {_AUTO_REPLY.unnest("n")}
    ON CONFLICT (auto_reply_to) WHERE auto_reply_to IS NOT NULL DO NOTHING
    """
)
_QUEUE_RETRIES = text(
    """
    UPDATE messages SET status = 'queued', next_attempt_at = NULL, changed_at = now()
    WHERE id = ANY(ARRAY(
        SELECT id FROM messages WHERE status = 'retry_wait' AND next_attempt_at <= now()
        ORDER BY next_attempt_at LIMIT :batch FOR UPDATE SKIP LOCKED))
    """
)
_LOCK_EXPIRED = text(
    f"""
    SELECT id FROM messages WHERE {IS_WAITING} AND deadline <= now()
    ORDER BY deadline LIMIT :batch FOR UPDATE SKIP LOCKED
    """
)
_STATES = text(
    f"SELECT {columns(OutcomeRow)} FROM messages JOIN {_DISPATCH.unnest('d')} USING (schedule_id, dispatch_number)"
)
_OUTCOMES_SINCE = text(
    f"""
    SELECT {columns(OutcomeRow)} FROM messages
    WHERE id > :after AND schedule_id IS NOT NULL AND status IN ({sql_list(FINAL)}) AND changed_at >= :since
    ORDER BY id LIMIT :batch
    """
)


async def add(
    session: AsyncSession, events: Sequence[ScheduleDue], periods: Sequence[date], deadline_s: float
) -> list[AddedMessage]:
    """Insert a message for each dispatch that is new. Its deadline is `deadline_s` after its scheduled time."""
    result = await session.execute(_ADD, {**_NEW.bind(events, period=periods), "deadline_s": deadline_s})
    return read_rows(AddedMessage, result)


async def fail(session: AsyncSession, failures: Mapping[int, FailureCategory]) -> list[OutcomeRow]:
    """Fail messages (id → reason). The caller must have inserted or locked them."""
    rows = [(message_id, category, ERRORS[category]) for message_id, category in failures.items()]
    return read_rows(OutcomeRow, await session.execute(_FAIL, _FAILURE.bind_tuples(rows)))


async def set_sending(session: AsyncSession, provider: str, messages: Sequence[InSubmission]) -> None:
    """Set claimed messages sending, each in its new submission to a provider."""
    await session.execute(_SET_SENDING, {**_SENDING.bind(messages), "provider": provider})


async def set_unknown(session: AsyncSession, messages: Sequence[InSubmission]) -> None:
    """Set messages unknown that are still sending in this submission."""
    await session.execute(_SET_UNKNOWN, _SENDING.bind(messages))


async def set_resending(session: AsyncSession, messages: Sequence[InSubmission]) -> None:
    """Set messages sending that are unknown in this submission."""
    await session.execute(_SET_RESENDING, _SENDING.bind(messages))


async def add_auto_replies(session: AsyncSession, replies: Sequence[AutoReply]) -> None:
    """Queue auto-replies, at most one for each inbound message."""
    values = {**_AUTO_REPLY.bind(replies), "deadline_s": _AUTO_REPLY_DEADLINE_S}
    await session.execute(_ADD_AUTO_REPLIES, values)


async def apply_results(session: AsyncSession, results: Sequence[Result]) -> list[OutcomeRow]:
    """Apply results to their messages and return those that changed.

    There must be at most one result for each message and submission.
    """
    return read_rows(OutcomeRow, await session.execute(_APPLY_RESULTS, _bind_results(_RESULT, results)))


async def complete(session: AsyncSession, acceptances: Sequence[Result]) -> None:
    """Add the provider's ids and parts to messages that have an outcome already."""
    await session.execute(_COMPLETE, _bind_results(_ACCEPTANCE, acceptances))


def _bind_results(wanted: Columns, results: Sequence[Result]) -> dict[str, list[Any]]:
    """Return the bind values of results."""
    return wanted.bind(
        results,
        failure_category=[result.failure and result.failure.category for result in results],
        error=[result.failure and result.failure.error for result in results],
        provider_message_id=[result.answer.provider_message_id for result in results],
        billed_parts=[result.answer.parts for result in results],
        provider_status=[result.answer.raw for result in results],
        delay_s=[result.retry.delay_s for result in results],
        returns_attempt=[result.retry.returns_attempt for result in results],
        is_separate=[result.retry.is_separate for result in results],
    )


async def apply_receipts(session: AsyncSession, updates: Sequence[MessageUpdate]) -> list[OutcomeRow]:
    """Apply the delivery receipts of messages that the caller locked. Return those with a new status."""
    rows = (await session.execute(_APPLY_RECEIPTS, _RECEIPT.bind(updates))).all()
    return read_rows(OutcomeRow, [row[1:] for row in rows if row.is_new_status])


async def queue_retries(session: AsyncSession, batch: int) -> int:
    """Queue messages whose back-off is over. Return how many."""
    return (await session.execute(_QUEUE_RETRIES, {"batch": batch})).rowcount  # type: ignore[attr-defined,no-any-return]


async def lock_expired(session: AsyncSession, batch: int) -> Sequence[int]:
    """Lock messages that wait past their deadline, and return their ids. Rows that are locked already are skipped."""
    return (await session.scalars(_LOCK_EXPIRED, {"batch": batch})).all()


async def states(session: AsyncSession, dispatches: Collection[DispatchId]) -> list[OutcomeRow]:
    """Return the messages of these dispatches, in any order."""
    return read_rows(OutcomeRow, await session.execute(_STATES, _DISPATCH.bind(dispatches)))


async def outcomes_since_all_tenants(
    session: AsyncSession, since: datetime, after: int, batch: int
) -> list[OutcomeRow]:
    """Return messages of schedules with an id above `after` that have had an outcome since then, by id."""
    result = await session.execute(_OUTCOMES_SINCE, {"since": since, "after": after, "batch": batch})
    return read_rows(OutcomeRow, result)
