"""What the system itself shows after a chaos run: the schemas of the services, the audit, and the handset."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from common.database import Database
from delivery.limits.service import find_drift
from delivery.models import UsageDrift
from tools.chaos.audit import LEFT, TIMEOUT_S

_SCHEDULES = """
    SELECT id, organisation_id, kind, status, batch_id, contact_id, phone, text, dispatch_number, message_count,
           failure_category
    FROM scheduling.shown_schedules ORDER BY id
"""
_MESSAGES = """
    SELECT id, organisation_id, schedule_id, dispatch_number, phone, parts, format, status, failure_category,
           sent_time IS NOT NULL AS was_sent
    FROM delivery.messages ORDER BY id
"""
_TRIES = "SELECT unnest(message_ids) AS message_id, key, extract(epoch FROM began)::float8 AS began FROM chaos.tries"
_DISPATCHES = "SELECT schedule_id, dispatch_number, extract(epoch FROM began)::float8 AS began FROM chaos.dispatches"
_USAGE = "SELECT organisation_id, format, sum(usage)::bigint AS usage FROM delivery.limit_usage GROUP BY 1, 2"
_PEAKS = "SELECT organisation_id, format, max(usage) AS usage FROM chaos.usages GROUP BY 1, 2"


class ScheduleRow(NamedTuple):
    """A schedule, a batch or a message of a batch, as the API shows it."""

    id: int
    organisation_id: str
    kind: str
    status: str
    batch_id: int | None
    contact_id: int | None
    phone: str | None
    text: str
    dispatch_number: int
    message_count: int | None
    failure_category: str | None


class MessageRow(NamedTuple):
    """A message of delivery: one dispatch of a schedule, or an auto-reply."""

    id: int
    organisation_id: str
    schedule_id: int | None
    dispatch_number: int
    phone: str
    parts: int
    format: str
    status: str
    failure_category: str | None
    was_sent: bool


class Arrival(NamedTuple):
    """A message on the handset. `message_id` is delivery's, from the reference."""

    message_id: int
    to: str
    text: str
    at: float


@dataclass
class Evidence:
    """Everything that the comparison reads. Times are in Unix seconds.

    `tries`: message → when the transactions of its tries began, with the keys of their submissions. `dispatches`:
    (schedule, dispatch number) → when the transaction began.
    `usage` and `peaks`: (organisation, format) → the usage at the end, and the highest ever.
    """

    schedules: list[ScheduleRow] = field(default_factory=list)
    messages: list[MessageRow] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    tries: dict[int, list[tuple[float, UUID]]] = field(default_factory=dict)
    dispatches: dict[tuple[int, int], float] = field(default_factory=dict)
    usage: dict[tuple[str, str], int] = field(default_factory=dict)
    peaks: dict[tuple[str, str], int] = field(default_factory=dict)
    drift: list[UsageDrift] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)


async def collect(admin_url: str, delivery_url: str, received: list[dict[str, Any]]) -> Evidence:
    """Read the schemas and the audit. `received` are the messages of the handset, as its API shows them."""
    connection = await asyncpg.connect(admin_url, timeout=TIMEOUT_S)
    evidence = Evidence()
    try:
        evidence.schedules = [ScheduleRow(*row) for row in await connection.fetch(_SCHEDULES)]
        evidence.messages = [MessageRow(*row) for row in await connection.fetch(_MESSAGES)]
        for message_id, key, began in await connection.fetch(_TRIES):
            evidence.tries.setdefault(message_id, []).append((began, key))
        for schedule_id, number, began in await connection.fetch(_DISPATCHES):
            evidence.dispatches.setdefault((schedule_id, number), began)
        evidence.usage = {(row[0], row[1]): row[2] for row in await connection.fetch(_USAGE)}
        evidence.peaks = {(row[0], row[1]): row[2] for row in await connection.fetch(_PEAKS)}
        evidence.left = {name: await connection.fetchval(statement) for name, statement in LEFT.items()}
    finally:
        await connection.close()
    evidence.drift = await _find_drift(delivery_url)
    evidence.arrivals = [_arrival(message) for message in received]
    return evidence


async def _find_drift(delivery_url: str) -> list[UsageDrift]:
    database = Database(delivery_url, "chaos", tenant_pool=1, all_pool=1)
    try:
        async with asyncio.timeout(TIMEOUT_S), database.all_tenants() as session:
            return await find_drift(session, datetime.now(UTC).date())
    finally:
        await database.close()


def _arrival(message: dict[str, Any]) -> Arrival:
    at = datetime.fromisoformat(message["received_at"]).timestamp()
    return Arrival(int(message["reference"].rpartition("-")[2]), message["to"], message["text"], at)
