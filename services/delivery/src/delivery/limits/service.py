"""Use cases of limits: places and holds, and the configs that set them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import Invalid, NotFound
from common.events import ScheduleDue, SettingsChanged
from common.outbox import publish
from common.paging import Page
from delivery.errors import LimitReached
from delivery.limits import repository
from delivery.limits.rules import (
    CHAIN_NAMES,
    DEFAULT_ZONE,
    SENDER_NAME,
    ZONE_NAME,
    Demand,
    Quota,
    canonical_sender,
    check_value,
    grant,
    period_of,
    read_limit,
    read_sender,
)
from delivery.limits.schemas import ConfigCreate, ConfigUpdate, HoldIn, HoldOut, LimitsOut
from delivery.organisations import service as organisations
from delivery.settings import split_names

Chains = Mapping[str, Sequence[str]]  # format → the providers that are enabled
_NAME_TAKEN = "A config with this name exists already."
_SENDER_NOT_ASSIGNED = "This sender is not assigned to your organisation; ask who runs this installation."


async def periods(session: AsyncSession, moments: Iterable[tuple[str, datetime]]) -> list[date]:
    """The month that each (organisation, moment) belongs to, in the organisation's zone."""
    moments = list(moments)
    zones = await repository.zones(session, {organisation_id for organisation_id, _ in moments})
    return [period_of(moment, zones.get(organisation_id, DEFAULT_ZONE)) for organisation_id, moment in moments]


async def take_places(session: AsyncSession, wanting: Sequence[tuple[ScheduleDue, date]]) -> list[bool]:
    """Which of the messages, each with its month, get their places, in order: first from their hold, then from what
    the limit leaves. Only the first run draws on a hold: a retry takes its places anew."""
    return await _take(
        session,
        [
            Demand(
                Quota(event.organisation_id, period, event.format), event.parts, event.hold if event.run == 1 else None
            )
            for event, period in wanting
        ],
    )


async def take_sms_places(session: AsyncSession, wanting: Sequence[tuple[str, date, int]]) -> list[bool]:
    """Which of these (organisation, month, parts) get their places, in order."""
    return await _take(session, [Demand(Quota(organisation, period, "sms"), n) for organisation, period, n in wanting])


async def _take(session: AsyncSession, demands: Sequence[Demand]) -> list[bool]:
    """The limits are read in a statement of its own once the rows are locked: what a config says counts from the
    answer of its write on."""
    if not demands:
        return []
    taken = await repository.lock_taken(session, {demand.quota for demand in demands})
    limits = await repository.limits(session, {quota.organisation_id for quota in taken})
    references = {demand.hold for demand in demands if demand.hold is not None}
    holds = await repository.holds(session, references) if references else {}
    grants = grant(demands, taken, limits, holds)
    await repository.add_taken(session, grants.taken)
    await repository.draw(session, grants.drawn)
    return grants.granted


async def give_back(session: AsyncSession, messages: Iterable[Row[Any]]) -> None:
    """Gives back the places of messages that no provider took: `organisation_id, period, format, units`."""
    units: dict[Quota, int] = {}
    for message in messages:
        quota = Quota(message.organisation_id, message.period, message.format)
        units[quota] = units.get(quota, 0) - message.units
    if units:
        await repository.lock_taken(session, units.keys())
        await repository.add_taken(session, units)


async def hold_places(session: AsyncSession, organisation_id: str, reference: UUID, wanted: HoldIn) -> HoldOut:
    """Takes places for a send that is about to be accepted; the same reference again changes nothing.

    Raises LimitReached.
    """
    (period,) = await periods(session, [(organisation_id, wanted.scheduled_time)])
    quota = Quota(organisation_id, period, wanted.format)
    taken = (await repository.lock_taken(session, [quota]))[quota]
    answer = await repository.hold(session, reference, quota, wanted.units)
    limit = read_limit(answer.value)
    if not answer.held:
        assert limit is not None
        raise LimitReached(extra={"remaining": max(0, limit - taken), "required": wanted.units, "limit": limit})
    if limit is None:
        return HoldOut(remaining=None)
    return HoldOut(remaining=max(0, limit - taken - (wanted.units if answer.is_new else 0)))


async def release_holds(session: AsyncSession, references: Collection[UUID]) -> None:
    """Gives back what is left in the holds; unknown ones are passed by."""
    found = await repository.holds(session, references)
    if not found:
        return
    await repository.lock_taken(session, {quota for quota, _ in found.values()})
    left = await repository.release(session, references)
    await repository.add_taken(session, {quota: -units for quota, units in left.items() if units})


async def due_holds(session: AsyncSession, batch: int) -> list[UUID]:
    """Holds whose send should long have arrived, across all organisations."""
    return await repository.due_holds_all_tenants(session, batch)


async def settle_holds(session: AsyncSession, asked: Collection[UUID], known: Collection[UUID]) -> None:
    """Releases the holds that scheduling does not know; the others are looked at again later."""
    await release_holds(session, set(asked) - set(known))
    await repository.postpone_holds_all_tenants(session, known)


async def find_drift(session: AsyncSession, today: date) -> Sequence[Row[Any]]:
    """Quotas of this month and the last whose places do not add up: a fault of ours, to be looked into."""
    return await repository.drift_all_tenants(session, (today.replace(day=1) - timedelta(days=1)).replace(day=1))


async def get_limits(session: AsyncSession, organisation_id: str) -> LimitsOut:
    """The organisation's limits and zone, for scheduling's figures."""
    limits = await repository.limits(session, [organisation_id])
    zones = await repository.zones(session, [organisation_id])
    return LimitsOut(
        sms_limit=limits.get((organisation_id, "sms")),
        mms_limit=limits.get((organisation_id, "mms")),
        timezone=zones.get(organisation_id, DEFAULT_ZONE),
    )


async def config_values(
    session: AsyncSession, organisations: Collection[str], names: Collection[str]
) -> dict[tuple[str, str], str]:
    """(organisation, name) → value, of the configs of these names that there are."""
    rows = await repository.values(session, organisations, names)
    return {(row.organisation_id, row.name): row.value for row in rows}


async def get_zone(session: AsyncSession, organisation_id: str) -> str:
    """The organisation's time zone."""
    return (await repository.zones(session, [organisation_id])).get(organisation_id, DEFAULT_ZONE)


@dataclass(slots=True)
class Routing:
    """How an organisation wants its messages to go: its chains by format, and its sender."""

    organisation_id: str
    chains: dict[str, list[str]] = field(default_factory=dict)
    sender: str | None = None


async def routings(session: AsyncSession) -> Collection[Routing]:
    """Of each organisation that chose anything, across all of them."""
    found: dict[str, Routing] = {}
    for row in await repository.routing_all_tenants(session):
        routing = found.setdefault(row.organisation_id, Routing(row.organisation_id))
        if row.name == SENDER_NAME:
            is_assigned = canonical_sender(row.value) in row.assigned  # the operator may have removed it since
            routing.sender = read_sender(row.value) if is_assigned else None
        else:
            routing.chains[CHAIN_NAMES[row.name]] = split_names(row.value)
    return found.values()


async def sender_owners(session: AsyncSession, senders: Collection[str]) -> dict[str, str]:
    """Sender (a mobile as E.164) → the organisation that it is assigned to, across all of them."""
    return await repository.sender_owners(session, senders)


async def page_configs(session: AsyncSession, page: Page) -> tuple[Sequence[Row[Any]], int]:
    """Raises OrganisationClosed, as do the others on configs."""
    await organisations.refuse_closed(session)
    return await repository.page_configs(session, page)


async def get_config(session: AsyncSession, config_id: int) -> Row[Any]:
    await organisations.refuse_closed(session)
    found = await repository.find_config(session, config_id)
    if found is None:
        raise NotFound
    return found


async def create_config(session: AsyncSession, organisation_id: str, config: ConfigCreate, chains: Chains) -> Row[Any]:
    """Raises Invalid under `name` when there is one, under `value` when a known name cannot take it."""
    await organisations.refuse_closed(session)
    await _check(session, config.name, config.value, chains)
    made = await repository.add_config(session, organisation_id, config.name, config.value)
    if made is None:
        raise Invalid.field("name", _NAME_TAKEN)
    await _tell_zone(session, organisation_id, {config.name: config.value})
    return made


async def update_config(
    session: AsyncSession, organisation_id: str, config_id: int, change: ConfigUpdate, chains: Chains
) -> Row[Any]:
    """Changes what is given. Raises NotFound, and Invalid as `create_config` does."""
    await organisations.refuse_closed(session)
    old = await repository.find_and_lock_config(session, config_id)
    if old is None:
        raise NotFound
    given = change.model_dump(exclude_unset=True)
    name, value = given.get("name", old.name), given.get("value", old.value)
    await _check(session, name, value, chains)
    if name != old.name and await repository.is_name_taken(session, name):
        raise Invalid.field("name", _NAME_TAKEN)
    try:
        changed = await repository.change_config(session, config_id, name, value)
    except IntegrityError:  # somebody took the name in this very moment
        raise Invalid.field("name", _NAME_TAKEN) from None
    if (name, value) != (old.name, old.value):
        await _tell_zone(session, organisation_id, {old.name: DEFAULT_ZONE, name: value})
    return changed


async def _check(session: AsyncSession, name: str, value: str, chains: Chains) -> None:
    wrong = check_value(name, value, chains)
    sender = canonical_sender(value) if name == SENDER_NAME and not wrong else None
    if sender and sender not in await repository.sender_owners(session, {sender}):
        wrong = _SENDER_NOT_ASSIGNED
    if wrong:
        raise Invalid.field("value", wrong)


async def _tell_zone(session: AsyncSession, organisation_id: str, changed: Mapping[str, str]) -> None:
    """Tells the others when the zone is among what changed (name → the value that now holds)."""
    if ZONE_NAME in changed:
        version = await repository.next_settings_version(session)
        event = SettingsChanged(organisation_id=organisation_id, timezone=changed[ZONE_NAME], version=version)
        await publish(session, [event])


async def republish_settings(session: AsyncSession, since: datetime, after: str, batch: int) -> str | None:
    """Publishes the settings of a batch of organisations again, under new versions: of all, as no config has a time.

    `after` is where the last batch ended, "" at first; returns where this one did, None when there is no more.
    """
    rows = await repository.zones_again_all_tenants(session, after, batch)
    await publish(
        session,
        [SettingsChanged(organisation_id=r.organisation_id, timezone=r.zone, version=r.version) for r in rows],
    )
    return rows[-1].organisation_id if len(rows) == batch else None
