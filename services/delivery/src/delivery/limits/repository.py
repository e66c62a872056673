"""Every statement on the usage of limits and on reservations."""
# ruff: noqa: S608 (the parts of the statements are constants)

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from common.statements import ORGANISATION_CTE, Statement, Tenant
from delivery.configs.rules import DEFAULT_ZONE, LIMITS, TIMEZONE, WHOLE_NUMBER
from delivery.limits.rules import Quota, Reserved
from delivery.limits.schemas import ReservationIn
from delivery.models import COUNTS_AGAINST_LIMIT, MonthUsage, UsageDrift, columns, read_rows, sql_list
from delivery.opt_outs.rules import RECIPIENT_OPTED_OUT

CHECK_S = 90  # scheduling's transactions end within 60 s: a reservation it has not stored after that is unused
RECHECK_S = 600

_QUOTA = Columns(organisation_id="text", period="date", format="text")
_PARTS = Columns(organisation_id="text", period="date", format="text", parts="bigint")
_DRAWN = Columns(reference="uuid", parts="bigint")
_WHOLE = Columns(reference="uuid", parts="bigint", organisation_id="text", period="date", format="text")
_USAGE = text(f"SELECT {columns(MonthUsage)} FROM limit_usage ORDER BY period DESC, format LIMIT :rows")
# The row is created when it is missing, so that there is always one to lock, also without a limit. The order makes two
# transactions lock the same rows in the same order.
_LOCK = text(
    f"""
    INSERT INTO limit_usage (organisation_id, period, format, usage)
    SELECT q.organisation_id, q.period, q.format, 0 FROM {_QUOTA.unnest("q")}
    ORDER BY 1, 2, 3
    ON CONFLICT (organisation_id, period, format) DO UPDATE SET usage = limit_usage.usage
    RETURNING organisation_id, period, format, usage
    """
)
_ADD = text(
    f"""
    UPDATE limit_usage u SET usage = u.usage + q.parts FROM {_PARTS.unnest("q")}
    WHERE u.organisation_id = q.organisation_id AND u.period = q.period AND u.format = q.format
    """
)
_RESERVATIONS = text(
    """
    SELECT reference, organisation_id, period, format, parts FROM reservations
    WHERE reference = ANY(CAST(:references AS uuid[]))
    """
)
_DRAW = text(
    f"""
    UPDATE reservations r SET parts = r.parts - d.parts FROM {_DRAWN.unnest("d")} WHERE r.reference = d.reference
    """
)
# A send reserves exactly its parts, so its message uses up the reservation and needs no lock of the usage.
_USE_UP = text(
    f"""
    DELETE FROM reservations r USING {_WHOLE.unnest("d")}
    WHERE r.reference = d.reference AND r.parts = d.parts AND r.organisation_id = d.organisation_id
      AND r.period = d.period AND r.format = d.format
    RETURNING r.reference
    """
)
# Runs under the lock of the usage row. The parts are added when they fit and the reservation is new.
_RESERVE = text(
    f"""
    WITH wanted AS (
        SELECT CAST(:reference AS uuid) AS reference, CAST(:parts AS bigint) AS parts,
               (SELECT value FROM configs WHERE organisation_id = :organisation AND name = :limit_name) AS value
    ),
    existing AS (SELECT FROM reservations JOIN wanted USING (reference)),
    added AS (
        UPDATE limit_usage u SET usage = u.usage + w.parts FROM wanted w
        WHERE u.organisation_id = :organisation AND u.period = :period AND u.format = :format
          AND NOT EXISTS (SELECT FROM existing)
          AND CASE WHEN w.value ~ '^{WHOLE_NUMBER}$' THEN u.usage + w.parts <= CAST(w.value AS bigint) ELSE true END
        RETURNING u.organisation_id, u.period, u.format, w.reference, w.parts
    ),
    made AS (
        INSERT INTO reservations (organisation_id, period, format, reference, parts, check_at)
        SELECT *, now() + make_interval(secs => :check_s) FROM added
    )
    SELECT value, EXISTS (SELECT FROM added) OR EXISTS (SELECT FROM existing) AS is_reserved,
           EXISTS (SELECT FROM added) AS is_new
    FROM wanted
    """
)
_LIMIT_NAMES = " ".join(f"WHEN '{name}' THEN '{limit.name}'" for name, limit in LIMITS.items())
# The usual case of reservations in one statement: their references are new, and all of a month and a format fit. Those
# of recipients who opted out are left out. The usage is null when the others do not fit. ON CONFLICT locks the usage
# and compares its newest version with the limit, so the limit is exact. The month must be that of `period_of` at the
# intake.
# The commit does not wait for the disk, because all sends of an organisation wait for the lock of its usage. A crash of
# PostgreSQL within the next half second can lose a reservation together with its usage. Intake then counts the parts
# of the message anew, as it does for every message without a reservation.
_RESERVE_NEW = Statement(
    f"""
    WITH {ORGANISATION_CTE}, given AS MATERIALIZED (
        SELECT o.id AS organisation_id, n.*, l.value, r.opted_out,
               CAST(date_trunc('month', n.scheduled_time AT TIME ZONE coalesce(z.value, '{DEFAULT_ZONE}')) AS date)
                   AS period
        FROM o CROSS JOIN (SELECT set_config('synchronous_commit', 'off', true) OFFSET 0) AS commit
        LEFT JOIN LATERAL (
            SELECT value FROM configs WHERE organisation_id = o.id AND name = '{TIMEZONE.name}') z ON true
        CROSS JOIN LATERAL unnest($2::uuid[], $3::text[], $4::bigint[], $5::timestamptz[], $6::text[], $7::bigint[])
            WITH ORDINALITY AS n (reference, format, parts, scheduled_time, phone, contact_id, position)
        LEFT JOIN LATERAL (
            SELECT value FROM configs WHERE organisation_id = o.id
                AND name = CASE n.format {_LIMIT_NAMES} END) l ON true
        CROSS JOIN LATERAL (SELECT o.id AS organisation_id, n.phone, n.contact_id OFFSET 0) m
        CROSS JOIN LATERAL (SELECT {RECIPIENT_OPTED_OUT.format(m="m")} AS opted_out) r
    ),
    wanted AS MATERIALIZED (
        SELECT organisation_id, period, format, value, CAST(sum(parts) AS bigint) AS parts
        FROM given WHERE NOT opted_out GROUP BY organisation_id, period, format, value
    ),
    added AS (
        INSERT INTO limit_usage AS u (organisation_id, period, format, usage)
        SELECT organisation_id, period, format, parts FROM wanted
        WHERE CASE WHEN value ~ '^{WHOLE_NUMBER}$' THEN parts <= CAST(value AS bigint) ELSE true END
        ORDER BY organisation_id, period, format
        ON CONFLICT (organisation_id, period, format) DO UPDATE SET usage = u.usage + excluded.usage
        WHERE (SELECT CASE WHEN w.value ~ '^{WHOLE_NUMBER}$' THEN u.usage + w.parts <= CAST(w.value AS bigint)
                           ELSE true END FROM wanted w WHERE w.period = u.period AND w.format = u.format)
        RETURNING u.organisation_id, u.period, u.format, u.usage
    ),
    made AS (
        INSERT INTO reservations (organisation_id, period, format, reference, parts, check_at)
        SELECT g.organisation_id, g.period, g.format, g.reference, g.parts, now() + make_interval(secs => {CHECK_S})
        FROM given g JOIN added a USING (period, format) WHERE NOT g.opted_out
    )
    SELECT g.opted_out, g.value, a.usage FROM given g LEFT JOIN added a USING (period, format) ORDER BY g.position
    """
)
_RELEASE = text(
    """
    DELETE FROM reservations WHERE reference = ANY(CAST(:references AS uuid[]))
    RETURNING organisation_id, period, format, parts
    """
)
_DUE = text("SELECT reference FROM reservations WHERE check_at <= now() ORDER BY check_at LIMIT :batch")
_POSTPONE = text(
    """
    UPDATE reservations SET check_at = now() + make_interval(secs => :check_s)
    WHERE reference = ANY(CAST(:references AS uuid[]))
    """
)
_MOVED = text(
    f"""
    SELECT m.organisation_id, m.period, m.format, m.parts
    FROM moved_usage m JOIN {_QUOTA.unnest("q")} USING (organisation_id, period, format)
    """
)
_SAVE_MOVED = text(
    f"""
    INSERT INTO moved_usage (organisation_id, period, format, parts) SELECT * FROM {_PARTS.unnest("q")}
    ON CONFLICT (organisation_id, period, format) DO UPDATE SET parts = excluded.parts
    """
)
# One statement, so that both sides are read at one moment. A failed message keeps its parts if a provider accepted it
# before, or may have it.
_DRIFT = text(
    f"""
    WITH counted AS (
        SELECT organisation_id, period, format, sum(parts) AS parts FROM (
            SELECT organisation_id, period, format, parts FROM messages
            WHERE period >= :since AND (status IN ({sql_list(COUNTS_AGAINST_LIMIT)})
                                        OR failure_category = 'outcome_unknown' OR sent_time IS NOT NULL)
            UNION ALL
            SELECT organisation_id, period, format, parts FROM reservations WHERE period >= :since
            UNION ALL
            SELECT organisation_id, period, format, parts FROM moved_usage WHERE period >= :since
        ) AS used GROUP BY 1, 2, 3
    )
    SELECT {columns(UsageDrift)} FROM (
        SELECT u.organisation_id, u.period, u.format, u.usage, CAST(coalesce(c.parts, 0) AS bigint) AS counted
        FROM limit_usage u LEFT JOIN counted c USING (organisation_id, period, format)
        WHERE u.period >= :since
    ) AS compared WHERE usage <> counted
    """
)


class ReserveResult(NamedTuple):
    """The result of a reservation. `value` is that of the limit's config; `is_new`: its parts were added now."""

    value: str | None
    is_reserved: bool
    is_new: bool


async def list_usage(session: AsyncSession, months: int) -> list[MonthUsage]:
    """Return the usage of the organisation of a tenant session in its last months, the newest first."""
    return read_rows(MonthUsage, await session.execute(_USAGE, {"rows": months * len(LIMITS)}))


async def lock_usage(session: AsyncSession, quotas: Collection[Quota]) -> dict[Quota, int]:
    """Lock the usage of these quotas, from zero where it is new, and return it."""
    rows = await session.execute(_LOCK, _QUOTA.bind(quotas))
    return {Quota(row.organisation_id, row.period, row.format): row.usage for row in rows}


async def add_usage(session: AsyncSession, parts: Mapping[Quota, int]) -> None:
    """Add parts to the usage, or return them when they are negative. The rows must be locked."""
    if parts:
        await session.execute(_ADD, _PARTS.bind(parts, parts=list(parts.values())))


async def reservations(session: AsyncSession, references: Collection[UUID]) -> dict[UUID, Reserved]:
    """Return the reservations that exist, by reference."""
    rows = await session.execute(_RESERVATIONS, {"references": list(references)})
    return {row.reference: Reserved(Quota(row.organisation_id, row.period, row.format), row.parts) for row in rows}


async def use_up(session: AsyncSession, demands: Iterable[tuple[UUID, int, Quota]]) -> set[UUID]:
    """Delete the reservations that have exactly these parts left, and return their references."""
    rows = [(reference, parts, *quota) for reference, parts, quota in demands]
    return set((await session.scalars(_USE_UP, _WHOLE.bind_tuples(rows))).all()) if rows else set()


async def draw(session: AsyncSession, parts: Mapping[UUID, int]) -> None:
    """Take parts out of reservations."""
    if parts:
        await session.execute(_DRAW, _DRAWN.bind_tuples(parts.items()))


async def reserve(session: AsyncSession, reference: UUID, quota: Quota, parts: int) -> ReserveResult:
    """Reserve the parts if they fit."""
    result = await session.execute(
        _RESERVE,
        {
            "reference": reference,
            "organisation": quota.organisation_id,
            "period": quota.period,
            "format": quota.format,
            "parts": parts,
            "limit_name": LIMITS[quota.format].name,
            "check_s": CHECK_S,
        },
    )
    return ReserveResult(*result.one())


class NewReservation(NamedTuple):
    """A result of `reserve_new`: the opt-out, the limit's config, and the new usage (None: the parts do not fit)."""

    opted_out: bool
    value: str | None
    usage: int | None


async def reserve_new(tenant: Tenant, wanted: Sequence[ReservationIn]) -> list[NewReservation] | None:
    """Reserve parts in the usual case, unless a recipient opted out. Return None when a reference exists."""
    names = ("reference", "format", "parts", "scheduled_time", "phone", "contact_id")
    try:
        rows = await tenant.fetch(_RESERVE_NEW, *([getattr(one, name) for one in wanted] for name in names))
    except asyncpg.UniqueViolationError:
        return None
    return [NewReservation(*row) for row in rows]


async def release(session: AsyncSession, references: Collection[UUID]) -> dict[Quota, int]:
    """Delete reservations. Return the parts that were left in them, by quota."""
    left: dict[Quota, int] = {}
    for row in await session.execute(_RELEASE, {"references": list(references)}):
        quota = Quota(row.organisation_id, row.period, row.format)
        left[quota] = left.get(quota, 0) + row.parts
    return left


async def due_reservations_all_tenants(session: AsyncSession, batch: int) -> Sequence[UUID]:
    """Return the references of reservations that are to be checked."""
    return (await session.scalars(_DUE, {"batch": batch})).all()


async def postpone_reservations_all_tenants(session: AsyncSession, references: Collection[UUID]) -> None:
    """Check these reservations again after `RECHECK_S`."""
    await session.execute(_POSTPONE, {"references": list(references), "check_s": RECHECK_S})


async def moved_usage(session: AsyncSession, quotas: Collection[Quota]) -> dict[Quota, int]:
    """Return the parts in the usage of these quotas that an earlier system sent."""
    rows = await session.execute(_MOVED, _QUOTA.bind(quotas))
    return {Quota(row.organisation_id, row.period, row.format): row.parts for row in rows}


async def save_moved_usage(session: AsyncSession, parts: Mapping[Quota, int]) -> None:
    """Save the parts that an earlier system sent. Their usage must be locked."""
    await session.execute(_SAVE_MOVED, _PARTS.bind(parts, parts=list(parts.values())))


async def drift_all_tenants(session: AsyncSession, since: date) -> list[UsageDrift]:
    """Return the quotas, from a month on, whose usage is not what messages and reservations add up to."""
    return read_rows(UsageDrift, await session.execute(_DRIFT, {"since": since}))
