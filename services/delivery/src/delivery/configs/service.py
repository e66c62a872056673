"""Use cases of configs: the settings that an organisation stores, and what they mean to delivery."""

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import Invalid, NotFound
from common.events import SettingsChanged
from common.outbox import publish
from common.paging import Page
from delivery.configs import repository
from delivery.configs.rules import CHAINS, DEFAULT_ZONE, LIMITS, SENDER, TIMEZONE, Chains, Routing, check_value
from delivery.models import ConfigRow
from delivery.organisations import service as organisations
from delivery.sender_ids import service as sender_ids
from delivery.sender_ids.rules import canonical_sender_id

_NAME_EXISTS = "A config with this name exists already."
_NOT_ASSIGNED = "This sender ID is not assigned to your organisation. Ask the operator of this installation."


async def config_values(
    session: AsyncSession, organisations: Collection[str], names: Collection[str]
) -> dict[tuple[str, str], str]:
    """Return (organisation, name) → value, for the configs of these names that exist."""
    return await repository.values(session, organisations, names)


async def zones(session: AsyncSession, organisations: Collection[str]) -> dict[str, str]:
    """Return organisation → time zone, the default where none is configured."""
    values = await repository.values(session, organisations, [TIMEZONE.name])
    return {organisation: values.get((organisation, TIMEZONE.name), DEFAULT_ZONE) for organisation in organisations}


async def get_zone(session: AsyncSession, organisation_id: str) -> str:
    """Return the organisation's time zone."""
    return (await zones(session, [organisation_id]))[organisation_id]


async def limits(session: AsyncSession, organisations: Collection[str]) -> dict[tuple[str, str], int]:
    """Return (organisation, format) → monthly limit in parts, where there is one."""
    values = await repository.values(session, organisations, [spec.name for spec in LIMITS.values()])
    found = {
        (organisation, message_format): spec.parse(values[organisation, spec.name])
        for organisation in organisations
        for message_format, spec in LIMITS.items()
        if (organisation, spec.name) in values
    }
    return {key: limit for key, limit in found.items() if limit is not None}


async def routings_all_tenants(session: AsyncSession) -> list[Routing]:
    """Return what each organisation chose about routing, for those that chose something.

    A configured sender ID counts while the operator has it assigned to the organisation.
    """
    chains: dict[str, dict[str, list[str]]] = {}
    senders: dict[str, str | None] = {}
    by_name = {spec.name: (message_format, spec) for message_format, spec in CHAINS.items()}
    for row in await repository.routing_all_tenants(session):
        chain = chains.setdefault(row.organisation_id, {})
        if row.name in by_name:
            message_format, spec = by_name[row.name]
            chain[message_format] = spec.parse(row.value)
        elif canonical_sender_id(row.value) in row.assigned:
            senders[row.organisation_id] = SENDER.parse(row.value)
    return [Routing(organisation, chosen, senders.get(organisation)) for organisation, chosen in chains.items()]


async def page_configs(session: AsyncSession, page: Page) -> tuple[list[ConfigRow], int]:
    """Return a page of the organisation's configs, and the number of all. Raises OrganisationClosed."""
    await organisations.refuse_closed(session)
    return await repository.page(session, page)


async def get_config(session: AsyncSession, config_id: int) -> ConfigRow:
    """Return a config. Raises NotFound and OrganisationClosed."""
    await organisations.refuse_closed(session)
    found = await repository.find(session, config_id)
    if found is None:
        raise NotFound
    return found


async def create_config(
    session: AsyncSession, organisation_id: str, chains: Chains, *, name: str, value: str
) -> ConfigRow:
    """Create a config.

    Raises OrganisationClosed, and Invalid under `name` when it exists or under `value` when a known name refuses it.
    """
    await organisations.refuse_closed(session)
    await _check(session, name, value, chains)
    added = await repository.add(session, organisation_id, name, value)
    if added is None:
        raise Invalid.field("name", _NAME_EXISTS)
    await _publish_zone(session, organisation_id, {name: value})
    return added


async def update_config(
    session: AsyncSession, organisation_id: str, chains: Chains, *, config_id: int, change: Mapping[str, str]
) -> ConfigRow:
    """Change the name or the value of a config, or both, as `change` has them.

    Raises NotFound, and the errors of `create_config`.
    """
    await organisations.refuse_closed(session)
    old = await repository.find_and_lock(session, config_id)
    if old is None:
        raise NotFound
    new = ConfigRow(old.id, change.get("name", old.name), change.get("value", old.value))
    await _check(session, new.name, new.value, chains)
    if new.name != old.name and await repository.has_name(session, new.name):
        raise Invalid.field("name", _NAME_EXISTS)
    try:
        changed = await repository.change(session, new)
    except IntegrityError:  # another transaction took the name since it was checked
        raise Invalid.field("name", _NAME_EXISTS) from None
    if new != old:
        await _publish_zone(session, organisation_id, {old.name: DEFAULT_ZONE, new.name: new.value})
    return changed


async def _check(session: AsyncSession, name: str, value: str, chains: Chains) -> None:
    problem = check_value(name, value, chains)
    sender_id = canonical_sender_id(value) if name == SENDER.name and not problem else None
    if sender_id and sender_id not in await sender_ids.sender_id_owners(session, {sender_id}):
        problem = _NOT_ASSIGNED
    if problem:
        raise Invalid.field("value", problem)


async def _publish_zone(session: AsyncSession, organisation_id: str, changed: Mapping[str, str]) -> None:
    """Publish SettingsChanged when the time zone is among the changed configs (name → the value that counts now)."""
    if TIMEZONE.name in changed:
        version = await repository.next_settings_version(session)
        zone = changed[TIMEZONE.name]
        await publish(session, [SettingsChanged(organisation_id=organisation_id, timezone=zone, version=version)])


async def republish_settings(session: AsyncSession, since: datetime, after: str, batch: int) -> str | None:
    """Publish the settings of a batch of organisations again, with new versions.

    Configs have no time, so `since` does not narrow them. `after` is the last organisation of the previous batch, ""
    at first. Return the last one of this batch, or None when there are no more.
    """
    rows = await repository.zones_all_tenants(session, after, batch)
    await publish(
        session,
        [SettingsChanged(organisation_id=row.organisation_id, timezone=row.zone, version=row.version) for row in rows],
    )
    return rows[-1].organisation_id if len(rows) == batch else None
