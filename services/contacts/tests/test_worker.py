"""The worker as the process that it is: it publishes what the api process wrote, takes in what delivery tells, and
opt_outs when it is told to."""

import asyncio
import os
import sys
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from common.events import ContactChanged, OptOutChanged


async def produce(kafka_servers: str, event: OptOutChanged) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka_servers)
    await producer.start()
    await producer.send_and_wait(event.topic, event.model_dump_json().encode(), key=event.key().encode())
    await producer.stop()


async def test_a_changed_contact_reaches_the_bus_and_a_stop_its_contact(
    mine: Any, contacts_url: str, kafka_servers: str
) -> None:
    made = await mine.contact("0491570006", opt_out=True)
    ana = await mine.contact("0491570110")
    stop = OptOutChanged(
        organisation_id="org_mine",
        phone="+61491570110",
        opted_out=True,
        changed_at=datetime(2026, 11, 1, tzinfo=UTC),
        source="reply",
        message_id=5,
        version=1,
    )
    environment = {
        **os.environ,
        "CONTACTS_DATABASE_URL": contacts_url,
        "CONTACTS_WORKER_PORT": "0",
        "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "INTERNAL_TOKEN_SECRET": "test-secret-test-secret-test-secret-0",
        "KAFKA_BOOTSTRAP_SERVERS": kafka_servers,
    }
    consumer = AIOKafkaConsumer(ContactChanged.topic, bootstrap_servers=kafka_servers, auto_offset_reset="earliest")
    await consumer.start()
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "contacts", "worker", env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        record = await asyncio.wait_for(consumer.getone(), 30)
        event = ContactChanged.model_validate_json(record.value)
        assert (record.key, event.contacts[0].opt_out) == (str(made["id"]).encode(), True)
        await produce(kafka_servers, stop)
        record = await asyncio.wait_for(consumer.getone(), 30)
        event = ContactChanged.model_validate_json(record.value)
        assert (record.key, event.contacts[0].opt_out_source) == (str(ana["id"]).encode(), "reply")
        assert (await mine.get(f"/api/contacts/{ana['id']}/"))["opt_out_message_id"] == 5
    finally:
        await consumer.stop()
        worker.terminate()
        assert await asyncio.wait_for(worker.wait(), 30) == 0


async def test_a_process_without_its_secret_names_it_and_does_not_start(contacts_url: str) -> None:
    environment = {"PATH": os.environ["PATH"], "CONTACTS_DATABASE_URL": contacts_url, "KAFKA_BOOTSTRAP_SERVERS": "x:1"}
    given = environment | {"INTERNAL_TOKEN_SECRET": "test-secret-test-secret-test-secret-0"}
    for secret in ({}, {"CLERK_WEBHOOK_SIGNING_SECRET": "whsec_secre"}):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "contacts", "api", env=given | secret, stderr=asyncio.subprocess.PIPE
        )
        _, told = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 2
        assert b"CLERK_WEBHOOK_SIGNING_SECRET" in told
        assert b"whsec_secre" not in told
