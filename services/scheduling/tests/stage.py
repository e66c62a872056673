"""The stage of scheduling's tests: its API, database and loops, and the stand-ins for the other services."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from aiokafka import ConsumerRecord
from sqlalchemy import Row, text

from common.database import Database
from common.events import (
    TOPICS,
    ContactChanged,
    ContactState,
    Event,
    MessageDelayed,
    MessageDelivered,
    MessageFailed,
    MessageSent,
    ScheduleDue,
)
from scheduling.batches import loops as batches
from scheduling.clients.services import OtherServices
from scheduling.dispatch.loops import dispatch_due
from scheduling.outcomes.consumers import OUTCOMES, on_outcomes
from scheduling.outcomes.loops import sweep
from scheduling.recipients.consumers import on_contact_changed
from scheduling.retries.loops import continue_retries
from scheduling.settings import Settings
from services.scheduling.tests.other_services import ContactsStandIn, DeliveryStandIn

TIME = datetime(2026, 12, 1, tzinfo=UTC)
FIVE_PAST = datetime(2026, 12, 1, 0, 5, tzinfo=UTC)
Consumer = Callable[[Database, Sequence[ConsumerRecord]], Awaitable[None]]


class Client:
    """The API as one member of one organisation calls it."""

    def __init__(self, http: httpx.AsyncClient, headers: dict[str, str]) -> None:
        self.http = http
        self.headers = headers

    async def __call__(self, method: str, path: str, json: Any = None, **more: Any) -> httpx.Response:
        headers = {**self.headers, **more.pop("headers", {})}
        return await self.http.request(method, path, json=json, headers=headers, **more)

    async def ok(self, method: str, path: str, json: Any = None, **more: Any) -> Any:
        """Return the body of a successful answer."""
        answer = await self(method, path, json, **more)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None


def record(value: bytes, topic: str, offset: int = 0) -> ConsumerRecord:
    """Return a Kafka record with this value."""
    return ConsumerRecord(
        topic=topic,
        partition=0,
        offset=offset,
        timestamp=0,
        timestamp_type=0,
        key=b"key",
        value=value,
        checksum=None,
        serialized_key_size=3,
        serialized_value_size=len(value),
        headers=(),
    )


def records(*events: Event) -> list[ConsumerRecord]:
    """Return the events as a batch of Kafka records."""
    return [record(event.model_dump_json().encode(), event.topic, offset) for offset, event in enumerate(events)]


def soon() -> str:
    """Return a time within the next hour, as a body has it."""
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


@dataclass
class Stage:
    """The parts of scheduling that a test uses. `client` belongs to `organisation`, `other` to another organisation."""

    organisation: str
    client: Client
    other: Client
    delivery_client: Client
    contacts: ContactsStandIn
    delivery: DeliveryStandIn
    services: OtherServices
    settings: Settings
    database: Database

    # Rows and events

    async def rows(self, statement: str, **values: Any) -> list[Row[Any]]:
        """Execute a statement across all organisations and return its rows."""
        async with self.database.all_tenants() as session:
            result = await session.execute(text(statement), values)
            return list(result.all()) if result.returns_rows else []  # type: ignore[attr-defined]

    async def row(self, schedule_id: int) -> Row[Any]:
        """Return the row of a schedule."""
        [found] = await self.rows("SELECT * FROM schedules WHERE id = :id", id=schedule_id)
        return found

    async def dispatches(self) -> list[ScheduleDue]:
        """Return the ScheduleDue events in the outbox, in order."""
        rows = await self.rows("SELECT topic, body FROM outbox ORDER BY id")
        events = [TOPICS[row.topic].model_validate_json(row.body) for row in rows]
        return [event for event in events if isinstance(event, ScheduleDue)]

    async def clear_outbox(self) -> None:
        """Delete the events in the outbox."""
        await self.rows("DELETE FROM outbox")

    # Schedules and batches

    async def make_schedule(self, **fields: Any) -> Any:
        """Create a schedule for later and return the answer."""
        body = {"phone": "0491000999", "text": "Hello", "scheduled_time": soon()}
        return await self.client.ok("POST", "/api/schedules/", {**body, **fields})

    async def send(self, **fields: Any) -> int:
        """Send a message now and return the schedule's id."""
        body = {"message": "Hi", "recipient": "0491000999", **fields}
        answer = await self.client.ok("POST", "/api/sms/send/", body)
        return int(answer["schedule_id"])

    def make_contact(self, fields: dict[str, str] | None = None, **state: Any) -> dict[str, Any]:
        """Add a contact of the organisation and return its state."""
        contact = self.contacts.add(self.organisation, fields, **state)
        if contact["opt_out"]:
            self.delivery.opted_out.add(contact["phone"])
        return contact

    def make_group(self, size: int) -> int:
        """Add a group of new contacts and return its id."""
        return self.contacts.add_group(self.organisation, [self.make_contact()["contact_id"] for _ in range(size)])

    async def make_batch(self, size: int, **fields: Any) -> Any:
        """Create a batch for later to a new group and return the answer."""
        body = {"name": "June", "text": "Hi {{first_name}}", "scheduled_time": soon()}
        return await self.client.ok(
            "POST", "/api/group-schedules/", {**body, "group_id": self.make_group(size), **fields}
        )

    async def show(self, schedule_id: int) -> Any:
        """Return a schedule as the API shows it."""
        return await self.client.ok("GET", f"/api/schedules/{schedule_id}/")

    async def show_batch(self, batch_id: int, query: str = "") -> Any:
        """Return a batch as the API shows it."""
        return await self.client.ok("GET", f"/api/group-schedules/{batch_id}/{query}")

    # Loops

    async def make_due(self, *ids: int) -> None:
        """Move the times of pending schedules (all by default) to a second ago: the clock is the database's."""
        await self.rows(
            "UPDATE schedules SET scheduled_time = now() - interval '1 second',"
            " next_due_at = CASE WHEN kind = 'batch' THEN now() - interval '1 second' END"
            " WHERE status = 'pending' AND scheduled_time IS NOT NULL"
            " AND (CAST(:ids AS bigint[]) = '{}' OR id = ANY(CAST(:ids AS bigint[])))",
            ids=list(ids),
        )

    async def dispatch(self, **settings: Any) -> None:
        """Dispatch until nothing more can be claimed, with changed settings."""
        while await dispatch_due(self.database, self.settings.model_copy(update=settings)) is True:
            pass

    async def fan_out(self) -> None:
        """Fan out all batches."""
        while await batches.fan_out_batches(self.database, self.services):
            pass

    async def finish_batches(self) -> None:
        """Finish the batches that have no open message."""
        await batches.finish_batches(self.database)

    async def release_reservations(self) -> bool:
        """Release the reservations of finished batches."""
        return await batches.release_reservations(self.database, self.services)

    async def continue_retries(self) -> None:
        """Reopen the remaining messages of all retries."""
        while await continue_retries(self.database):
            pass

    async def sweep(self, *, overdue: bool = True) -> bool:
        """Ask delivery about overdue schedules, after making those in processing overdue."""
        if overdue:
            await self.rows("UPDATE schedules SET sweep_at = now() WHERE sweep_at IS NOT NULL")
        return await sweep(self.database, self.services, self.settings)

    # Events of the other services

    def sent(self, schedule_id: int, version: int = 1, dispatch_number: int = 1, **changes: Any) -> MessageSent:
        """Return delivery's event about a sent message."""
        values = {"provider": "log", "sent_time": TIME, **changes}
        return MessageSent(**{**self._about(schedule_id, version, dispatch_number), **values})

    def failed(self, schedule_id: int, version: int = 1, dispatch_number: int = 1, **changes: Any) -> MessageFailed:
        """Return delivery's event about a failed message."""
        values = {"failure_category": "outcome_unknown", "error": "Unknown.", **changes}
        return MessageFailed(**{**self._about(schedule_id, version, dispatch_number), **values})

    def delayed(self, schedule_id: int, version: int = 1, dispatch_number: int = 1, **changes: Any) -> MessageDelayed:
        """Return delivery's event about a message that is attempted again."""
        values = {"next_attempt_at": FIVE_PAST, "failure_category": "rate_limited", "error": "Busy.", **changes}
        return MessageDelayed(**{**self._about(schedule_id, version, dispatch_number), **values})

    def delivered(
        self, schedule_id: int, version: int = 1, dispatch_number: int = 1, **changes: Any
    ) -> MessageDelivered:
        """Return delivery's event about a delivered message."""
        values = {"provider": "log", "delivered_time": FIVE_PAST, **changes}
        return MessageDelivered(**{**self._about(schedule_id, version, dispatch_number), **values})

    def _about(self, schedule_id: int, version: int, dispatch_number: int) -> dict[str, Any]:
        return {
            "organisation_id": self.organisation,
            "message_id": schedule_id,
            "schedule_id": schedule_id,
            "dispatch_number": dispatch_number,
            "version": version,
            "attempts": version,
        }

    async def consume(self, *events: Event) -> None:
        """Consume each event in a batch of its own."""
        consumers: dict[str, Consumer] = {
            **{event.topic: on_outcomes for event in OUTCOMES},
            ContactChanged.topic: on_contact_changed,
        }
        for event in events:
            await consumers[event.topic](self.database, records(event))

    async def change_contacts(self, *contacts: dict[str, Any], organisation: str | None = None) -> None:
        """Consume a ContactChanged with these states, twice."""
        states = tuple(ContactState.model_validate(contact) for contact in contacts)
        event = ContactChanged(organisation_id=organisation or self.organisation, contacts=states)
        await on_contact_changed(self.database, records(event, event))
