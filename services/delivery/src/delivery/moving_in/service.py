"""Import the configs of an earlier system, and what it sent in this and the last month. An operator starts it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from common import moved_rows
from common.moved_rows import CheckedMonth, Written, moved_row
from delivery.configs import service as configs
from delivery.configs.rules import SENDER, TIMEZONE, check_value
from delivery.limits import service as limits
from delivery.limits.rules import Quota
from delivery.moving_in import repository
from delivery.moving_in.schemas import ConfigIn

CONFIG = "config"
_NO_CHAINS: Mapping[str, Sequence[str]] = {"sms": (), "mms": ()}
_SENDER = "A sender ID needs an assignment here: cooee sender-ids assign, then set the config in Cooee."
_TWICE = "Another config of the organisation has this name."
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)  # configs have no time
_PAGE = 1000


async def import_configs(session: AsyncSession, system: str, rows: Sequence[ConfigIn]) -> Written:
    """Add or replace configs whose row is new or changed. A value that this system does not accept is rejected."""
    accepted, rejected = _split(rows)
    page = await moved_rows.split_rows(session, system, CONFIG, accepted)
    if written := page.new + page.changed:
        ids = await repository.save_all_tenants(session, written)
        await moved_rows.save(
            session, [moved_row(system, CONFIG, row, ids[row.organisation_id, row.name]) for row in written]
        )
    if any(row.name == TIMEZONE.name for row in written):
        await _publish_zones(session)
    return Written(added=len(page.new), updated=len(page.changed), rejected=rejected)


def find_rejected(rows: Sequence[ConfigIn]) -> Written:
    """Return the configs that `import_configs` would reject. Nothing is written."""
    return Written(rejected=_split(rows)[1])


def _split(rows: Sequence[ConfigIn]) -> tuple[list[ConfigIn], tuple[tuple[int, str], ...]]:
    """Return the configs that are accepted, and (old id, reason) of the others."""
    accepted: dict[tuple[str, str], ConfigIn] = {}
    rejected = []
    for row in sorted(rows, key=lambda row: row.old_id):
        if problem := _problem(row) or (_TWICE if (row.organisation_id, row.name) in accepted else None):
            rejected.append((row.old_id, problem))
        else:
            accepted[row.organisation_id, row.name] = row
    return list(accepted.values()), tuple(rejected)


def _problem(row: ConfigIn) -> str | None:
    return _SENDER if row.name == SENDER.name else check_value(row.name, row.value, _NO_CHAINS)


async def _publish_zones(session: AsyncSession) -> None:
    after: str | None = ""
    while after is not None:
        after = await configs.republish_settings(session, _ALWAYS, after, _PAGE)


async def get_zones(session: AsyncSession, organisations: Collection[str]) -> dict[str, str]:
    """Return organisation → time zone."""
    return await configs.zones(session, organisations)


async def set_usage(session: AsyncSession, parts: Iterable[tuple[str, date, str, int]]) -> int:
    """Count what the earlier system sent, as (organisation, month, format, parts), against the limits.

    The parts replace those of an earlier run. Return how many months and formats changed.
    """
    quotas = {Quota(organisation, period, form): number for organisation, period, form, number in parts}
    return await limits.set_moved_usage(session, quotas)


async def check(session: AsyncSession, system: str, organisations: Collection[str]) -> list[CheckedMonth]:
    """Return the number and the checksums of the rows that exist here, by kind and month."""
    return await moved_rows.check(session, system, organisations, repository.CHECKS)
