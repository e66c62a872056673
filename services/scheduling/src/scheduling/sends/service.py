"""Sends: schedules that are due now."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from common.context import request_id
from common.errors import Unavailable
from common.events import Format
from scheduling.clients import Writer
from scheduling.dispatch.service import Due, publish_first
from scheduling.group_schedules.service import add_batch, check_batch, find_batch, read_group
from scheduling.models import Schedule
from scheduling.organisations.service import get_zone
from scheduling.recipients.service import get_recipient
from scheduling.schedules.service import Address, Draft, SendNow, add_schedule, check_media, find_outcome
from scheduling.sends.schemas import (
    GroupNotSent,
    MessageNotSent,
    NotSent,
    Results,
    SendMmsRequest,
    SendRequest,
    SendToGroupRequest,
    Sent,
    SentToGroup,
)
from scheduling.texts.service import check_message

_NAME_LENGTH = 200


async def send_now(session: AsyncSession, writer: Writer, body: SendRequest | SendMmsRequest, *, waits: bool) -> Sent:
    """One message: its units are held, then the schedule and its ScheduleDue are written together. `waits`: whoever
    sends waits for the outcome.

    Neighbours are asked before the session's first statement. Raises NotFound, Invalid, RecipientOptedOut,
    LimitReached, Unavailable (without contacts nothing can be sent).
    """
    caller, now = writer.caller, datetime.now(UTC)
    draft = _draft(body, now)
    check_media(draft.format, draft.media_url)
    recipient = await get_recipient(writer.neighbours.contacts, caller, body.contact_id, body.recipient, "recipient")
    contact = recipient.contact if body.contact_id is not None else None
    address = Address.of(contact, recipient.phone, own_phone=contact is not None and contact.phone != recipient.phone)
    parts = check_message(draft.format, draft.text, address.names, writer.max_parts, "message")
    hold = await _hold(writer, draft.format, parts, now)
    send = SendNow(parts, hold, writer.sweep_after_s, waits)
    schedule_id = await add_schedule(session, caller, address, draft, send)
    due = Due(
        schedule_id,
        caller.organisation_id,
        None,
        address.contact_id,
        address.phone,
        address.first_name,
        address.last_name,
        address.company,
        draft.text,
        draft.format,
        draft.subject,
        draft.media_url,
        now,
        0,
        hold,
        request_id(),
    )
    await publish_first(session, due, parts)
    return Sent(message="Message accepted.", schedule_id=schedule_id, status="processing")


def _draft(body: SendRequest | SendMmsRequest, now: datetime) -> Draft:
    if isinstance(body, SendMmsRequest):
        return Draft(body.message, "mms", now, media_url=body.media_url, subject=body.subject)
    return Draft(body.message, "sms", now)


async def send_to_group(session: AsyncSession, writer: Writer, body: SendToGroupRequest, *, waits: bool) -> SentToGroup:
    """A batch that is due now, named after group and time. Raises NotFound, Invalid, NoRecipients, LimitReached."""
    now = datetime.now(UTC)
    recipients = await read_group(writer, body.group_id)
    group = recipients[0]
    draft = Draft(body.message, "sms", now)
    parts = check_batch(draft, writer.max_parts, "message")
    hold = await _hold(writer, "sms", group.eligible_count * parts, now)
    local = now.astimezone(await get_zone(session, writer.caller.organisation_id))
    when = f" {local:%Y-%m-%d %H:%M}"
    named = Draft(body.message, "sms", now, name=group.name[: _NAME_LENGTH - len(when)] + when)
    parent_id = await add_batch(session, writer.caller, recipients, named, hold, waited=waits)
    return SentToGroup(
        message=f"{group.eligible_count} messages accepted.",
        results=Results(successful=group.eligible_count, failed=0, total=group.eligible_count),
        group_name=group.name,
        group_schedule_id=parent_id,
    )


async def _hold(writer: Writer, message_format: Format, units: int, now: datetime) -> UUID | None:
    """The reference of a hold; None while delivery is away: then the limit is checked on arrival."""
    reference = uuid4()
    try:
        await writer.neighbours.delivery.put_hold(writer.caller, reference, message_format, units, now)
    except Unavailable:
        return None
    return reference


@dataclass(frozen=True, slots=True)
class Answer:
    """The HTTP status and body of a send whose outcome is known; `waited`: it was sent to wait for that."""

    status: int
    body: Sent | SentToGroup | NotSent
    waited: bool


async def find_answer(session: AsyncSession, schedule_id: int) -> Answer | None:
    """The final answer of a send, None while it is open."""
    row = await find_outcome(session, schedule_id)
    if row.status in ("pending", "processing"):
        return None
    if row.status in ("sent", "delivered"):
        sent = Sent(message="Message sent.", schedule_id=row.id, status=row.status)
        return Answer(200, sent, row.waited)
    not_sent = MessageNotSent(
        message="The message was not sent.",
        error=row.error or "The message was cancelled.",
        failure_category=row.failure_category or "unknown",
        request_id=request_id(),
        schedule_id=row.id,
        status=row.status,
    )
    return Answer(502, not_sent, row.waited)


async def find_group_answer(session: AsyncSession, parent_id: int) -> Answer | None:
    """The final answer of a send to a group, None while any of its messages is open."""
    row, counts = await find_batch(session, parent_id)
    if row.status in ("pending", "processing"):
        return None
    sent, total = counts.get("sent", 0) + counts.get("delivered", 0), sum(counts.values())
    results = Results(successful=sent, failed=total - sent, total=total)
    if sent == 0:
        return Answer(502, _group_not_sent(row, results), row.waited)
    some_sent = SentToGroup(
        message=f"{sent} of {total} messages sent.",
        results=results,
        group_name=row.group_name or "",
        group_schedule_id=row.id,
    )
    return Answer(200 if sent == total else 207, some_sent, row.waited)


def _group_not_sent(row: Schedule, results: Results) -> GroupNotSent:
    return GroupNotSent(
        message="No message was sent.",
        error=row.error or "The batch was cancelled.",
        failure_category=row.failure_category or "unknown",
        request_id=request_id(),
        results=results,
        group_name=row.group_name or "",
        group_schedule_id=row.id,
    )
