"""Use cases of the sends. A send is a schedule that is due now."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from common import tracing
from common.context import request_id
from common.errors import Unavailable
from common.statements import Tenant
from scheduling.batches import service as batches
from scheduling.batches.rules import check_content
from scheduling.clients.contacts import Audience
from scheduling.clients.delivery import ReservationRequest
from scheduling.clients.services import WriteContext
from scheduling.dispatch.rules import DueSchedule, make_event
from scheduling.errors import LimitReached, RecipientOptedOut
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
    audience: Audience


@dataclass(frozen=True, slots=True)
class CheckedSend:
    """A send that was checked and can be accepted."""

    tenant: Tenant
    context: WriteContext
    draft: Draft
    address: Address
    parts: int
    outcome_awaited: bool
    request_id: str
    traceparent: str | None


async def send_now(
    tenant: Tenant, context: WriteContext, body: SendRequest | SendMmsRequest, *, outcome_awaited: bool
) -> int:
    """Accept a message: reserve its parts, then write the schedule and its ScheduleDue. Return the schedule's id.

    The other services are called first: contacts only when the body names a contact, because delivery knows who opted
    out. Raises NotFound, Invalid, RecipientOptedOut, LimitReached, and for a contact Unavailable without contacts.
    """
    draft = Draft(_content(body), datetime.now(UTC))
    check_media(draft.content.format, draft.content.media_url)
    address = await _read_address(context, body)
    parts = check_draft(draft, address, context.max_parts, "message")
    send = CheckedSend(
        tenant=tenant,
        context=context,
        draft=draft,
        address=address,
        parts=parts,
        outcome_awaited=outcome_awaited,
        request_id=request_id(),
        traceparent=tracing.current(),
    )
    try:
        return await context.new_sends.run(tenant.organisation_id, send, alone=tenant.is_keyed)
    except RecipientOptedOut as error:
        raise RecipientOptedOut.field("recipient", error.detail) from None


class Sends:
    """Accepts sends. A send needs its id before it is written, so ids of new schedules are drawn a block at a time."""

    _BLOCK = 50

    def __init__(self) -> None:
        self._free_ids: list[int] = []

    async def accept(self, sends: Sequence[CheckedSend]) -> list[int | Exception]:
        """Reserve the parts of an organisation's sends in one call, then write those that fit in one statement.

        Return for each the schedule's id, or LimitReached or RecipientOptedOut.
        """
        tenant = sends[0].tenant
        wanted = [_reservation(send.draft, send.parts, send.address) for send in sends]
        results: list[int | Exception] = []
        accepted = []
        for send, reservation in zip(sends, await _reserve(sends[0].context, wanted), strict=True):
            if isinstance(reservation, Exception):
                results.append(reservation)
                continue
            schedule_id = await self._draw_id(tenant)
            accepted.append(_make_send(send, schedule_id, reservation))
            results.append(schedule_id)
        if accepted:
            await schedules.add_dispatched(tenant, accepted)
        return results

    async def _draw_id(self, tenant: Tenant) -> int:
        """Return an id that no schedule has. The ids of a block are used in ascending order."""
        if not self._free_ids:
            self._free_ids += sorted(await schedules.draw_ids(tenant, self._BLOCK), reverse=True)
        return self._free_ids.pop()


def _make_send(send: CheckedSend, schedule_id: int, reservation: UUID | None) -> SendNow:
    """Return the schedule of a send with the event of its dispatch."""
    due = DueSchedule(
        id=schedule_id,
        organisation_id=send.context.caller.organisation_id,
        batch_id=None,
        address=send.address,
        content=send.draft.content,
        scheduled_time=send.draft.scheduled_time,
        dispatch_number=0,
        reservation=reservation,
        request_id=send.request_id,
        traceparent=send.traceparent,
    )
    return SendNow(
        caller=send.context.caller,
        draft=send.draft,
        address=send.address,
        event=make_event(due, 1, due.filled_text, send.parts),
        sweep_after_s=send.context.sweep_after_s,
        outcome_awaited=send.outcome_awaited,
    )


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
    content = Content(text=body.message, format="sms")
    parts = check_content(content, context.max_parts, "message")
    (reservation,) = await _reserve(context, [_reservation(Draft(content, now), audience.eligible_count * parts)])
    if isinstance(reservation, Exception):
        raise reservation
    local = now.astimezone(await get_zone(session))
    time = f" {local:%Y-%m-%d %H:%M}"
    draft = Draft(content, now, name=audience.group.name[: _NAME_LENGTH - len(time)] + time)
    batch_id = await batches.add_batch(
        session,
        context.caller,
        audience,
        draft,
        reservation=reservation,
        outcome_awaited=outcome_awaited,
    )
    return AcceptedBatch(batch_id, audience)


def _reservation(draft: Draft, parts: int, recipient: Address | None = None) -> ReservationRequest:
    return ReservationRequest(
        reference=uuid4(),
        format=draft.content.format,
        parts=parts,
        scheduled_time=draft.scheduled_time,
        recipient=recipient,
    )


async def _reserve(
    context: WriteContext, wanted: Sequence[ReservationRequest]
) -> Sequence[UUID | LimitReached | RecipientOptedOut | None]:
    """Reserve parts. Return the reference of each, or why it is refused.

    Without delivery return None for each: delivery then checks the messages on arrival.
    """
    try:
        refusals = await context.services.delivery.reserve(context.caller, wanted)
    except Unavailable:
        return [None] * len(wanted)
    return [refusal or one.reference for one, refusal in zip(wanted, refusals, strict=True)]
