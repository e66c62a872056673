"""Rows of a whole organisation, written by SQL as the administrator, whom row-level security does not bind.

The triggers of the tables run as always, so counters are right. Schedules and messages are those of the last 100 days,
and all of them have their outcome, so that no worker touches them.
"""
# ruff: noqa: S608  # the parts of the statements are constants of this file

from dataclasses import dataclass
from typing import Any

RARE, COMMON = "zebulon", "nguyen"
"""Five contacts have the rare name, and a tenth have the common one."""
FREQUENT_PHONE = "+61442999999"
"""The phone of 100 messages of each organisation, whatever its size."""
DAYS = 97
_STEP = 100_000
_NUMBER = "'+614' || lpad((43000000 + {n})::text, 8, '0')"

_CONTACTS = f"""
    INSERT INTO contacts (organisation_id, first_name, last_name, phone, created_at, updated_at)
    SELECT $1,
           CASE WHEN n < 5 THEN 'Zebulon' ELSE (ARRAY['Anna', 'Liam', 'Mia', 'Noah', 'Zoe', 'Jack', 'Ruby', 'Leo',
                                                      'Ella', 'Max'])[1 + n % 10] || n % 97 END,
           (ARRAY['Smith', 'Nguyen', 'Jones', 'Williams', 'Brown', 'Wilson', 'Taylor', 'Singh', 'Martin',
                  'Kelly'])[1 + n / 10 % 10] || n % 89,
           {_NUMBER.format(n="n")}, at, at
    FROM generate_series($2::int, $3::int - 1) n, LATERAL (SELECT now() - make_interval(secs => $4 - n) AS at) t
"""
_SCHEDULES = f"""
    INSERT INTO schedules (organisation_id, kind, status, contact_id, contact_version, phone, fields, text,
                           message_parts, scheduled_time, format, dispatch_number, provider, sent_time,
                           failure_category, error, request_id)
    SELECT $1, 'single', CASE WHEN failed THEN 'failed' ELSE 'sent' END, $5::bigint + n % $4::int, 1,
           CASE WHEN n % ($6::int / 100) = 0 THEN '{FREQUENT_PHONE}' ELSE {_NUMBER.format(n="n % $4")} END, '{{}}',
           'Your appointment is tomorrow at 10:30.', 1, at, 'sms', 1, 'mobile_message',
           CASE WHEN NOT failed THEN at END, CASE WHEN failed THEN 'invalid_number' END,
           CASE WHEN failed THEN 'The number is not a mobile.' END, 'growth'
    FROM generate_series($2::int, $3::int - 1) n, LATERAL (
        SELECT date_trunc('day', now()) - make_interval(days => 1 + n % {DAYS}, secs => n / {DAYS} * 37 % 86400) AS at,
               n % 101 = 0 AS failed) t
"""
_BATCH = """
    INSERT INTO schedules (organisation_id, kind, status, group_id, group_name, name, text, scheduled_time, next_due_at,
                           format, message_count, fanned_out_at, sent_time, request_id)
    SELECT $1, 'batch', 'sent', 1, 'Everyone', 'growth', 'The clinic is closed.', at, at, 'sms', $2, at, at, 'growth'
    FROM (SELECT now() - interval '1 day' AS at) t
    RETURNING id
"""
_BATCH_MESSAGES = f"""
    INSERT INTO schedules (organisation_id, kind, status, batch_id, batch_position, contact_id, contact_version, phone,
                           dispatch_number, provider, sent_time)
    SELECT $1, 'batch_message', 'sent', $5::bigint, n + 1, $4::bigint + n, 1, {_NUMBER.format(n="n")}, 1,
           'mobile_message', now() - interval '1 day'
    FROM generate_series($2::int, $3::int - 1) n
"""
# Each single schedule has its message.
_MESSAGES = """
    INSERT INTO messages (organisation_id, schedule_id, dispatch_number, contact_id, phone, text, format, parts,
                          scheduled_time, period, deadline, lane, status, version, attempts, provider,
                          provider_message_id, sent_time, failure_category, error, request_id, created_at, changed_at)
    SELECT organisation_id, id, 1, contact_id, phone, text, 'sms', 1, scheduled_time,
           date_trunc('month', scheduled_time)::date, scheduled_time + interval '1 day', 'single',
           CASE WHEN status = 'failed' THEN 'failed' ELSE 'delivered' END, 1, 1, provider, 'growth-' || id, sent_time,
           failure_category, error, request_id, scheduled_time, scheduled_time
    FROM scheduling.schedules WHERE organisation_id = $1 AND kind = 'single' AND id >= $2 AND id < $3
"""


@dataclass(frozen=True)
class Filled:
    """What an organisation was filled with."""

    contacts: int
    schedules: int
    batch_id: int


async def fill(connection: Any, organisation: str, *, contacts: int, schedules: int) -> Filled:
    """Write an organisation: its contacts, a batch to all of them, single schedules, and the messages of those.

    `connection` is asyncpg's, of the administrator. `schedules` must be at least 100.
    """
    await connection.execute("SET search_path = contacts")
    for start, end in _steps(contacts):
        await connection.execute(_CONTACTS, organisation, start, end, contacts)
    first = await connection.fetchval("SELECT min(id) FROM contacts WHERE organisation_id = $1", organisation)
    await connection.execute("SET search_path = scheduling")
    batch_id = await connection.fetchval(_BATCH, organisation, contacts)
    for start, end in _steps(contacts):
        await connection.execute(_BATCH_MESSAGES, organisation, start, end, first, batch_id)
    for start, end in _steps(schedules):
        values = (start, end, contacts, first, schedules)
        await connection.execute(_SCHEDULES, organisation, *values)
    await connection.execute("SET search_path = delivery, scheduling")
    await _fill_messages(connection, organisation)
    return Filled(contacts, schedules, batch_id)


async def _fill_messages(connection: Any, organisation: str) -> None:
    low, high = await connection.fetchrow(
        "SELECT min(id), max(id) FROM schedules WHERE organisation_id = $1 AND kind = 'single'", organisation
    )
    for start, end in _steps(high - low + 1):
        await connection.execute(_MESSAGES, organisation, low + start, low + end)


async def vacuum(connection: Any) -> None:
    """Do what autovacuum would do in time: statistics, the visibility map, and the pending entries of indexes."""
    for table in ("contacts.contacts", "scheduling.schedules", "delivery.messages"):
        await connection.execute(f"VACUUM (ANALYZE) {table}")


def _steps(count: int) -> list[tuple[int, int]]:
    """Return the starts and exclusive ends of the statements that write `count` rows."""
    return [(start, min(start + _STEP, count)) for start in range(0, count, _STEP)]
