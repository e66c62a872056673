"""Use cases of single schedules and of messages of batches: create, read, change, cancel."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.context import request_id
from common.database import tenant_of, wake_after_commit
from common.errors import Invalid
from common.events import OrganisationChanged
from common.paging import Page
from common.statements import Tenant
from scheduling.clients.contacts import Group, Recipient
from scheduling.clients.services import OtherServices, WriteContext
from scheduling.errors import OrganisationClosed, ScheduleNotPending
from scheduling.models import DISPATCH, Address, Content, Schedule, ScheduleKind, ScheduleStatus
from scheduling.organisations import service as organisations
from scheduling.organisations.rules import day_bounds, today
from scheduling.recipients import service as recipients
from scheduling.schedules import repository, rules, schemas
from scheduling.templates.service import get_usable_template


def find_bounds(zone: ZoneInfo, days: schemas.Days, *, default_today: bool) -> tuple[datetime | None, datetime | None]:
    """Return the start and the exclusive end of a list's days. Raises Invalid under the name of an invalid filter."""
    day = schemas.read_date("date", days.date)
    first, last = schemas.read_date("date_from", days.date_from), schemas.read_date("date_to", days.date_to)
    if day and (first or last):
        raise Invalid.field("date", "Give either date, or date_from and date_to.")
    if day is None and first is None and last is None and default_today:
        day = today(zone, datetime.now(UTC))
    try:
        return day_bounds(day or first, day or last, zone)
    except OverflowError:
        raise Invalid.field("date" if day else "date_from", "Enter a date that a calendar has.") from None


async def list_schedules(
    tenant: Tenant, days: schemas.Days, statuses: Sequence[ScheduleStatus], page: Page
) -> tuple[Sequence[Mapping[str, Any]], int]:
    """Return a page of single schedules, the latest first, and how many there are. Without a day: today's."""
    start, end = find_bounds(await organisations.read_zone(tenant, days.tz), days, default_today=True)
    if set(statuses) == set(ScheduleStatus) - {ScheduleStatus.CANCELLED}:
        return await repository.page_of_days(tenant, start, end, page)
    return await repository.page_with_statuses(tenant, start=start, end=end, statuses=statuses, page=page)


async def read_schedule(tenant: Tenant, schedule_id: int) -> Mapping[str, Any]:
    """Return a single schedule or a message of a batch as it is shown. Raises NotFound."""
    return await repository.read(tenant, schedule_id)


async def list_of_contact(
    session: AsyncSession, services: OtherServices, caller: Caller, contact_id: int, page: Page
) -> tuple[list[Schedule], int]:
    """Return a page of a contact's schedules without cancelled ones, and how many there are. Raises NotFound."""
    await services.contacts.get_contact(caller, contact_id)
    return await repository.page_of_contact(session, contact_id, page)


async def get_schedule(session: AsyncSession, schedule_id: int) -> Schedule:
    """Return a single schedule or a message of a batch. Raises NotFound."""
    return await repository.get(session, schedule_id)


async def lock_schedule(session: AsyncSession, schedule_id: int) -> Schedule:
    """Lock a schedule and return it. Lock the batch first, then its message. Raises NotFound."""
    await repository.lock(session, schedule_id)
    return await repository.get(session, schedule_id)


async def create_schedule(tenant: Tenant, context: WriteContext, body: schemas.ScheduleCreate) -> Mapping[str, Any]:
    """Create a schedule for later and return it as it is shown. Raises NotFound, Invalid, RecipientOptedOut."""
    schemas.check_required(body)
    contacts, caller = context.services.contacts, context.caller
    contact_id = schemas.one_of(body, "contact")
    recipients.check_group(await recipients.find_group(contacts, caller, schemas.one_of(body, "group")))
    field = "contact" if contact_id is not None else "phone"
    phone = body.phone if contact_id is None else None
    recipient = await recipients.get_recipient(contacts, caller, contact_id=contact_id, phone=phone, field=field)
    address = rules.contact_address(recipient.contact if contact_id is not None else None, recipient.phone)
    has_offset = body.scheduled_time.tzinfo is not None
    zone = organisations.DEFAULT_ZONE if has_offset else await organisations.read_zone(tenant)
    moment = rules.check_time(organisations.read_time(body.scheduled_time, zone, "scheduled_time"), datetime.now(UTC))
    content = await apply_content(tenant, body, new_content(body))
    draft = rules.Draft(content, moment, name=body.name or None, group_id=schemas.one_of(body, "group"))
    rules.check_draft(draft, address, context.max_parts)
    values = rules.new_columns(draft, address, caller, request_id())
    values |= {"status": ScheduleStatus.PENDING.value, "dispatch_number": 0}
    row = await context.new_schedules.run(tenant.organisation_id, (tenant, values), alone=tenant.is_keyed)
    if rules.is_soon(moment, datetime.now(UTC)):
        tenant.wake(DISPATCH)
    return row


async def add_schedules(new: Sequence[tuple[Tenant, Mapping[str, Any]]]) -> Sequence[Mapping[str, Any]]:
    """Insert schedules of one organisation in one statement and return them as they are shown.

    Raises OrganisationClosed.
    """
    added = await repository.add(new[0][0], [values for _, values in new])
    if not added:
        raise OrganisationClosed
    return added


async def add_dispatched(tenant: Tenant, sends: Sequence[rules.SendNow]) -> None:
    """Insert schedules and the events of their first dispatches in one statement. Raises OrganisationClosed."""
    rows = []
    for send in sends:
        values = rules.new_columns(send.draft, send.address, send.caller, send.event.request_id)
        values |= {"id": send.event.schedule_id, "status": ScheduleStatus.PROCESSING.value, "dispatch_number": 1}
        values |= {"message_parts": send.event.parts, "reservation": send.event.reservation}
        values |= {"sweep_at": send.sweep_after_s, "outcome_awaited": send.outcome_awaited}
        rows.append((values, send.event))
    if not await repository.add_dispatched(tenant, rows):
        raise OrganisationClosed


async def draw_ids(tenant: Tenant, count: int) -> list[int]:
    """Draw ids of new schedules. An id that is not used leaves a gap."""
    return await repository.draw_ids(tenant, count)


def new_content(body: schemas.ContentFields) -> Content:
    """Return the content of a new message without its template. Raises Invalid for an unknown placeholder."""
    return rules.with_text(Content(text="", format=body.format), body.text, shown="")


async def apply_content(tenant: Tenant, body: schemas.ContentFields, content: Content) -> Content:
    """Return the content with the body's format and media, and with its template if the body names a new template.

    Raises NotFound, Invalid.
    """
    given = {name: getattr(body, name) for name in ("format", "media_url", "subject") if name in body.model_fields_set}
    content = replace(content, **given)
    template_id = schemas.one_of(body, "template")
    if template_id is None or template_id == content.template_id:
        return content
    template = await get_usable_template(tenant, template_id)
    return replace(content, text=template.text, template_id=template.id, template_version=template.version)


async def update_schedule(
    session: AsyncSession, context: WriteContext, schedule_id: int, body: schemas.ScheduleUpdate
) -> Schedule:
    """Change a pending schedule; fields that the body omits stay. Raises NotFound, ScheduleNotPending, Invalid."""
    if isinstance(body, schemas.ScheduleCreate):
        schemas.check_required(body)
    contacts, caller = context.services.contacts, context.caller
    contact_id = schemas.one_of(body, "contact")
    group = await recipients.find_group(contacts, caller, schemas.one_of(body, "group"))
    recipient = None
    if contact_id is not None or body.phone is not None:
        phone = body.phone if contact_id is None else None
        recipient = await contacts.find_recipient(caller, contact_id, phone)
    row = await _lock_pending(session, schedule_id)
    if body.changes_nothing():
        return row
    zone = await organisations.get_zone(session)
    address = _new_address(row, body, contact_id, recipient)
    draft = await apply_update(session, row, body, zone)
    if "name" in body.model_fields_set:
        draft = replace(draft, name=body.name or None)
    if schemas.names_either(body, "group"):
        draft = replace(draft, group_id=_new_group(row, group))
    rules.check_draft(draft, address, context.max_parts)
    await _write(session, caller, row, address=address, draft=draft)
    return await repository.get(session, schedule_id)


def _new_group(row: Schedule, group: Group | None) -> int | None:
    """Return the group's id. A new group must not be deleted, and a message of a batch keeps the batch's group."""
    group_id = group.id if group is not None else None
    if group_id != row.group_id:
        if row.kind == ScheduleKind.BATCH_MESSAGE:
            raise Invalid.field("group_id", "The group of a batch cannot change.")
        recipients.check_group(group)
    return group_id


async def _lock_pending(session: AsyncSession, schedule_id: int) -> Schedule:
    row = await lock_schedule(session, schedule_id)
    if row.status != ScheduleStatus.PENDING:
        raise ScheduleNotPending
    return row


def _new_address(
    row: Schedule, body: schemas.ScheduleUpdate, contact_id: int | None, recipient: Recipient | None
) -> Address:
    """Return the address after an update. A phone without a contact, or a null contact, removes the contact."""
    if recipient is not None:
        recipients.check_recipient(recipient, "contact" if contact_id is not None else "phone")
        return rules.contact_address(recipient.contact if contact_id is not None else None, recipient.phone)
    return Address(row.address.phone) if schemas.names_either(body, "contact") else row.address


async def apply_update(
    session: AsyncSession, row: Schedule, body: schemas.ContentUpdate, zone: ZoneInfo
) -> rules.Draft:
    """Return the draft after the update. Raises NotFound, Invalid."""
    content = row.content
    if schemas.one_of(body, "template") is None:
        if "text" in body.model_fields_set:
            content = rules.with_text(content, body.text, shown=rules.shown_text(row))
        elif schemas.names_either(body, "template"):
            content = replace(content, template_id=None, template_version=None)
    draft = replace(rules.draft_of(row), content=await apply_content(tenant_of(session), body, content))
    if body.scheduled_time is None:
        if "scheduled_time" in body.model_fields_set:
            raise Invalid.field("scheduled_time", "This field may not be null.")
        return draft
    moment = organisations.read_time(body.scheduled_time, zone, "scheduled_time")
    if rules.is_same_time(moment, row.scheduled_time):
        return draft
    return replace(draft, scheduled_time=rules.check_time(moment, datetime.now(UTC)))


async def _write(session: AsyncSession, caller: Caller, row: Schedule, address: Address, draft: rules.Draft) -> None:
    """Write a changed schedule. A message of a batch gets a text and a time of its own only when they were changed."""
    values: dict[str, Any] = {**rules.draft_columns(draft), **rules.address_columns(address)}
    values |= {"id": row.id, "user_id": caller.user_id}
    has_new_time = draft.scheduled_time != row.scheduled_time
    if row.kind == ScheduleKind.BATCH_MESSAGE:
        if not row.has_own_text and not has_new_time and draft.content == row.content:
            values |= dict.fromkeys(("text", "template_id", "template_version", "format", "media_url", "subject"))
        if not row.has_own_time and not has_new_time:
            values["scheduled_time"] = None
        await _check_new_contact(session, row, address.contact_id)
    await repository.update(session, values)
    if has_new_time and rules.is_soon(draft.scheduled_time, datetime.now(UTC)):
        wake_after_commit(session, DISPATCH)
    if row.batch_id is not None and has_new_time:
        await repository.advance_next_due(session, row.batch_id, draft.scheduled_time)


async def _check_new_contact(session: AsyncSession, row: Schedule, contact_id: int | None) -> None:
    """Raise Invalid when the message of a batch is given to a contact that has, or may get, one of the same batch."""
    if contact_id is None or contact_id == row.contact_id or row.batch_id is None:
        return
    if await repository.has_message(session, row.batch_id, contact_id):
        raise Invalid.field("contact", "This contact has a message of this batch already.")
    if not await repository.is_fanned_out(session, row.batch_id):
        sentence = "The messages of this batch are still being created. Try again when `expanding` is false."
        raise Invalid.field("contact", sentence)


async def cancel_schedule(session: AsyncSession, caller: Caller, schedule_id: int) -> None:
    """Cancel a pending schedule, so that it will not be sent. Raises NotFound, ScheduleNotPending."""
    row = await _lock_pending(session, schedule_id)
    await repository.cancel(session, row.id, caller.user_id)


async def apply_organisation_changed(session: AsyncSession, events: Sequence[OrganisationChanged]) -> None:
    """Store which organisations are closed, and cancel what is pending in those that were closed."""
    closed = await organisations.store_closed(session, events)
    if closed:
        await repository.cancel_of_closed_all_tenants(session, closed)


async def find_used_media(session: AsyncSession, names: Sequence[str], since: datetime) -> list[str]:
    """Return those of the files that may still be sent: by an open schedule, or by a retry of one that ended since."""
    return await repository.find_used_media_all_tenants(session, names, since)
