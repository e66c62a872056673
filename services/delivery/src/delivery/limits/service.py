"""Use cases of limits: count the parts of messages, and reserve parts for sends."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from common.events import ScheduleDue
from common.statements import Tenant
from delivery.configs import service as configs
from delivery.configs.rules import LIMITS
from delivery.limits import repository
from delivery.limits.rules import Demand, Quota, grant, period_of
from delivery.limits.schemas import ReservationIn, ReservationOut
from delivery.models import MonthUsage, OutcomeRow, UsageDrift


async def periods(session: AsyncSession, moments: Iterable[tuple[str, datetime]]) -> list[date]:
    """Return the month of each (organisation, moment), in the organisation's time zone.

    `_RESERVE_NEW` in the repository derives the same month in SQL.
    """
    moments = list(moments)
    zones = await configs.zones(session, {organisation_id for organisation_id, _ in moments})
    return [period_of(moment, zones[organisation_id]) for organisation_id, moment in moments]


async def take_parts(session: AsyncSession, wanted: Sequence[tuple[ScheduleDue, date]]) -> list[bool]:
    """Count the parts of dispatches against their months' limits, in order. Return which of them fit.

    The parts come from the dispatch's reservation first. Only the first dispatch of a schedule may use it.
    """
    return await _take(
        session,
        [
            Demand(
                Quota(event.organisation_id, period, event.format),
                event.parts,
                event.reservation if event.dispatch_number == 1 else None,
            )
            for event, period in wanted
        ],
    )


async def take_sms_parts(session: AsyncSession, wanted: Sequence[tuple[str, date, int]]) -> list[bool]:
    """Count the parts of SMS, given as (organisation, month, parts), in order. Return which of them fit."""
    return await _take(
        session, [Demand(Quota(organisation, period, "sms"), parts) for organisation, period, parts in wanted]
    )


async def _take(session: AsyncSession, demands: Sequence[Demand]) -> list[bool]:
    """Grant demands: those that use up their own reservation at once, the others under the lock of their usage.

    A reference that several demands have is a batch's, and is not used up by one of them.
    """
    shared = Counter(demand.reservation for demand in demands)
    alone = [(d.reservation, d.parts, d.quota) for d in demands if d.reservation and shared[d.reservation] == 1]
    covered = await repository.use_up(session, alone)
    granted = await _take_locked(session, [demand for demand in demands if demand.reservation not in covered])
    rest = iter(granted)
    return [demand.reservation in covered or next(rest) for demand in demands]


async def _take_locked(session: AsyncSession, demands: Sequence[Demand]) -> list[bool]:
    """Grant demands under the lock of their usage.

    The limits are read after the lock, in a statement of their own. So a new limit applies as soon as its request is
    answered.
    """
    if not demands:
        return []
    usage = await repository.lock_usage(session, {demand.quota for demand in demands})
    limits = await configs.limits(session, {quota.organisation_id for quota in usage})
    references = {demand.reservation for demand in demands if demand.reservation is not None}
    reservations = await repository.reservations(session, references) if references else {}
    grants = grant(demands, usage, limits, reservations)
    await repository.add_usage(session, grants.added)
    await repository.draw(session, grants.drawn)
    return grants.granted


async def return_parts(session: AsyncSession, messages: Iterable[OutcomeRow]) -> None:
    """Return the parts of messages that no provider accepted."""
    parts: dict[Quota, int] = {}
    for message in messages:
        quota = Quota(message.organisation_id, message.period, message.format)
        parts[quota] = parts.get(quota, 0) - message.parts
    if parts:
        await repository.lock_usage(session, parts)
        await repository.add_usage(session, parts)


async def reserve_new(tenant: Tenant, wanted: Sequence[ReservationIn]) -> list[ReservationOut | None]:
    """Reserve parts for sends in the usual case, in one statement: the references are new, and the parts fit.

    Return what became of each, None for those that `reserve` must decide.
    """
    made = await repository.reserve_new(tenant, wanted)
    if made is not None:
        return [_result(one, reserved) for one, reserved in zip(wanted, made, strict=True)]
    if len(wanted) == 1:
        return [None]
    # One reference exists. The others still need the check of their recipients.
    return [result for one in wanted for result in await reserve_new(tenant, [one])]


def _result(wanted: ReservationIn, made: repository.NewReservation) -> ReservationOut | None:
    """Return the answer to a reservation in the usual case, None when it was not made."""
    if made.opted_out:
        return ReservationOut(code="opted_out")
    if made.usage is None:
        return None
    limit = LIMITS[wanted.format].parse(made.value) if made.value is not None else None
    return ReservationOut(remaining=None if limit is None else max(0, limit - made.usage), limit=limit)


async def reserve(session: AsyncSession, organisation_id: str, wanted: ReservationIn) -> ReservationOut:
    """Reserve parts under the lock of their usage. A reference that is reserved already changes nothing."""
    (period,) = await periods(session, [(organisation_id, wanted.scheduled_time)])
    quota = Quota(organisation_id, period, wanted.format)
    usage = (await repository.lock_usage(session, [quota]))[quota]
    result = await repository.reserve(session, wanted.reference, quota, wanted.parts)
    limit = LIMITS[wanted.format].parse(result.value) if result.value is not None else None
    if limit is None:
        return ReservationOut()
    if not result.is_reserved:
        return ReservationOut(code="limit_exceeded", remaining=max(0, limit - usage), limit=limit)
    return ReservationOut(remaining=max(0, limit - usage - (wanted.parts if result.is_new else 0)), limit=limit)


async def release_reservations(session: AsyncSession, references: Collection[UUID]) -> None:
    """Delete reservations and return what is left in them. Unknown references are ignored."""
    found = await repository.reservations(session, references)
    if not found:
        return
    await repository.lock_usage(session, {reserved.quota for reserved in found.values()})
    left = await repository.release(session, references)
    await repository.add_usage(session, {quota: -parts for quota, parts in left.items() if parts})


async def due_reservations(session: AsyncSession, batch: int) -> Sequence[UUID]:
    """Return reservations of all organisations whose send should have arrived by now."""
    return await repository.due_reservations_all_tenants(session, batch)


async def keep_known_reservations(session: AsyncSession, checked: Collection[UUID], known: Collection[UUID]) -> None:
    """Release the checked reservations that scheduling does not know. Postpone the check of the others."""
    await release_reservations(session, set(checked) - set(known))
    await repository.postpone_reservations_all_tenants(session, known)


async def set_moved_usage(session: AsyncSession, parts: Mapping[Quota, int]) -> int:
    """Count the parts that an earlier system sent in these months. Return how many quotas changed.

    The parts replace those of an earlier call, so that a repeated import counts nothing twice.
    """
    if not parts:
        return 0
    await repository.lock_usage(session, parts)
    before = await repository.moved_usage(session, parts)
    changed = {quota: number - before.get(quota, 0) for quota, number in parts.items()}
    changed = {quota: difference for quota, difference in changed.items() if difference}
    if changed:
        await repository.add_usage(session, changed)
        await repository.save_moved_usage(session, {quota: parts[quota] for quota in changed})
    return len(changed)


async def find_drift(session: AsyncSession, today: date) -> list[UsageDrift]:
    """Return usage of this and the last month that messages and reservations do not add up to. There should be none."""
    last_month = (today.replace(day=1) - timedelta(days=1)).replace(day=1)
    return await repository.drift_all_tenants(session, last_month)


async def list_usage(session: AsyncSession, months: int) -> list[MonthUsage]:
    """Return the usage of the organisation of a tenant session in its last months, the newest first."""
    return await repository.list_usage(session, months)


async def get_limits(session: AsyncSession, organisation_id: str) -> tuple[dict[str, int], str]:
    """Return the organisation's limits by format, where there is one, and its time zone."""
    limits = await configs.limits(session, [organisation_id])
    return {message_format: limit for (_, message_format), limit in limits.items()}, await configs.get_zone(
        session, organisation_id
    )
