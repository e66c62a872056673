"""A small run that kept every promise, in the real tables of the services and as the records of its clients."""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from common.database import Database
from tools.chaos.audit import AUDIT
from tools.chaos.checks import Comparison
from tools.chaos.evidence import collect
from tools.chaos.records import Records, Request, make_text
from tools.embedded.environment import STORES

ORGANISATION, TOKEN, PHONE = "org_1", "C1-O1-N1", "+61491570006"
CONTACT = 5
_SCHEDULE = """
    INSERT INTO scheduling.schedules (organisation_id, kind, status, phone, contact_id, text, scheduled_time, format)
    VALUES ($1, 'single', 'pending', $2, $3, $4, now(), 'sms') RETURNING id
"""
_MESSAGE = """
    INSERT INTO delivery.messages (organisation_id, schedule_id, dispatch_number, phone, text, format, parts,
                                   scheduled_time, period, deadline, lane, status, sent_time, request_id)
    VALUES ($1, $2, 1, $3, $4, 'sms', 1, now(), date_trunc('month', now()), now() + interval '1 day', 'single', 'sent',
            now(), 'r1') RETURNING id
"""
_SUBMISSION = """
    INSERT INTO delivery.submissions (key, provider, message_ids, body, due_at, give_up_at)
    VALUES (gen_random_uuid(), 'mobile_message', ARRAY[$1::bigint], '', now(), now())
"""
_USAGE = "INSERT INTO delivery.limit_usage VALUES ($1, date_trunc('month', now()), 'sms', $2)"


@dataclass
class Stage:
    """The tables of a run, the records of its clients, and what the handset received."""

    connection: "asyncpg.Connection[asyncpg.Record]"
    admin_url: str
    delivery_url: str
    records: Records = field(default_factory=Records)
    received: list[dict[str, Any]] = field(default_factory=list)
    schedule_id: int = 0
    message_id: int = 0

    async def sql(self, statement: str, *values: object) -> None:
        """Execute a statement as administrator."""
        await self.connection.execute(statement, *values)

    async def add_sent_message(self) -> None:
        """Store one message that was sent by every promise: dispatched, submitted, arrived, counted."""
        text = make_text(TOKEN, 1, "Hello")
        self.records.limits[ORGANISATION] = [10]
        find = self.connection.fetchval
        self.schedule_id = await find(_SCHEDULE, ORGANISATION, PHONE, CONTACT, text)
        dispatch = "UPDATE scheduling.schedules SET status = 'processing', dispatch_number = 1 WHERE id = $1"
        await self.sql(dispatch, self.schedule_id)
        await self.sql(_USAGE, ORGANISATION, 1)
        self.message_id = await find(_MESSAGE, ORGANISATION, self.schedule_id, PHONE, text)
        await self.sql(_SUBMISSION, self.message_id)
        await self.sql("DELETE FROM delivery.submissions")
        await self.sql("UPDATE scheduling.schedules SET status = 'sent' WHERE id = $1", self.schedule_id)
        self.records.requests[TOKEN] = Request(ORGANISATION, TOKEN, is_batch=False, status=202, id=self.schedule_id)
        self.arrive(text)

    def arrive(self, text: str) -> None:
        """Add an arrival of the message to what the handset received, as its API shows it."""
        at = datetime.fromtimestamp(time.time(), UTC).isoformat()
        reference = f"abc123-{self.message_id}"
        self.received.append({"received_at": at, "to": PHONE, "text": text, "reference": reference})

    async def violations(self) -> dict[int, list[str]]:
        """Return promise → its violations."""
        evidence = await collect(self.admin_url, self.delivery_url, self.received)
        found: dict[int, list[str]] = {}
        for violation in Comparison(self.records, evidence).violations():
            found.setdefault(violation.promise, []).append(violation.what)
        return found


@pytest.fixture(scope="session")
def urls(service_url: Callable[[str], str]) -> dict[str, str]:
    """Return service → the URL of its database."""
    return {service: service_url(service) for service in STORES}


@pytest.fixture
async def stage(urls: dict[str, str], postgres_url: str, open_database: Callable[..., Any]) -> AsyncIterator[Stage]:
    """Return the stage with one sent message."""
    opened: list[Database] = [await open_database(url, service) for service, url in urls.items()]
    connection = await asyncpg.connect(postgres_url, server_settings={"search_path": "scheduling"})
    await connection.execute("DROP SCHEMA IF EXISTS chaos CASCADE")
    await connection.execute(AUDIT)
    made = Stage(connection, postgres_url, urls["delivery"])
    await made.add_sent_message()
    yield made
    await connection.execute("DROP SCHEMA chaos CASCADE")
    await connection.close()
    for database in opened:
        await database.close()
