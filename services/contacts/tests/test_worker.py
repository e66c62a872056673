"""The worker as a process: it publishes events of the API, consumes events of delivery, and stops on SIGTERM."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from common.events import ContactChanged, OptOutChanged

from .conftest import TOKEN_SECRET, WEBHOOK_SECRET, Stage


async def produce(kafka_servers: str, event: OptOutChanged) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka_servers)
    await producer.start()
    await producer.send_and_wait(event.topic, event.model_dump_json().encode(), key=event.key().encode())
    await producer.stop()


async def check_health_and_metrics(url: str) -> None:
    """Read what a worker that has consumed an event says about itself."""
    async with aiohttp.ClientSession(url) as client:
        for path in ("/health/live", "/health/started", "/health/ready"):
            async with client.get(path) as answer:
                assert (path, answer.status) == (path, 200)
        async with client.get("/health/details") as answer:
            details = await answer.json()
        async with client.get("/metrics") as answer:
            text = await answer.text()
    states = {"worker": "ok", "database": "ok", "kafka": "ok"}
    assert details == {**states, "lag": {"contacts.opt-outs": 0}}
    assert 'cooee_consumer_batch_records_count{group="contacts.opt-outs"} 1.0' in text
    assert 'cooee_consumer_lag{group="contacts.opt-outs",topic="delivery.opt-out-changed.v1"} 0.0' in text
    assert 'cooee_database_up{service="contacts"} 1.0' in text
    assert 'cooee_loop_batch_rows_count{loop="relay",service="contacts"}' in text
    assert "0491" not in text
    assert "+614" not in text


async def test_running_worker_publishes_contacts_applies_opt_outs_and_runs_imports(
    stage: Stage, contacts_url: str, kafka_servers: str, unused_tcp_port: int, eventually: Callable[..., Awaitable[Any]]
) -> None:
    opted_out = await stage.mine.add_contact("0491570006", opt_out=True)
    ana = await stage.mine.add_contact("0491570110")
    opt_out = OptOutChanged(
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
        "CONTACTS_WORKER_PORT": str(unused_tcp_port),
        "CLERK_WEBHOOK_SIGNING_SECRET": WEBHOOK_SECRET,
        "INTERNAL_TOKEN_SECRET": TOKEN_SECRET,
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
        assert (record.key, event.contacts[0].opt_out) == (str(opted_out["id"]).encode(), True)
        await produce(kafka_servers, opt_out)
        record = await asyncio.wait_for(consumer.getone(), 30)
        event = ContactChanged.model_validate_json(record.value)
        assert (record.key, event.contacts[0].opt_out_source) == (str(ana["id"]).encode(), "reply")
        assert (await stage.mine.get_contact(ana["id"]))["opt_out_message_id"] == 5
        headers = {**stage.mine.headers, "Prefer": "respond-async"}
        files = {"file": ("a.csv", b"phone\n0491570156\n0491570110\n")}
        queued = await stage.mine.http.post("/api/contacts/import/", headers=headers, files=files)

        async def import_is_done() -> Any:
            found = await stage.mine.get(queued.headers["Location"])
            return found if found["status"] == "done" else None

        report = (await eventually(import_is_done))["report"]
        assert (report["imported"], report["failed"]) == (1, 1)
        await check_health_and_metrics(f"http://127.0.0.1:{unused_tcp_port}")
    finally:
        await consumer.stop()
        worker.terminate()
        assert await asyncio.wait_for(worker.wait(), 30) == 0


async def test_process_without_a_valid_secret_names_the_setting_and_ends(contacts_url: str) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "CONTACTS_DATABASE_URL": contacts_url,
        "KAFKA_BOOTSTRAP_SERVERS": "x:1",
        "INTERNAL_TOKEN_SECRET": TOKEN_SECRET,
    }
    for secret in ({}, {"CLERK_WEBHOOK_SIGNING_SECRET": "whsec_secre"}):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "contacts", "api", env=environment | secret, stderr=asyncio.subprocess.PIPE
        )
        _, output = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 2
        assert b"CLERK_WEBHOOK_SIGNING_SECRET" in output
        assert b"whsec_secre" not in output
