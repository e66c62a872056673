"""Use cases of the sends. A send is a schedule that is due now."""

from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from common.context import request_id
from common.errors import Unavailable
from common.events import Format
from common.statements import Tenant
from scheduling.batches import service as batches
from scheduling.batches.rules import check_content
from scheduling.clients.contacts import Group
from scheduling.clients.services import WriteContext
from scheduling.dispatch.rules import DueSchedule, make_event
from scheduling.errors import RecipientOptedOut
from scheduling.models import Address, Content
from scheduling.organisations.service import get_zone
from scheduling.recipients.service import get_recipient
from scheduling.schedules import service as schedules
from scheduling.schedules.rules import Draft, SendNow, check_draft, check_media, contact_address
from scheduling.sends.schemas import SendMmsRequest, SendRequest, SendToGroupRequest

_NAME_LENGTH = 200


class AcceptedBatch(NamedTuple):
    """A send to a group that was accepted."""

    batch_id: int
    group: Group


class ScheduleIds:
    """Ids of new schedules, drawn a block at a time. A send needs its id before its one statement runs."""

    _BLOCK = 50

    def __init__(self) -> None:
        self._free: list[int] = []

    async def draw(self, tenant: Tenant) -> int:
        """Return an id that no schedule has. The ids of a block are used in ascending order."""
        if not self._free:
            self._free += sorted(await schedules.draw_ids(tenant, self._BLOCK), reverse=True)
        return self._free.pop()


async def send_now(
    tenant: Tenant,
    ids: ScheduleIds,
    context: WriteContext,
    body: SendRequest | SendMmsRequest,
    *,
    outcome_awaited: bool,
) -> int:
    """Reserve the parts of a message, then write the schedule and its ScheduleDue together. Return the schedule's id.

    The other services are called first: contacts only when the body names a contact, because delivery knows who opted
    out. Raises NotFound, Invalid, RecipientOptedOut, LimitReached, and for a contact Unavailable without contacts.
    """
    caller, now = context.caller, datetime.now(UTC)
    draft = Draft(_content(body), now)
    content = draft.content
    check_media(content.format, content.media_url)
    address = await _read_address(context, body)
    parts = check_draft(draft, address, context.max_parts, "message")
    try:
        reservation = await _reserve(context, content.format, parts, now=now, recipient=address)
    except RecipientOptedOut as error:
        raise RecipientOptedOut.field("recipient", error.detail) from None
    due = DueSchedule(
        id=await ids.draw(tenant),
        organisation_id=caller.organisation_id,
        batch_id=None,
        address=address,
        content=content,
        scheduled_time=now,
        dispatch_number=0,
        reservation=reservation,
        request_id=request_id(),
    )
    event = make_event(due, 1, due.filled_text, parts)
    await schedules.add_dispatched(
        tenant, caller, address=address, draft=draft, send=SendNow(event, context.sweep_after_s, outcome_awaited)
    )
    return due.id


async def _read_address(context: WriteContext, body: SendRequest | SendMmsRequest) -> Address:
    """Return the address of a send: a phone, or a contact that may be messaged at its own or another phone."""
    if body.contact_id is None:
        return Address(body.recipient)
    recipient = await get_recipient(
        context.services.contacts, context.caller, contact_id=body.contact_id, phone=body.recipient, field="recipient"
    )
    has_own_phone = recipient.contact is not None and recipient.contact.phone != recipient.phone
    return contact_address(recipient.contact, recipient.phone, has_own_phone=has_own_phone)


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
    reservation = await _reserve(context, "sms", group.eligible_count * parts, now=now)
    local = now.astimezone(await get_zone(session))
    time = f" {local:%Y-%m-%d %H:%M}"
    draft = Draft(content, now, name=group.name[: _NAME_LENGTH - len(time)] + time)
    batch_id = await batches.add_batch(
        session, context.caller, audience, draft, reservation=reservation, outcome_awaited=outcome_awaited
    )
    return AcceptedBatch(batch_id, group)


async def _reserve(
    context: WriteContext, message_format: Format, parts: int, *, now: datetime, recipient: Address | None = None
) -> UUID | None:
    """Reserve parts and return the reference. Without delivery return None: it then checks the message on arrival."""
    reference = uuid4()
    try:
        await context.services.delivery.reserve(
            context.caller,
            reference,
            message_format=message_format,
            parts=parts,
            scheduled_time=now,
            recipient=recipient,
        )
    except Unavailable:
        return None
    return reference
