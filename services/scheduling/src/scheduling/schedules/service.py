"""Single schedules and the children of batches: written, read, changed, cancelled, sent again."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.context import request_id
from common.errors import Invalid
from common.events import OrganisationChanged
from common.paging import Page, Paginated, Pagination
from scheduling.clients import Neighbours, Writer
from scheduling.clients.contacts import Group, Recipient
from scheduling.errors import NothingToRetry, OrganisationClosed, OutcomeUnknown, ScheduleNotPending
from scheduling.models import Schedule
from scheduling.organisations.service import day_bounds, follow_closing, get_zone, get_zone_of_request, read_time, today
from scheduling.recipients.service import check_group, check_recipient, find_group, get_recipient
from scheduling.schedules import repository, rules
from scheduling.schedules.rules import Address, Draft, SendNow, check_media, check_time
from scheduling.schedules.schemas import (
    Content,
    ContentUpdate,
    Days,
    Phone,
    ScheduleCreate,
    ScheduleFields,
    ScheduleOut,
    ScheduleUpdate,
    Subject,
    Url,
    WallTime,
    check_required,
    count_by_word,
    is_cancelling,
    names_either,
    one_of,
    read_date,
    read_flag,
    read_format,
    read_statuses,
    show,
)
from scheduling.templates.service import get_usable_template

__all__ = [
    "Address",
    "ContentUpdate",
    "Days",
    "Draft",
    "Phone",
    "ScheduleFields",
    "ScheduleOut",
    "SendNow",
    "Subject",
    "Url",
    "WallTime",
    "check_media",
    "check_time",
    "count_by_word",
    "is_cancelling",
    "one_of",
    "read_flag",
    "read_format",
    "show",
]


RETRY_BATCH = 5000


async def find_bounds(
    session: AsyncSession, organisation_id: str, days: Days, default_today: bool
) -> tuple[datetime | None, datetime | None]:
    """From when and until before when a list reaches. Raises Invalid under the name of what cannot be read."""
    zone = await get_zone_of_request(session, organisation_id, days.tz)
    day = read_date("date", days.date)
    first, last = read_date("date_from", days.date_from), read_date("date_to", days.date_to)
    if day and (first or last):
        raise Invalid.field("date", "Give either date, or date_from and date_to.")
    if day is None and first is None and last is None and default_today:
        day = today(zone, datetime.now(UTC))
    try:
        return day_bounds(day or first, day or last, zone)
    except OverflowError:
        raise Invalid.field("date" if day else "date_from", "Enter a date that a calendar has.") from None


async def list_schedules(
    session: AsyncSession, caller: Caller, days: Days, status: str | None, v1: bool, page: Page
) -> Paginated[ScheduleOut]:
    """Individual schedules, the latest first; today's when no day is given."""
    statuses = read_statuses(status, v1)
    start, end = await find_bounds(session, caller.organisation_id, days, default_today=True)
    rows, total = await repository.page(session, start, end, statuses, page)
    return _paginated(rows, total, page, v1)


async def list_of_contact(
    session: AsyncSession, neighbours: Neighbours, caller: Caller, contact_id: int, page: Page, v1: bool
) -> Paginated[ScheduleOut]:
    """All of a contact's schedules but cancelled ones. Raises NotFound."""
    await neighbours.contacts.get_contact(caller, contact_id)
    rows, total = await repository.page_of_contact(session, contact_id, page)
    return _paginated(rows, total, page, v1)


async def page_children(session: AsyncSession, parent_id: int, page: Page, v1: bool) -> tuple[list[ScheduleOut], int]:
    """A batch's children, and how many of them are there by now."""
    rows, total = await repository.page_children(session, parent_id, page)
    return [show_schedule(row, v1) for row in rows], total


async def get_schedule(session: AsyncSession, schedule_id: int, v1: bool) -> ScheduleOut:
    """A single schedule or a child. Raises NotFound."""
    return show_schedule(await repository.get(session, schedule_id), v1)


async def find_outcome(session: AsyncSession, schedule_id: int) -> Schedule:
    """A schedule's row, for who waits for its outcome. Raises NotFound."""
    return await repository.get(session, schedule_id)


async def create_schedule(session: AsyncSession, writer: Writer, body: ScheduleCreate) -> Schedule:
    """A schedule for later. Raises NotFound, Invalid, RecipientOptedOut."""
    check_required(body)
    contact_id = one_of(body, "contact")
    group = await find_group(writer.neighbours.contacts, writer.caller, one_of(body, "group"))
    check_group(group)
    field = "contact" if contact_id is not None else "phone"
    recipient = await get_recipient(
        writer.neighbours.contacts, writer.caller, contact_id, body.phone if contact_id is None else None, field
    )
    address = Address.of(recipient.contact if contact_id is not None else None, recipient.phone)
    zone = await get_zone(session, writer.caller.organisation_id)
    moment = check_time(read_time(body.scheduled_time, zone, "scheduled_time"), datetime.now(UTC))
    draft = Draft(body.text, body.format, moment, name=body.name or None, group_id=one_of(body, "group"))
    draft = await write_content(session, body, draft)
    rules.check_draft(draft, address, writer.max_parts)
    schedule_id = await add_schedule(session, writer.caller, address, draft)
    return await repository.get(session, schedule_id)


async def add_schedule(
    session: AsyncSession, caller: Caller, address: Address, draft: Draft, send: SendNow | None = None
) -> int:
    """Writes a schedule: pending, or with `send` one whose first run begins now. Returns its id.

    Raises OrganisationClosed.
    """
    values: dict[str, Any] = {**asdict(draft), **asdict(address), "request_id": request_id()}
    values |= {"organisation_id": caller.organisation_id, "user_id": caller.user_id}
    if send is None:
        later = dict.fromkeys(("message_parts", "hold", "sweep_after_s"))
        values |= {"status": "pending", "run": 0, "waited": False, **later}
    else:
        values |= {"status": "processing", "run": 1, **asdict(send)}
    schedule_id = await repository.add(session, values)
    if schedule_id is None:
        raise OrganisationClosed
    return schedule_id


async def write_content(session: AsyncSession, body: Content, draft: Draft) -> Draft:
    """The draft with the body's template, when it names another one, and its media. Raises NotFound, Invalid."""
    given = {name: getattr(body, name) for name in ("format", "media_url", "subject") if name in body.model_fields_set}
    draft = replace(draft, **given)
    template_id = one_of(body, "template")
    if template_id is None or template_id == draft.template_id:
        return draft
    template = await get_usable_template(session, template_id)
    return replace(draft, text=template.text, template_id=template.id, template_version=template.version)


async def update_schedule(session: AsyncSession, writer: Writer, schedule_id: int, body: ScheduleUpdate) -> Schedule:
    """Changes a pending schedule; what the body leaves out stays. Raises NotFound, ScheduleNotPending, Invalid."""
    if isinstance(body, ScheduleCreate):
        check_required(body)
    contact_id = one_of(body, "contact")
    group = await find_group(writer.neighbours.contacts, writer.caller, one_of(body, "group"))
    recipient = None
    if contact_id is not None or body.phone is not None:
        phone = body.phone if contact_id is None else None
        recipient = await writer.neighbours.contacts.find_recipient(writer.caller, contact_id, phone)
    row = await _lock_pending(session, schedule_id)
    zone = await get_zone(session, writer.caller.organisation_id)
    address = _readdress(row, body, contact_id, recipient)
    draft = await redraft(session, row, body, zone)
    if "name" in body.model_fields_set:
        draft = replace(draft, name=body.name or None)
    if names_either(body, "group"):
        draft = replace(draft, group_id=_regroup(row, group))
    rules.check_draft(draft, address, writer.max_parts)
    await _write(session, writer.caller, row, address, draft)
    return await repository.get(session, schedule_id)


def _regroup(row: Schedule, group: Group | None) -> int | None:
    """What is named anew must be there still; a message of a batch stays with the batch's group."""
    group_id = group.id if group is not None else None
    if group_id != row.group_id:
        if row.kind == "child":
            raise Invalid.field("group_id", "The group of a batch cannot change.")
        check_group(group)
    return group_id


async def _lock_pending(session: AsyncSession, schedule_id: int) -> Schedule:
    await repository.lock(session, schedule_id)
    row = await repository.get(session, schedule_id)
    if row.status != "pending":
        raise ScheduleNotPending
    return row


def _readdress(row: Schedule, body: ScheduleUpdate, contact_id: int | None, recipient: Recipient | None) -> Address:
    """`contact` wins over `phone`; a phone without a contact, or a null contact, takes the contact off."""
    if recipient is not None:
        check_recipient(recipient, "contact" if contact_id is not None else "phone")
        return Address.of(recipient.contact if contact_id is not None else None, recipient.phone)
    address = rules.address_of(row)
    return Address(address.phone) if names_either(body, "contact") else address


async def redraft(session: AsyncSession, row: Schedule, body: ContentUpdate, zone: ZoneInfo) -> Draft:
    """What a schedule says once the body is applied to it. Raises NotFound, Invalid."""
    draft = rules.draft_of(row)
    if one_of(body, "template") is None:
        if "text" in body.model_fields_set:
            draft = rules.with_text(draft, body.text, shown=show(row, v1=False)["text"])
        elif names_either(body, "template"):
            draft = replace(draft, template_id=None, template_version=None)
    draft = await write_content(session, body, draft)
    if body.scheduled_time is None:
        if "scheduled_time" in body.model_fields_set:
            raise Invalid.field("scheduled_time", "This field may not be null.")
        return draft
    moment = read_time(body.scheduled_time, zone, "scheduled_time")
    if rules.is_same_time(moment, row.scheduled_time):
        return draft
    return replace(draft, scheduled_time=check_time(moment, datetime.now(UTC)))


async def _write(session: AsyncSession, caller: Caller, row: Schedule, address: Address, draft: Draft) -> None:
    """A child gets a text and a time of its own only when they were changed."""
    values: dict[str, Any] = {**asdict(draft), **asdict(address), "id": row.id, "user_id": caller.user_id}
    before = rules.draft_of(row)
    new_time = draft.scheduled_time != before.scheduled_time
    if row.kind == "child":
        if not row.own_text and replace(draft, name=before.name) == before:
            values |= dict.fromkeys(("text", "template_id", "template_version", "format", "media_url", "subject"))
        if not row.own_time and not new_time:
            values["scheduled_time"] = None
        if address.contact_id != row.contact_id and await repository.has_child(
            session, row.parent_id, address.contact_id
        ):
            raise Invalid.field("contact", "This contact has a message of this batch already.")
    await repository.update(session, values)
    if row.parent_id is not None and new_time:
        await repository.wake_parent(session, row.parent_id, draft.scheduled_time)


async def cancel_schedule(session: AsyncSession, caller: Caller, schedule_id: int) -> None:
    """Cancels a pending schedule: it will not be sent. Raises NotFound, ScheduleNotPending."""
    row = await _lock_pending(session, schedule_id)
    await repository.cancel(session, row.id, caller.user_id)


async def retry_schedule(
    session: AsyncSession, caller: Caller, schedule_id: int, include_unknown: bool, v1: bool
) -> ScheduleOut:
    """A failed schedule goes again, now. Raises NotFound, NothingToRetry, OutcomeUnknown."""
    await repository.lock(session, schedule_id)
    row = await repository.get(session, schedule_id)
    if row.status != "failed":
        raise NothingToRetry
    if row.failure_category == "outcome_unknown" and not include_unknown:
        raise OutcomeUnknown
    if row.parent_id is not None:
        await repository.settle_cancelled_children(session, row.parent_id)
    await repository.retry(session, schedule_id, caller.user_id)
    if row.parent_id is not None:
        await repository.reopen_parent(session, row.parent_id)
    return await get_schedule(session, schedule_id, v1)


async def retry_children(session: AsyncSession, caller: Caller, parent_id: int, include_unknown: bool) -> int:
    """Every failed child of a batch, whose lock the caller holds, goes again: some at once, the rest behind it.

    Returns how many.
    """
    retried = await repository.count_failed(session, parent_id, include_unknown)
    if retried:
        await repository.begin_retry(session, parent_id, caller.user_id, include_unknown)
        await go_on_retrying(session, parent_id)
    return retried


async def go_on_retrying(session: AsyncSession, parent_id: int) -> None:
    """The next children of a batch whose retry has begun, and whose lock the caller holds."""
    if await repository.settle_cancelled_children(session, parent_id, RETRY_BATCH) < RETRY_BATCH:
        await repository.retry_children(session, parent_id, RETRY_BATCH)
        await repository.reopen_parent(session, parent_id)


async def close_organisations(session: AsyncSession, events: list[OrganisationChanged]) -> None:
    """Cancels what is pending in organisations that were closed."""
    closed = await follow_closing(session, events)
    if closed:
        await repository.cancel_of_closed_all_tenants(session, closed)


async def find_used_media(session: AsyncSession, names: Sequence[str], since: datetime) -> list[str]:
    """Those of the files that a schedule may still send, or a retry of one that ended since."""
    return await repository.find_used_media_all_tenants(session, names, since)


def _paginated(rows: list[Schedule], total: int, page: Page, v1: bool) -> Paginated[ScheduleOut]:
    return Paginated(results=[show_schedule(row, v1) for row in rows], pagination=Pagination.of(page, total))


def show_schedule(row: Schedule, v1: bool) -> ScheduleOut:
    return ScheduleOut.model_validate(show(row, v1))
