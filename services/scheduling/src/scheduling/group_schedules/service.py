"""Batches to the members of a group: accepted at once, expanded behind it, ended when no message is open."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.context import request_id
from common.errors import Invalid
from common.paging import Page, Paginated, Pagination
from scheduling.clients import Neighbours, Writer
from scheduling.clients.contacts import Group, Members
from scheduling.errors import NoRecipients, ScheduleNotPending
from scheduling.group_schedules import repository
from scheduling.group_schedules.repository import Expansion
from scheduling.group_schedules.schemas import (
    GroupScheduleCreate,
    GroupScheduleCreated,
    GroupScheduleDetail,
    GroupScheduleOut,
    GroupScheduleUpdate,
    Retried,
)
from scheduling.models import Schedule, Status
from scheduling.organisations.service import get_zone, read_time
from scheduling.recipients.service import check_group
from scheduling.schedules.service import (
    Days,
    Draft,
    check_media,
    check_time,
    count_by_word,
    find_bounds,
    go_on_retrying,
    one_of,
    page_children,
    redraft,
    retry_children,
    show,
    write_content,
)
from scheduling.texts.service import Names, count_parts, fill

FIRST_CHILDREN = 50
EXPANSION_PAGE = 1000


async def read_group(writer: Writer, group_id: int) -> tuple[Group, Members]:
    """A group that can be written to, and its first members. Raises NotFound, Invalid, NoRecipients."""
    contacts = writer.neighbours.contacts
    group = await contacts.get_group(writer.caller, group_id)
    check_group(group)
    if group.eligible_count == 0:
        raise NoRecipients
    return group, await contacts.page_members(writer.caller, group_id, 0, FIRST_CHILDREN)


def check_batch(draft: Draft, max_parts: int, field: str) -> int:
    """The parts of a batch's text with empty values. Raises Invalid under `field` or `media_url`."""
    check_media(draft.format, draft.media_url)
    if draft.format == "sms" and not draft.text:
        raise Invalid.field(field, "Enter a text or choose a template.")
    parts = count_parts(draft.format, fill(draft.text, Names()))
    if parts > max_parts:
        raise Invalid.field(field, f"This message has {parts} parts; {max_parts} are the most.")
    return parts


async def create_group_schedule(
    session: AsyncSession, writer: Writer, body: GroupScheduleCreate, v1: bool
) -> GroupScheduleCreated:
    """A batch for later, with its first children. Raises NotFound, Invalid, NoRecipients."""
    recipients = await read_group(writer, _required_group(body))
    zone = await get_zone(session, writer.caller.organisation_id)
    moment = check_time(read_time(body.scheduled_time, zone, "scheduled_time"), datetime.now(UTC))
    draft = await write_content(session, body, Draft(body.text, body.format, moment, name=body.name))
    check_batch(draft, writer.max_parts, "text")
    parent_id = await add_batch(session, writer.caller, recipients, draft)
    row = await repository.get(session, parent_id)
    children, _ = await page_children(session, parent_id, Page(1, FIRST_CHILDREN), v1)
    return GroupScheduleCreated(**_show(row, v1), schedules=children)


def _required_group(body: GroupScheduleUpdate) -> int:
    group_id = one_of(body, "group")
    if group_id is None:
        raise Invalid.field("group_id", "This field is required.")
    return group_id


async def add_batch(
    session: AsyncSession,
    caller: Caller,
    recipients: tuple[Group, Members],
    draft: Draft,
    hold: UUID | None = None,
    *,
    waited: bool = False,
) -> int:
    """Writes a parent, in processing when its time has come, and the children of its first members. Returns its id."""
    group, members = recipients
    status: Status = "processing" if draft.scheduled_time <= datetime.now(UTC) else "pending"
    values: dict[str, Any] = {**asdict(draft), "organisation_id": caller.organisation_id, "user_id": caller.user_id}
    values |= {"status": status, "group_id": group.id, "group_name": group.name, "hold": hold, "waited": waited}
    values |= {"child_count": group.eligible_count, "request_id": request_id()}
    parent_id = await repository.add(session, values)
    await repository.add_children(session, parent_id, members.members)
    await repository.move_cursor(session, parent_id, members.next)
    return parent_id


async def list_group_schedules(
    session: AsyncSession, writer: Writer, days: Days, group_id: int | None, page: Page, v1: bool
) -> Paginated[GroupScheduleOut]:
    """Batches, the latest first, without cancelled ones. Raises NotFound for a group that is not there."""
    if group_id is not None:
        await writer.neighbours.contacts.get_group(writer.caller, group_id)
    start, end = await find_bounds(session, writer.caller.organisation_id, days, default_today=False)
    rows, total = await repository.page(session, start, end, group_id, page)
    results = [GroupScheduleOut(**_show(row, v1)) for row in rows]
    return Paginated(results=results, pagination=Pagination.of(page, total))


async def get_group_schedule(session: AsyncSession, parent_id: int, page: Page, v1: bool) -> GroupScheduleDetail:
    """A batch with a page of its children and their counts. Raises NotFound."""
    row = await repository.get(session, parent_id)
    children, total = await page_children(session, parent_id, page, v1)
    counts = count_by_word(await count_children(session, row), v1)
    return GroupScheduleDetail(
        **_show(row, v1), schedules=children, pagination=Pagination.of(page, total), counts=counts
    )


async def find_batch(session: AsyncSession, parent_id: int) -> tuple[Schedule, dict[Status, int]]:
    """A batch's row and counts, for who waits for its outcome. Raises NotFound."""
    row = await repository.get(session, parent_id)
    return row, await count_children(session, row)


async def count_children(session: AsyncSession, row: Schedule) -> dict[Status, int]:
    """Children by status; members that are still to get theirs count as pending."""
    counts = await repository.count_children(session, row.id)
    if row.expanded_at is None:
        missing = max(0, (row.child_count or 0) - sum(counts.values()))
        counts["pending"] = counts.get("pending", 0) + missing
    if row.status == "cancelled":
        counts["cancelled"] = counts.get("cancelled", 0) + counts.pop("pending", 0)
    return counts


async def update_group_schedule(
    session: AsyncSession, writer: Writer, parent_id: int, body: GroupScheduleUpdate, v1: bool
) -> GroupScheduleOut:
    """Changes a pending batch; its pending children follow. Raises NotFound, ScheduleNotPending, Invalid."""
    group_id = _required_group(body) if isinstance(body, GroupScheduleCreate) else one_of(body, "group")
    row = await repository.lock(session, parent_id)
    if row.status != "pending":
        raise ScheduleNotPending
    if group_id is not None and group_id != row.group_id:
        raise Invalid.field("group_id", "The group of a batch cannot change.")
    zone = await get_zone(session, writer.caller.organisation_id)
    draft = await redraft(session, row, body, zone)
    if "name" in body.model_fields_set:
        draft = replace(draft, name=body.name)
    check_batch(draft, writer.max_parts, "text")
    await repository.update(session, {**asdict(draft), "id": parent_id, "user_id": writer.caller.user_id})
    return await show_group_schedule(session, parent_id, v1)


async def show_group_schedule(session: AsyncSession, parent_id: int, v1: bool) -> GroupScheduleOut:
    """A batch without its children. Raises NotFound."""
    return GroupScheduleOut(**_show(await repository.get(session, parent_id), v1))


async def cancel_group_schedule(session: AsyncSession, caller: Caller, parent_id: int) -> None:
    """Cancels what of a batch is pending, also the rest of a running one. Raises NotFound, ScheduleNotPending."""
    row = await repository.lock(session, parent_id)
    if row.status not in ("pending", "processing") or not await repository.has_pending(session, parent_id):
        raise ScheduleNotPending("Nothing of this batch is pending")
    await repository.cancel(session, parent_id, caller.user_id)


async def retry_group_schedule(session: AsyncSession, caller: Caller, parent_id: int, include_unknown: bool) -> Retried:
    """Every failed message of a batch goes again, now. Raises NotFound."""
    await repository.lock(session, parent_id)
    return Retried(retried=await retry_children(session, caller, parent_id, include_unknown))


async def retry_more(session: AsyncSession) -> bool:
    """The next failed messages of a batch whose retry has begun go again. Returns whether there was such a batch."""
    parent_id = await repository.claim_retry_all_tenants(session)
    if parent_id is None:
        return False
    await go_on_retrying(session, parent_id)
    return True


async def claim_expansion(session: AsyncSession) -> Expansion | None:
    """A batch that waits for its next page of members."""
    return await repository.claim_expansion_all_tenants(session)


async def expand(session: AsyncSession, expansion: Expansion, members: Members) -> None:
    """Makes the children of a page of members, unless the batch was cancelled or another was faster."""
    if await repository.lock_expansion_all_tenants(session, expansion):
        if members.members:
            await repository.add_children(session, expansion.parent_id, members.members)
        await repository.move_cursor(session, expansion.parent_id, members.next)


async def end_finished(session: AsyncSession) -> bool:
    """Ends batches that have no open message left. Returns whether there may be more."""
    return await repository.end_finished_all_tenants(session) > 0


async def end_again(session: AsyncSession, parent_ids: Sequence[int]) -> None:
    """Works out anew how ended batches, whose locks the caller holds, end: messages of them turned after all."""
    await repository.end_again_all_tenants(session, parent_ids)


async def find_ended_holds(session: AsyncSession) -> list[tuple[int, str, UUID]]:
    """(parent, organisation, hold) of ended batches."""
    return await repository.find_ended_holds_all_tenants(session)


async def release_hold(
    session: AsyncSession, neighbours: Neighbours, parent_id: int, organisation_id: str, hold: UUID
) -> None:
    """Gives back what is left of an ended batch's hold; delivery is asked before the first statement."""
    await neighbours.delivery.release_hold(organisation_id, hold)
    await repository.forget_hold_all_tenants(session, parent_id)


async def find_known_holds(session: AsyncSession, references: Sequence[UUID]) -> list[UUID]:
    """Those of the references that an unfinished schedule carries."""
    return await repository.find_known_holds_all_tenants(session, references)


def _show(row: Schedule, v1: bool) -> dict[str, Any]:
    return {**show(row, v1), "group_name": row.group_name, "child_count": row.child_count}
