"""Every statement that writes the templates and schedules of an earlier system, and the check of them."""
# ruff: noqa: S608 (the parts of the statements are constants)

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from common.moved_rows import to_json
from scheduling.models import SUCCESSFUL, sql_list
from scheduling.moving_in.schemas import MovedUsage, ScheduleIn, TemplateIn

_TYPES = {
    **dict.fromkeys(
        ("old_id", "batch_id", "group_id", "contact_id", "contact_version", "template_id", "created_by", "updated_by"),
        "bigint",
    ),
    **dict.fromkeys(("scheduled_time", "sent_time", "created_at", "updated_at"), "timestamptz"),
    "month": "date",
    "is_active": "boolean",
    "message_parts": "int",
    "fields": "jsonb",
    "new_id": "bigint",
}


def _given(row_class: type[Any], *further: str) -> str:
    """Return the rows of the parameter `rows` as a table `n`."""
    columns = ", ".join(f"{name} {_TYPES.get(name, 'text')}" for name in (*row_class._fields, *further))
    return f"json_to_recordset(CAST(:rows AS json)) AS n ({columns})"


_TEMPLATE = ("organisation_id", "name", "text", "is_active", "created_by", "updated_by", "created_at", "updated_at")
_ADD_VERSION = """
    INSERT INTO template_versions (organisation_id, template_id, version, name, text, created_by, created_at)
    SELECT organisation_id, id, version, name, text, updated_by, updated_at FROM written
"""
_ADD_TEMPLATES = text(
    f"""
    WITH given AS MATERIALIZED (
        SELECT nextval('templates_id_seq') AS id, n.* FROM {_given(TemplateIn)} ORDER BY n.old_id
    ), written AS (
        INSERT INTO templates (id, {", ".join(_TEMPLATE)}) OVERRIDING SYSTEM VALUE
        SELECT id, {", ".join(_TEMPLATE)} FROM given RETURNING *
    ), added AS ({_ADD_VERSION})
    SELECT old_id, id FROM given
    """
)
_CHANGE_TEMPLATES = text(
    f"""
    WITH written AS (
        UPDATE templates t SET name = n.name, text = n.text, is_active = n.is_active, version = t.version + 1,
            updated_by = n.updated_by, updated_at = n.updated_at
        FROM {_given(TemplateIn, "new_id")} WHERE t.id = n.new_id AND t.organisation_id = n.organisation_id
        RETURNING t.*
    )
    {_ADD_VERSION}
    """
)
_OWN = ("text", "template_id", "template_version", "format", "media_url", "subject")
_SAME = "n.text = b.text AND n.format = b.format AND n.media_url IS NOT DISTINCT FROM b.media_url"
# The columns of a schedule with their values. A message of a batch stores what differs from its batch. Its `b` is null
# for the others.
_VALUES = {
    **{name: f"n.{name}" for name in ("status", "group_name", "contact_id", "contact_version", "phone", "fields")},
    "group_id": "CASE WHEN n.batch_id IS NULL THEN n.group_id END",
    "name": "CASE WHEN n.batch_id IS NULL THEN n.name END",
    **{name: f"CASE WHEN {_SAME} THEN NULL ELSE n.{name} END" for name in _OWN if name != "template_version"},
    "template_version": f"CASE WHEN n.template_id IS NULL OR {_SAME} THEN NULL ELSE 1 END",
    "scheduled_time": "nullif(n.scheduled_time, b.scheduled_time)",
    "next_due_at": "CASE WHEN n.kind = 'batch' THEN n.scheduled_time END",
    **{name: f"n.{name}" for name in ("message_parts", "sent_time", "error", "failure_category")},
    **{name: f"n.{name}" for name in ("created_by", "updated_by", "created_at", "updated_at")},
}
_BATCH = "LEFT JOIN schedules b ON b.id = n.batch_id AND b.organisation_id = n.organisation_id"
# The lease never ends, so no worker fans the batch out: its messages are those of the earlier system.
_ADD_SCHEDULES = text(
    f"""
    WITH given AS MATERIALIZED (
        SELECT nextval('schedules_id_seq') AS id, n.*,
               row_number() OVER (PARTITION BY n.batch_id ORDER BY n.old_id) AS position
        FROM {_given(ScheduleIn)} ORDER BY n.old_id
    ), filled AS MATERIALIZED (
        SELECT g.batch_id, coalesce((SELECT max(m.batch_position) FROM schedules m
                                     WHERE m.kind = 'batch_message' AND m.batch_id = g.batch_id), 0) AS last_position
        FROM (SELECT DISTINCT batch_id FROM given WHERE batch_id IS NOT NULL) g
    ), added AS (
        INSERT INTO schedules (id, organisation_id, kind, batch_id, batch_position, message_count, fan_out_lease_until,
                               request_id, {", ".join(_VALUES)}) OVERRIDING SYSTEM VALUE
        SELECT n.id, n.organisation_id, n.kind, n.batch_id, f.last_position + n.position,
               CASE WHEN n.kind = 'batch' THEN 0 END,
               CASE WHEN n.kind = 'batch' THEN timestamptz 'infinity' END, 'moved-in', {", ".join(_VALUES.values())}
        FROM given n LEFT JOIN filled f ON f.batch_id = n.batch_id {_BATCH}
    )
    SELECT old_id, id FROM given
    """
)
# What was sent, changed or removed here stays as it is.
_CHANGE_SCHEDULES = text(
    f"""
    UPDATE schedules s SET {", ".join(f"{name} = v.{name}" for name in _VALUES)}
    FROM (SELECT n.new_id, n.organisation_id AS owner,
                 {", ".join(f"{value} AS {name}" for name, value in _VALUES.items())}
          FROM {_given(ScheduleIn, "new_id")} {_BATCH}) v
    WHERE s.id = v.new_id AND s.organisation_id = v.owner AND s.dispatch_number = 0 AND s.request_id = 'moved-in'
      AND NOT s.content_removed
    RETURNING s.id
    """
)
# A batch is complete when all of its messages are written. Its workers may finish it then.
_COMPLETE_BATCHES = text(
    """
    WITH page AS MATERIALIZED (
        SELECT old_id, new_id, organisation_id FROM moved_rows
        WHERE kind = 'batch' AND system = :system AND old_id > :after
          AND organisation_id = ANY(CAST(:organisations AS text[]))
        ORDER BY old_id LIMIT :size
    ), counted AS MATERIALIZED (
        SELECT p.new_id, p.organisation_id,
               (SELECT coalesce(sum(c.total), 0) FROM batch_counts c
                WHERE c.organisation_id = p.organisation_id AND c.batch_id = p.new_id) AS messages,
               (SELECT min(m.scheduled_time) FROM schedules m
                WHERE m.batch_id = p.new_id AND m.kind = 'batch_message' AND m.status = 'pending') AS first_due
        FROM page p
    ), completed AS (
        UPDATE schedules b
        SET message_count = c.messages, fanned_out_at = coalesce(b.fanned_out_at, now()),
            next_due_at = least(b.next_due_at, c.first_due)
        FROM counted c
        WHERE b.id = c.new_id AND b.organisation_id = c.organisation_id
          AND (b.fanned_out_at IS NULL OR b.message_count IS DISTINCT FROM c.messages)
        RETURNING b.id
    )
    SELECT max(old_id) AS last, count(*) AS size, (SELECT count(*) FROM completed) AS completed FROM page
    """
)
_ZONES = Columns(organisation_id="text", zone="text")
_JOINS = """
    JOIN schedules s ON s.id = m.new_id AND s.organisation_id = m.organisation_id
    LEFT JOIN schedules b ON b.id = s.batch_id AND b.organisation_id = s.organisation_id
"""
_USAGE = text(
    f"""
    SELECT organisation_id, period, format, CAST(sum(message_parts) AS bigint) AS parts FROM (
        SELECT m.organisation_id, coalesce(s.format, b.format) AS format, s.message_parts,
               CAST(date_trunc('month', coalesce(s.scheduled_time, b.scheduled_time) AT TIME ZONE z.zone) AS date)
                   AS period
        FROM moved_rows m {_JOINS} JOIN {_ZONES.unnest("z")} ON z.organisation_id = m.organisation_id
        WHERE m.kind IN ('schedule', 'batch_message') AND s.dispatch_number = 0
          AND (s.status IN ({sql_list(SUCCESSFUL)}) OR s.failure_category = 'outcome_unknown')
          AND m.month >= CAST(:since AS date) - 31
    ) AS sent WHERE period >= :since AND message_parts IS NOT NULL GROUP BY 1, 2, 3
    """
)
_MICROSECONDS = "CAST(extract(epoch FROM {}) * 1000000 AS bigint)"
_CHECKED_SCHEDULE = (
    *("m.old_id", "s.phone", _MICROSECONDS.format("coalesce(s.scheduled_time, b.scheduled_time)")),
    *("coalesce(s.format, b.format)", "CASE WHEN m.is_compared THEN s.status END"),
    "CASE WHEN m.is_compared THEN s.message_parts END",
)
CHECKS = {
    "template": (
        ("m.old_id", "t.name", "t.text", "CAST(t.is_active AS int)"),
        "JOIN templates t ON t.id = m.new_id AND t.organisation_id = m.organisation_id",
    ),
    **dict.fromkeys(("schedule", "batch", "batch_message"), (_CHECKED_SCHEDULE, _JOINS)),
}


async def add_templates_all_tenants(session: AsyncSession, rows: Sequence[TemplateIn]) -> dict[int, int]:
    """Add templates with their version 1, and return their ids by old id."""
    return {row.old_id: row.id for row in await session.execute(_ADD_TEMPLATES, {"rows": to_json(rows)})}


async def change_templates_all_tenants(
    session: AsyncSession, rows: Sequence[TemplateIn], new_ids: Mapping[int, int]
) -> None:
    """Write a new version of templates whose rows changed."""
    await session.execute(_CHANGE_TEMPLATES, {"rows": to_json(rows, new_ids)})


async def add_schedules_all_tenants(session: AsyncSession, rows: Sequence[ScheduleIn]) -> dict[int, int]:
    """Add schedules and return their ids by old id."""
    return {row.old_id: row.id for row in await session.execute(_ADD_SCHEDULES, {"rows": to_json(rows)})}


async def change_schedules_all_tenants(
    session: AsyncSession, rows: Sequence[ScheduleIn], new_ids: Mapping[int, int]
) -> set[int]:
    """Change schedules whose rows changed, unless they were dispatched or removed here. Return the changed ids."""
    return set((await session.scalars(_CHANGE_SCHEDULES, {"rows": to_json(rows, new_ids)})).all())


async def complete_batches_all_tenants(
    session: AsyncSession, system: str, organisations: Collection[str], *, after: int, size: int
) -> tuple[int | None, int]:
    """Count the messages of a page of batches. Return the last old id, None after the last page, and the changed."""
    values = {"system": system, "organisations": list(organisations), "after": after, "size": size}
    row = (await session.execute(_COMPLETE_BATCHES, values)).one()
    return row.last if row.size == size else None, row.completed


async def usage_all_tenants(session: AsyncSession, zones: Mapping[str, str], since: date) -> list[MovedUsage]:
    """Return the sent parts by organisation, month from `since` on, and format."""
    values = _ZONES.bind_tuples(zones.items()) | {"since": since}
    return [MovedUsage(*row) for row in await session.execute(_USAGE, values)]
