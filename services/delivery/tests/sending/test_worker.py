"""The worker as a process of its own, between a real broker and the fake provider."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from common.database import Database
from common.events import ContactChanged, ContactState, Event, MessageFailed, MessageSent, ScheduleDue
from services.delivery.tests.fake_provider import FakeProvider
from services.delivery.tests.stage import Stage
from tools.embedded.processes import free_port

SECRET = "test-secret-test-secret-test-secret-0"
Start = Callable[[], Awaitable[asyncio.subprocess.Process]]
Produce = Callable[..., Awaitable[None]]
ReadOutcomes = Callable[..., Awaitable[list[Any]]]
Eventually = Callable[..., Awaitable[Any]]


@pytest.fixture
async def start_worker(
    delivery_url: str, kafka_servers: str, fake_provider: FakeProvider, repository_root: Path, database: Database
) -> AsyncIterator[Start]:
    """`await start_worker()` starts `python -m delivery worker`, which is killed at the end."""
    environment = {
        **os.environ,
        "DELIVERY_DATABASE_URL": delivery_url,
        "DELIVERY_WORKER_PORT": str(free_port()),
        "KAFKA_BOOTSTRAP_SERVERS": kafka_servers,
        "KAFKA_SESSION_TIMEOUT_MS": "6000",
        "INTERNAL_TOKEN_SECRET": SECRET,
        "SMS_PROVIDERS": "mobile_message",
        "MOBILE_MESSAGE_BASE_URL": fake_provider.url,
        "MOBILE_MESSAGE_USERNAME": "user",
        "MOBILE_MESSAGE_PASSWORD": "password",
        "MOBILE_MESSAGE_SENDER_ID": "Cooee",
        "REQUEST_TIMEOUT_S": "1",
        "LEASE_S": "1.5",
        "REPLAY_AFTER_S": "1",
    }
    made: list[asyncio.subprocess.Process] = []

    async def start() -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "delivery", "worker", env=environment, cwd=repository_root
        )
        made.append(process)
        return process

    yield start
    for process in made:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.fixture
async def produce(kafka_servers: str) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """`await produce(event, …)` sends events to Kafka. Bytes are sent to the topic of ScheduleDue as they are."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka_servers)
    await producer.start()

    async def send(*events: Event | bytes) -> None:
        for event in events:
            if isinstance(event, bytes):
                await producer.send_and_wait(ScheduleDue.topic, event, b"1")
            else:
                await producer.send_and_wait(event.topic, event.model_dump_json().encode(), event.key().encode())

    yield send
    await producer.stop()


@pytest.fixture
async def read_outcomes(kafka_servers: str) -> AsyncIterator[ReadOutcomes]:
    """`await read_outcomes(event, …)` returns the outcomes of these events on Kafka, one for each.

    Kafka may deliver the last batch of an earlier worker again, so other outcomes are ignored.
    """
    consumer = AIOKafkaConsumer(
        MessageSent.topic, MessageFailed.topic, bootstrap_servers=kafka_servers, group_id=f"test-{uuid4()}"
    )
    await consumer.start()
    await consumer.seek_to_end()

    async def read(*events: ScheduleDue) -> list[Any]:
        wanted = {event.schedule_id for event in events}
        found: list[Any] = []
        async with asyncio.timeout(40):
            while len(found) < len(wanted):
                record = await consumer.getone()
                kind = MessageSent if record.topic == MessageSent.topic else MessageFailed
                outcome = kind.model_validate_json(record.value)
                if outcome.schedule_id in wanted:
                    found.append(outcome)
        return found

    yield read
    await consumer.stop()


async def test_due_events_are_sent_and_published_and_the_worker_ends_in_order(
    stage: Stage, start_worker: Start, produce: Produce, read_outcomes: ReadOutcomes, eventually: Eventually
) -> None:
    worker = await start_worker()
    state = ContactState(contact_id=9, version=1, phone="+61453000009", is_active=True, opt_out=True)
    await produce(ContactChanged(organisation_id=stage.organisation, contacts=(state,)))
    await eventually(lambda: stage.rows("SELECT 1 FROM contact_opt_outs"))
    events, refused = [stage.due() for _ in range(5)], stage.due(contact_id=9)
    await produce(*events[:2], b"{ not json", *events[2:], events[0], refused)
    outcomes = await read_outcomes(*events, refused)
    assert {o.schedule_id for o in outcomes if isinstance(o, MessageSent)} == {e.schedule_id for e in events}
    assert [o.failure_category for o in outcomes if isinstance(o, MessageFailed)] == ["opted_out"]
    assert len(stage.provider.accepted) == 5
    assert [row.body for row in await stage.rows("SELECT body FROM dead_letters")] == [b"{ not json"]
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(worker.wait(), 40) == 0


async def test_a_worker_that_is_killed_during_a_submission_sends_every_message_once(
    stage: Stage, start_worker: Start, produce: Produce, read_outcomes: ReadOutcomes, eventually: Eventually
) -> None:
    stage.provider.script += [stage.provider.accept_and_wait] * 4
    worker = await start_worker()
    events = [stage.due(lane=lane) for lane in ("single", "bulk") for _ in range(3)]
    await produce(*events)

    async def is_in_flight() -> bool:
        return bool(stage.provider.accepted)

    await eventually(is_in_flight, 40)
    worker.kill()
    await worker.wait()
    assert await stage.rows("SELECT 1 FROM submissions"), "a submission was open"
    stage.provider.script.clear()
    await start_worker()
    outcomes = await read_outcomes(*events)
    assert {(type(o), o.schedule_id) for o in outcomes} == {(MessageSent, e.schedule_id) for e in events}
    keys = [key for key, _ in stage.provider.requests]
    assert len(set(keys)) < len(keys), "a submission was resent"
    references = [item["custom_ref"] for item in stage.provider.accepted]
    assert len(references) == len(set(references)), "no message was sent twice"
    usage = "SELECT usage FROM limit_usage WHERE organisation_id = :organisation"
    assert [row.usage for row in await stage.rows(usage, organisation=stage.organisation)] == [6]
