"""Every statement on limits, holds and configs."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from common.paging import Page
from delivery.limits.rules import DEFAULT_ZONE, LIMIT_NAMES, ZONE_NAME, Quota, read_limit

HOLD_CHECK_S = 90  # scheduling's transactions last 60 s at most: what is unknown there by then never comes
HOLD_RECHECK_S = 600

_VALUES = text(
    """
    SELECT organisation_id, name, value FROM configs
    WHERE organisation_id = ANY(CAST(:organisations AS text[])) AND name = ANY(CAST(:names AS text[]))
    """
)
_ROUTING = text(
    """
    SELECT c.organisation_id, c.name, c.value,
           ARRAY(SELECT s.sender FROM senders s
                 WHERE c.name = 'sender' AND s.organisation_id = c.organisation_id) AS assigned
    FROM configs c WHERE c.name IN ('sms_providers', 'mms_providers', 'sender') AND c.value <> ''
    """
)
_SENDERS = text("SELECT sender, organisation_id FROM senders WHERE sender = ANY(CAST(:senders AS text[]))")
# Sorted, so that two transactions take the same rows in the same order; the row is there without a limit too.
_LOCK = text(
    """
    INSERT INTO limits (organisation_id, period, format, taken)
    SELECT q.organisation_id, q.period, q.format, 0
    FROM unnest(CAST(:organisations AS text[]), CAST(:periods AS date[]), CAST(:formats AS text[]))
        AS q (organisation_id, period, format)
    ORDER BY 1, 2, 3
    ON CONFLICT (organisation_id, period, format) DO UPDATE SET taken = limits.taken
    RETURNING organisation_id, period, format, taken
    """
)
_ADD = text(
    """
    UPDATE limits l SET taken = l.taken + q.units
    FROM unnest(CAST(:organisations AS text[]), CAST(:periods AS date[]), CAST(:formats AS text[]),
                CAST(:units AS bigint[])) AS q (organisation_id, period, format, units)
    WHERE l.organisation_id = q.organisation_id AND l.period = q.period AND l.format = q.format
    """
)
_HOLDS = text("SELECT * FROM holds WHERE reference = ANY(CAST(:references AS uuid[]))")
_DRAW = text(
    """
    UPDATE holds h SET units = h.units - d.units
    FROM unnest(CAST(:references AS uuid[]), CAST(:units AS bigint[])) AS d (reference, units)
    WHERE h.reference = d.reference
    """
)
# Runs under the lock of the limit's row: takes the units when they fit, and the hold is new.
_HOLD = text(
    """
    WITH wanted AS (
        SELECT CAST(:reference AS uuid) AS reference, CAST(:units AS bigint) AS units,
               (SELECT value FROM configs WHERE organisation_id = :organisation AND name = :limit_name) AS value
    ),
    existing AS (SELECT FROM holds JOIN wanted USING (reference)),
    taken AS (
        UPDATE limits l SET taken = l.taken + w.units FROM wanted w
        WHERE l.organisation_id = :organisation AND l.period = :period AND l.format = :format
          AND NOT EXISTS (SELECT FROM existing)
          AND CASE WHEN w.value ~ '^[0-9]{1,15}$' THEN l.taken + w.units <= CAST(w.value AS bigint) ELSE true END
        RETURNING l.organisation_id, l.period, l.format, w.reference, w.units
    ),
    held AS (
        INSERT INTO holds (organisation_id, period, format, reference, units, check_at)
        SELECT *, now() + make_interval(secs => :check_s) FROM taken
    )
    SELECT value, EXISTS (SELECT FROM taken) OR EXISTS (SELECT FROM existing) AS held,
           EXISTS (SELECT FROM taken) AS is_new
    FROM wanted
    """
)
_RELEASE = text("DELETE FROM holds WHERE reference = ANY(CAST(:references AS uuid[])) RETURNING *")
_DUE_HOLDS = text("SELECT reference FROM holds WHERE check_at <= now() ORDER BY check_at LIMIT :batch")
_POSTPONE_HOLDS = text(
    """
    UPDATE holds SET check_at = now() + make_interval(secs => :check_s)
    WHERE reference = ANY(CAST(:references AS uuid[]))
    """
)
# One statement, so that all is of one moment. Failed messages keep no place, but for those that a provider took and
# those of unknown outcome.
_DRIFT = text(
    """
    WITH counted AS (
        SELECT organisation_id, period, format, sum(units) AS units FROM (
            SELECT organisation_id, period, format, units FROM messages
            WHERE period >= :since AND (status <> 'failed' OR category = 'outcome_unknown' OR sent_time IS NOT NULL)
            UNION ALL
            SELECT organisation_id, period, format, units FROM holds WHERE period >= :since
        ) AS places GROUP BY 1, 2, 3
    )
    SELECT l.organisation_id, l.period, l.format, l.taken, coalesce(c.units, 0) AS counted
    FROM limits l LEFT JOIN counted c USING (organisation_id, period, format)
    WHERE l.period >= :since AND l.taken <> coalesce(c.units, 0)
    """
)
# A change that is under way would draw its version first and be seen last: nobody writes configs meanwhile.
_LOCK_CONFIGS = text("LOCK TABLE configs IN SHARE MODE")
_ZONES_AGAIN = text(
    """
    SELECT known.organisation_id, coalesce(z.value, :default) AS zone, nextval('settings_versions') AS version
    FROM (SELECT organisation_id FROM configs WHERE organisation_id > :after
          UNION SELECT organisation_id FROM limits WHERE organisation_id > :after
          ORDER BY 1 LIMIT :batch) AS known
    LEFT JOIN configs z ON z.organisation_id = known.organisation_id AND z.name = :name
    ORDER BY 1
    """
)
_CONFIG = text("SELECT id, name, value FROM configs WHERE id = :id")
_LOCK_CONFIG = text("SELECT id, name, value FROM configs WHERE id = :id FOR UPDATE")


async def values(session: AsyncSession, organisations: Collection[str], names: Collection[str]) -> Sequence[Row[Any]]:
    """The configs of these names, with `organisation_id`, `name`, `value`."""
    return (await session.execute(_VALUES, {"organisations": list(organisations), "names": list(names)})).all()


async def zones(session: AsyncSession, organisations: Collection[str]) -> dict[str, str]:
    """Organisation → its zone, where one is configured."""
    return {row.organisation_id: row.value for row in await values(session, organisations, [ZONE_NAME])}


async def limits(session: AsyncSession, organisations: Collection[str]) -> dict[tuple[str, str], int]:
    """(organisation, format) → its limit, where there is one."""
    found = {}
    for row in await values(session, organisations, LIMIT_NAMES):
        limit = read_limit(row.value)
        if limit is not None:
            found[row.organisation_id, LIMIT_NAMES[row.name]] = limit
    return found


def _columns(quotas: Collection[Quota]) -> dict[str, list[Any]]:
    return {
        "organisations": [quota.organisation_id for quota in quotas],
        "periods": [quota.period for quota in quotas],
        "formats": [quota.format for quota in quotas],
    }


async def routing_all_tenants(session: AsyncSession) -> Sequence[Row[Any]]:
    """The configs that say how messages go: `organisation_id, name, value`; `assigned`: the senders that the
    organisation may choose."""
    return (await session.execute(_ROUTING)).all()


async def sender_owners(session: AsyncSession, senders: Collection[str]) -> dict[str, str]:
    """Canonical sender → the organisation it is assigned to, of those that the session may see."""
    rows = await session.execute(_SENDERS, {"senders": list(senders)})
    return {row.sender: row.organisation_id for row in rows}


async def lock_taken(session: AsyncSession, quotas: Collection[Quota]) -> dict[Quota, int]:
    """Locks the rows, which are made when they are missing, and returns what is taken."""
    rows = (await session.execute(_LOCK, _columns(quotas))).all()
    return {Quota(row.organisation_id, row.period, row.format): row.taken for row in rows}


async def add_taken(session: AsyncSession, units: Mapping[Quota, int]) -> None:
    """Adds (or with negative units gives back); the rows are locked already."""
    if units:
        await session.execute(_ADD, {**_columns(units), "units": list(units.values())})


async def holds(session: AsyncSession, references: Collection[UUID]) -> dict[UUID, tuple[Quota, int]]:
    """Reference → the hold's quota and the units left in it."""
    rows = (await session.execute(_HOLDS, {"references": list(references)})).all()
    return {row.reference: (Quota(row.organisation_id, row.period, row.format), row.units) for row in rows}


async def draw(session: AsyncSession, units: Mapping[UUID, int]) -> None:
    """Takes units out of holds."""
    if units:
        await session.execute(_DRAW, {"references": list(units), "units": list(units.values())})


async def hold(session: AsyncSession, reference: UUID, quota: Quota, units: int) -> Row[Any]:
    """Takes the units into a hold if they fit. Answers `value` (of the limit's config), `held` and `is_new`."""
    result = await session.execute(
        _HOLD,
        {
            "reference": reference,
            "organisation": quota.organisation_id,
            "period": quota.period,
            "format": quota.format,
            "units": units,
            "limit_name": f"{quota.format}_limit",
            "check_s": HOLD_CHECK_S,
        },
    )
    return result.one()


async def release(session: AsyncSession, references: Collection[UUID]) -> dict[Quota, int]:
    """Removes holds and returns what was left in them, by quota."""
    left: dict[Quota, int] = {}
    for row in (await session.execute(_RELEASE, {"references": list(references)})).all():
        quota = Quota(row.organisation_id, row.period, row.format)
        left[quota] = left.get(quota, 0) + row.units
    return left


async def due_holds_all_tenants(session: AsyncSession, batch: int) -> list[UUID]:
    """Holds that have not been drawn empty and released in time."""
    return list((await session.scalars(_DUE_HOLDS, {"batch": batch})).all())


async def postpone_holds_all_tenants(session: AsyncSession, references: Collection[UUID]) -> None:
    """They are known: look again later."""
    await session.execute(_POSTPONE_HOLDS, {"references": list(references), "check_s": HOLD_RECHECK_S})


async def drift_all_tenants(session: AsyncSession, since: date) -> Sequence[Row[Any]]:
    """Quotas from a month on whose `taken` is not what messages and holds add up to (`counted`)."""
    return (await session.execute(_DRIFT, {"since": since})).all()


async def page_configs(session: AsyncSession, page: Page) -> tuple[Sequence[Row[Any]], int]:
    """The organisation's configs by name in any case, id; and how many there are."""
    rows = await session.execute(
        text("SELECT id, name, value FROM configs ORDER BY lower(name), id LIMIT :limit OFFSET :offset"),
        {"limit": page.limit, "offset": page.offset},
    )
    return rows.all(), await session.scalar(text("SELECT count(*) FROM configs")) or 0


async def find_config(session: AsyncSession, config_id: int) -> Row[Any] | None:
    return (await session.execute(_CONFIG, {"id": config_id})).one_or_none()


async def find_and_lock_config(session: AsyncSession, config_id: int) -> Row[Any] | None:
    return (await session.execute(_LOCK_CONFIG, {"id": config_id})).one_or_none()


async def add_config(session: AsyncSession, organisation_id: str, name: str, value: str) -> Row[Any] | None:
    """The new row; None when the name is taken."""
    result = await session.execute(
        text(
            """
            INSERT INTO configs (organisation_id, name, value) VALUES (:organisation, :name, :value)
            ON CONFLICT (organisation_id, name) DO NOTHING RETURNING id, name, value
            """
        ),
        {"organisation": organisation_id, "name": name, "value": value},
    )
    return result.one_or_none()


async def is_name_taken(session: AsyncSession, name: str) -> bool:
    return bool(await session.scalar(text("SELECT EXISTS (SELECT FROM configs WHERE name = :name)"), {"name": name}))


async def change_config(session: AsyncSession, config_id: int, name: str, value: str) -> Row[Any]:
    result = await session.execute(
        text("UPDATE configs SET name = :name, value = :value WHERE id = :id RETURNING id, name, value"),
        {"id": config_id, "name": name, "value": value},
    )
    return result.one()


async def next_settings_version(session: AsyncSession) -> int:
    """Taken under the lock of the changed config: of two changes of one setting the later has the higher one."""
    return int(await session.scalar(text("SELECT nextval('settings_versions')")) or 0)


async def zones_again_all_tenants(session: AsyncSession, after: str, batch: int) -> Sequence[Row[Any]]:
    """`organisation_id`, `zone` and a new `version` of organisations beyond `after`; until the commit none changes."""
    await session.execute(_LOCK_CONFIGS)
    given = {"after": after, "batch": batch, "name": ZONE_NAME, "default": DEFAULT_ZONE}
    return (await session.execute(_ZONES_AGAIN, given)).all()
