"""The stage of delivery's tests: a database, a fake provider, and the steps between them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

from sqlalchemy import text

from common.database import Database
from common.events import TOPICS, ScheduleDue
from delivery.messages import service as messages
from delivery.providers.mobile_message import MobileMessage, MobileMessageSettings
from delivery.sending import loops
from delivery.sending.provider_worker import ProviderWorker
from delivery.sending.routing import Availability, Router
from delivery.sending.rules import SendingPolicy
from delivery.settings import Settings
from services.delivery.tests.fake_provider import Clock, FakeProvider

DEADLINE_S = 86_400.0
_schedules = count(1)

# Nothing comes due by itself within a test. Tests change the times of rows instead.
POLICY = SendingPolicy(lease_s=300, max_attempts=3, retry_base_s=600, replay_after_s=600, replay_window_s=43_200)


@dataclass
class Stage:
    """What most tests of delivery need. `provider` is the fake provider, which workers made here use."""

    database: Database
    organisation: str
    provider: FakeProvider
    make_settings: Callable[..., Settings]
    clock: Clock = field(default_factory=Clock)
    policy: SendingPolicy = POLICY
    workers: list[ProviderWorker] = field(default_factory=list)

    def due(self, **changes: Any) -> ScheduleDue:
        """Return the due event of a new schedule of the organisation."""
        schedule_id = changes.get("schedule_id", next(_schedules))
        values: dict[str, Any] = {
            "organisation_id": self.organisation,
            "schedule_id": schedule_id,
            "dispatch_number": 1,
            "phone": "+61453000001",
            "text": "Hi Ana",
            "format": "sms",
            "parts": 1,
            "scheduled_time": datetime.now(UTC),
            "lane": "single",
            **changes,
        }
        return ScheduleDue(event_id=ScheduleDue.id_of(schedule_id, values["dispatch_number"]), **values)

    async def add_due(self, *events: ScheduleDue) -> None:
        """Add the messages of due events, as the intake does with one batch."""
        async with self.database.all_tenants() as session:
            await messages.add_due(session, events, DEADLINE_S)

    async def rows(self, statement: str, **parameters: Any) -> list[Any]:
        """Return the rows of a statement, across all organisations."""
        async with self.database.all_tenants() as session:
            return list((await session.execute(text(statement), parameters)).all())

    async def execute(self, statement: str, **parameters: Any) -> None:
        """Execute a statement, which moves times or creates what a test needs."""
        async with self.database.all_tenants() as session:
            await session.execute(text(statement), parameters)

    async def message(self) -> Any:
        """Return the row of the only message."""
        (row,) = await self.rows("SELECT * FROM messages")
        return row

    async def statuses(self) -> list[str]:
        """Return the statuses of the messages, by schedule."""
        return [row.status for row in await self.rows("SELECT status FROM messages ORDER BY schedule_id, id")]

    async def failures(self) -> list[tuple[str, str | None]]:
        """Return the status and the failure category of the messages, by id."""
        rows = await self.rows("SELECT status, failure_category FROM messages ORDER BY id")
        return [(row.status, row.failure_category) for row in rows]

    async def usage(self) -> int:
        """Return the parts that count against all limits."""
        return sum(row.usage for row in await self.rows("SELECT usage FROM limit_usage"))

    async def events(self) -> list[Any]:
        """Return the events in the outbox, in order."""
        rows = await self.rows("SELECT topic, body FROM outbox ORDER BY id")
        return [TOPICS[row.topic].model_validate_json(row.body) for row in rows]

    async def set_config(self, name: str, value: str) -> None:
        """Set a config of the organisation."""
        await self.execute(
            "INSERT INTO configs (organisation_id, name, value) VALUES (:organisation, :name, :value)"
            " ON CONFLICT (organisation_id, name) DO UPDATE SET value = EXCLUDED.value",
            organisation=self.organisation,
            name=name,
            value=value,
        )

    async def assign(self, sender_id: str, organisation: str | None = None) -> None:
        """Assign a sender ID, in its canonical form, to the organisation or to another."""
        await self.execute(
            "INSERT INTO sender_ids (sender_id, organisation_id) VALUES (:sender_id, :organisation)",
            sender_id=sender_id,
            organisation=organisation or self.organisation,
        )

    async def opt_out(self, phone: str, contact_id: int = 5) -> None:
        """Opt a contact with this phone out."""
        await self.execute(
            "INSERT INTO contact_opt_outs VALUES (:organisation, :contact, :phone, true, 1)",
            organisation=self.organisation,
            contact=contact_id,
            phone=phone,
        )

    def make_worker(self, request_timeout_s: float = 10.0, **own: Any) -> ProviderWorker:
        """Return a worker that sends SMS to the fake provider. `own` are settings of Mobile Message."""
        values = {"base_url": self.provider.url, "username": "user", "password": "password", "sender_id": "Cooee"}
        values |= {"concurrency": 8, **own}
        provider = MobileMessage(
            self.make_settings(request_timeout_s=request_timeout_s, lease_s=300), MobileMessageSettings(**values)
        )
        worker = ProviderWorker(provider, ["sms"], self.policy, Availability(self.clock))
        self.workers.append(worker)
        return worker

    async def claim(self, worker: ProviderWorker) -> None:
        """Claim once, as the only worker of the process, and start the requests."""
        router = Router({"sms": [worker.provider.name]}, Availability(self.clock))
        await loops.send_queued(self.database, router, worker)

    async def send(self, worker: ProviderWorker) -> None:
        """Claim once, wait for the answers and record them."""
        await self.claim(worker)
        await loops.drain(self.database, worker)

    async def resend(self, worker: ProviderWorker) -> None:
        """Make every submission due, resolve them, wait for the answers and record them."""
        await self.execute("UPDATE submissions SET due_at = now()")
        await loops.resolve_submissions(self.database, worker)
        await loops.drain(self.database, worker)

    async def close(self) -> None:
        """Wait for the requests of the workers, and close their connections."""
        for worker in self.workers:
            await worker.drain()
            await worker.provider.close()
