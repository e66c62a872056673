"""The worker as it runs: consumers over a real broker, loops, the relay."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer

from common.events import ContactChanged, MessageSent, ScheduleDue
from common.outbox import publish
from common.relay import Relay
from scheduling.worker import create_worker

OUTCOMES = {"outcomes-sent", "outcomes-failed", "outcomes-delayed", "outcomes-delivered"}
GROUPS = OUTCOMES | {"contacts", "organisations", "settings"}


@pytest.fixture
async def running(settings, database, contacts, delivery, kafka_servers):
    """Broker, loops and relay of a worker; the signals and the health server are the process's."""
    worker = await create_worker(settings.model_copy(update={"kafka_bootstrap_servers": kafka_servers}))
    assert {s.group_id for s in worker.bus.broker.subscribers} == {f"scheduling.{group}" for group in GROUPS}
    relay = Relay(database, kafka_servers, "scheduling")
    stopping = asyncio.Event()
    await worker.bus.broker.start()
    tasks = [asyncio.create_task(loop.run(stopping)) for loop in worker.loops]
    yield relay
    stopping.set()
    await asyncio.wait(tasks)
    await worker.bus.broker.stop()
    await relay.close()
    for close in worker.close:
        await close()
    await worker.database.close()


async def test_from_due_over_the_bus_to_sent(
    running, client, make_batch, make_due, database, kafka_servers, organisation, eventually
):
    batch = await make_batch(3)
    await make_due()
    consumer = AIOKafkaConsumer(
        ScheduleDue.topic, bootstrap_servers=kafka_servers, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    seen: dict[int, ScheduleDue] = {}
    try:

        async def all_came():
            await running.step()
            for records in (await consumer.getmany(timeout_ms=100)).values():
                for record in records:
                    event = ScheduleDue.model_validate_json(record.value)
                    if event.organisation_id == organisation:
                        assert record.key == str(event.schedule_id).encode()
                        seen[event.schedule_id] = event
            return len(seen) == 3

        await eventually(all_came)
    finally:
        await consumer.stop()
    outcomes = [
        MessageSent(
            organisation_id=organisation, message_id=due.schedule_id, schedule_id=due.schedule_id, dispatch_number=due.dispatch_number,
            version=1, attempts=1, provider="log", sent_time=due.occurred_at,
        )
        for due in seen.values()
    ]  # fmt: skip
    async with database.all_tenants() as session:
        await publish(session, outcomes)
    await running.step()

    async def has_ended():
        return (await client.ok("GET", f"/api/group-schedules/{batch['id']}/"))["status"] == "sent"

    await eventually(has_ended)


async def test_a_contact_that_opts_out_is_heard_over_the_bus(
    running, client, contacts, organisation, make_schedule, database, eventually
):
    ana = contacts.add(organisation)
    made = await make_schedule(contact=ana["contact_id"])
    async with database.all_tenants() as session:
        await publish(
            session,
            [ContactChanged(organisation_id=organisation, contacts=({**ana, "version": 2, "opt_out": True},))],
        )
    await running.step()

    async def has_failed():
        return (await client.ok("GET", f"/api/schedules/{made['id']}/"))["status"] == "failed"

    await eventually(has_failed)
