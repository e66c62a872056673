"""Use cases of batches: accept at once, fan out in a loop, finish when no message is open."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from common.caller import Caller
from common.context import request_id
from common.database import tenant_of, wake_after_commit
from common.errors import Invalid
from common.paging import Page
from scheduling.batches import repository, rules
from scheduling.batches.schemas import GroupScheduleCreate, GroupScheduleUpdate
from scheduling.clients.contacts import Audience, Members
from scheduling.clients.services import OtherServices, WriteContext
from scheduling.errors import NoRecipients, ScheduleNotPending
from scheduling.models import DISPATCH, FAN_OUT, OPEN, Schedule, ScheduleStatus
from scheduling.organisations import service as organisations
from scheduling.recipients.service import check_group
from scheduling.schedules import rules as drafts
from scheduling.schedules import service as schedules
from scheduling.schedules.schemas import Days, check_content_given, one_of

FIRST_MESSAGES = 50
FAN_OUT_PAGE = 1000


async def read_audience(context: WriteContext, group_id: int) -> Audience:
    """Return a group that can be messaged, with its first members. Raises NotFound, Invalid, NoRecipients."""
    audience = await context.services.contacts.read_audience(context.caller, group_id, FIRST_MESSAGES)
    check_group(audience.group)
    if audience.eligible_count == 0:
        raise NoRecipients
    return audience


async def create_batch(
    session: AsyncSession, context: WriteContext, body: GroupScheduleCreate
) -> tuple[Schedule, list[Schedule]]:
    """Create a batch for later. Return it with its first messages. Raises NotFound, Invalid, NoRecipients."""
    audience = await read_audience(context, _required_group(body))
    zone = await organisations.get_zone(session)
    moment = drafts.check_time(organisations.read_time(body.scheduled_time, zone, "scheduled_time"), datetime.now(UTC))
    content = await schedules.apply_content(tenant_of(session), body, schedules.new_content(body))
    rules.check_content(content, context.max_parts, "text")
    batch_id = await add_batch(session, context.caller, audience, drafts.Draft(content, moment, name=body.name))
    messages = await repository.page_messages(session, batch_id, Page(1, FIRST_MESSAGES))
    return await repository.get(session, batch_id), messages


def _required_group(body: GroupScheduleUpdate) -> int:
    group_id = one_of(body, "group")
    if group_id is None:
        raise Invalid.field("group_id", "This field is required.")
    return group_id


async def add_batch(
    session: AsyncSession,
    caller: Caller,
    audience: Audience,
    draft: drafts.Draft,
    reservation: UUID | None = None,
    *,
    outcome_awaited: bool = False,
) -> int:
    """Insert a batch and the messages to its first members. Return its id. A due batch gets the status `processing`."""
    group = audience.group
    is_due = draft.scheduled_time <= datetime.now(UTC)
    values: dict[str, Any] = {**drafts.draft_columns(draft), "group_id": group.id, "group_name": group.name}
    status = ScheduleStatus.PROCESSING if is_due else ScheduleStatus.PENDING
    values |= {"status": status, "message_count": audience.eligible_count}
    values |= {"reservation": reservation, "outcome_awaited": outcome_awaited, "request_id": request_id()}
    values |= {"organisation_id": caller.organisation_id, "user_id": caller.user_id}
    batch_id = await repository.add(session, values)
    await repository.add_messages(session, batch_id, audience.members)
    await repository.move_cursor(session, batch_id, audience.next)
    wake_after_commit(session, FAN_OUT)
    wake_after_commit(session, DISPATCH)
    return batch_id


async def list_batches(
    session: AsyncSession, context: WriteContext, days: Days, group_id: int | None, page: Page
) -> tuple[list[Schedule], int]:
    """Return a page of batches, the latest first and without cancelled ones, and how many there are.

    Raises NotFound for a group that does not exist.
    """
    if group_id is not None:
        await context.services.contacts.get_group(context.caller, group_id)
    zone = await organisations.read_zone(tenant_of(session), days.tz)
    start, end = schedules.find_bounds(zone, days, default_today=False)
    return await repository.page(session, start=start, end=end, group_id=group_id, page=page)


async def page_newest(session: AsyncSession, page: Page) -> tuple[list[Schedule], int]:
    """Return a page of the batches of a tenant session, the latest first and without cancelled ones, and their number.

    It is `list_batches` without a choice of days and group, for operators, who act for no user.
    """
    return await repository.page(session, start=None, end=None, group_id=None, page=page)


async def get_batch(session: AsyncSession, batch_id: int) -> Schedule:
    """Return a batch. Raises NotFound."""
    return await repository.get(session, batch_id)


async def get_batch_detail(session: AsyncSession, batch_id: int, page: Page) -> rules.BatchDetail:
    """Return a batch, a page of its messages, and their counts. Raises NotFound."""
    batch = await repository.get(session, batch_id)
    written = await repository.count_messages(session, batch_id)
    return rules.BatchDetail(
        batch=batch,
        messages=await repository.page_messages(session, batch_id, page),
        total=rules.count_rows(batch, sum(written.values())),
        counts=rules.complete_counts(batch, written),
    )


async def count_messages(session: AsyncSession, batch: Schedule) -> dict[ScheduleStatus, int]:
    """Count messages by status. Members without a message yet count as pending."""
    return rules.complete_counts(batch, await repository.count_messages(session, batch.id))


async def lock_batch(session: AsyncSession, batch_id: int) -> Schedule:
    """Lock a batch and return it. Raises NotFound."""
    return await repository.lock(session, batch_id)


async def update_batch(
    session: AsyncSession, context: WriteContext, batch_id: int, body: GroupScheduleUpdate
) -> Schedule:
    """Change a pending batch and its pending messages. Raises NotFound, ScheduleNotPending, Invalid."""
    group_id = one_of(body, "group")
    if isinstance(body, GroupScheduleCreate):
        group_id = _required_group(body)
        check_content_given(body)
    row = await repository.lock(session, batch_id)
    if row.status != ScheduleStatus.PENDING:
        raise ScheduleNotPending
    if group_id is not None and group_id != row.group_id:
        raise Invalid.field("group_id", "The group of a batch cannot change.")
    if body.changes_nothing():
        return row
    zone = await organisations.get_zone(session)
    draft = await schedules.apply_update(session, row, body, zone)
    if "name" in body.model_fields_set:
        draft = replace(draft, name=body.name)
    rules.check_content(draft.content, context.max_parts, "text")
    await repository.update(session, {**drafts.draft_columns(draft), "id": batch_id, "user_id": context.caller.user_id})
    return await repository.get(session, batch_id)


async def cancel_batch(session: AsyncSession, caller: Caller, batch_id: int) -> None:
    """Cancel the pending messages of a batch, also of one in processing. Raises NotFound, ScheduleNotPending."""
    row = await repository.lock(session, batch_id)
    if row.status not in OPEN or not await repository.has_pending(session, batch_id):
        raise ScheduleNotPending("Nothing of this batch is pending")
    await repository.cancel(session, batch_id, caller.user_id)


async def claim_fan_out(session: AsyncSession) -> repository.FanOut | None:
    """Claim a batch that waits for its next page of members, under a lease."""
    return await repository.claim_fan_out_all_tenants(session)


async def fan_out(session: AsyncSession, claim: repository.FanOut, members: Members) -> None:
    """Write the messages to a page of members, unless the batch was cancelled or another worker wrote the page."""
    if await repository.lock_fan_out_all_tenants(session, claim):
        if members.members:
            await repository.add_messages(session, claim.batch_id, members.members)
        await repository.move_cursor(session, claim.batch_id, members.next)
        wake_after_commit(session, DISPATCH)


async def finish_batches(session: AsyncSession) -> bool:
    """Finish batches that have no open message. Return whether there may be more."""
    return await repository.finish_all_tenants(session) > 0


async def recompute_outcomes(session: AsyncSession, batch_ids: Sequence[int]) -> None:
    """Compute the status of finished batches again after late receipts changed messages. The caller has locked them."""
    await repository.recompute_all_tenants(session, batch_ids)


async def find_reservations_to_release(session: AsyncSession) -> list[repository.ReservationToRelease]:
    """Return reservations of batches that dispatch no more messages."""
    return await repository.find_reservations_to_release_all_tenants(session)


async def release_reservation(
    session: AsyncSession, services: OtherServices, reservation: repository.ReservationToRelease
) -> None:
    """Release what is left of a batch's reservation. Call delivery first, so no row is locked meanwhile."""
    await services.delivery.release_reservation(reservation.organisation_id, reservation.reference)
    await repository.clear_reservation_all_tenants(session, reservation.batch_id)


async def find_known_reservations(session: AsyncSession, references: Sequence[UUID]) -> list[UUID]:
    """Return those of the reservations that belong to an open schedule."""
    return await repository.find_known_reservations_all_tenants(session, references)
