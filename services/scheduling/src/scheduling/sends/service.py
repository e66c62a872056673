"""Use cases of the sends. A send is a schedule that is due now."""

from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from common.context import request_id
from common.errors import Unavailable
from common.events import Format
from scheduling.batches import service as batches
from scheduling.batches.rules import check_content
from scheduling.clients.contacts import Group
from scheduling.clients.services import WriteContext
from scheduling.dispatch.rules import DueSchedule
from scheduling.dispatch.service import publish_first
from scheduling.models import Content
from scheduling.organisations.service import get_zone
from scheduling.recipients.service import get_recipient
from scheduling.schedules.rules import Draft, SendNow, check_draft, check_media, contact_address
from scheduling.schedules.service import add_schedule
from scheduling.sends.schemas import SendMmsRequest, SendRequest, SendToGroupRequest

_NAME_LENGTH = 200


class AcceptedBatch(NamedTuple):
    """A send to a group that was accepted."""

    batch_id: int
    group: Group


async def send_now(
    session: AsyncSession, context: WriteContext, body: SendRequest | SendMmsRequest, *, outcome_awaited: bool
) -> int:
    """Reserve the parts of a message, then write the schedule and its ScheduleDue together. Return the schedule's id.

    The other services are called before the session's first statement. Raises NotFound, Invalid, RecipientOptedOut,
    LimitReached, and Unavailable without contacts.
    """
    caller, now = context.caller, datetime.now(UTC)
    draft = Draft(_content(body), now)
    content = draft.content
    check_media(content.format, content.media_url)
    recipient = await get_recipient(context.services.contacts, caller, body.contact_id, body.recipient, "recipient")
    contact = recipient.contact if body.contact_id is not None else None
    has_own_phone = contact is not None and contact.phone != recipient.phone
    address = contact_address(contact, recipient.phone, has_own_phone=has_own_phone)
    parts = check_draft(draft, address, context.max_parts, "message")
    reservation = await _reserve(context, content.format, parts, now)
    send = SendNow(parts, reservation, context.sweep_after_s, outcome_awaited)
    schedule_id = await add_schedule(session, caller, address, draft, send)
    due = DueSchedule(
        id=schedule_id,
        organisation_id=caller.organisation_id,
        batch_id=None,
        address=address,
        content=content,
        scheduled_time=now,
        dispatch_number=0,
        reservation=reservation,
        request_id=request_id(),
    )
    await publish_first(session, due, parts)
    return schedule_id


def _content(body: SendRequest | SendMmsRequest) -> Content:
    if isinstance(body, SendMmsRequest):
        return Content(text=body.message, format="mms", media_url=body.media_url, subject=body.subject)
    return Content(text=body.message, format="sms")


async def send_to_group(
    session: AsyncSession, context: WriteContext, body: SendToGroupRequest, *, outcome_awaited: bool
) -> AcceptedBatch:
    """Create a batch that is due now, named after its group and time.

    Raises NotFound, Invalid, NoRecipients, LimitReached, and Unavailable without contacts.
    """
    now = datetime.now(UTC)
    audience = await batches.read_audience(context, body.group_id)
    group = audience.group
    content = Content(text=body.message, format="sms")
    parts = check_content(content, context.max_parts, "message")
    reservation = await _reserve(context, "sms", group.eligible_count * parts, now)
    local = now.astimezone(await get_zone(session, context.caller.organisation_id))
    time = f" {local:%Y-%m-%d %H:%M}"
    draft = Draft(content, now, name=group.name[: _NAME_LENGTH - len(time)] + time)
    batch_id = await batches.add_batch(
        session, context.caller, audience, draft, reservation, outcome_awaited=outcome_awaited
    )
    return AcceptedBatch(batch_id, group)


async def _reserve(context: WriteContext, message_format: Format, parts: int, now: datetime) -> UUID | None:
    """Reserve parts and return the reference. Without delivery return None: it then checks the limit on arrival."""
    reference = uuid4()
    try:
        await context.services.delivery.reserve(context.caller, reference, message_format, parts, now)
    except Unavailable:
        return None
    return reference
