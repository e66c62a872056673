"""The worker as it runs: consumers over a real broker, loops, the relay."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from common.events import ContactChanged, ContactState, ScheduleDue
from common.outbox import publish
from common.relay import Relay
from scheduling.worker import create_worker
from services.scheduling.tests.stage import Stage

OUTCOMES = {"outcomes"}
GROUPS = OUTCOMES | {"contacts", "organisations", "settings"}
Eventually = Callable[..., Awaitable[Any]]


@pytest.fixture
async def relay(stage: Stage, kafka_servers: str) -> AsyncIterator[Relay]:
    """Run the consumers and loops of a worker, and return a relay. Signals and the health server stay out."""
    changes = {"kafka_bootstrap_servers": kafka_servers, "kafka_session_timeout_ms": 6_000}
    worker = await create_worker(stage.settings.model_copy(update=changes))
    broker = worker.bus.broker
    assert {s.group_id for s in broker.subscribers} == {f"scheduling.{group}" for group in GROUPS}  # type: ignore[attr-defined]
    relay = Relay(stage.database, kafka_servers, "scheduling")
    stopping = asyncio.Event()
    await broker.start()
    tasks = [asyncio.create_task(loop.run(stopping)) for loop in worker.all_loops()]
    yield relay
    stopping.set()
    await asyncio.wait(tasks)
    await broker.stop()
    await relay.close()
    for close in worker.close:
        await close()
    await worker.database.close()


async def test_a_due_batch_is_dispatched_over_the_bus_and_finishes(
    stage: Stage, relay: Relay, kafka_servers: str, eventually: Eventually
) -> None:
    batch = await stage.make_batch(3)
    await stage.make_due()
    consumer = AIOKafkaConsumer(
        ScheduleDue.topic, bootstrap_servers=kafka_servers, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    seen: dict[int, ScheduleDue] = {}
    try:

        async def have_all_arrived() -> bool:
            await relay.step()
            for records in (await consumer.getmany(timeout_ms=100)).values():
                for record in records:
                    event = ScheduleDue.model_validate_json(record.value)
                    if event.organisation_id == stage.organisation:
                        assert record.key == str(event.schedule_id).encode()
                        seen[event.schedule_id] = event
            return len(seen) == 3

        await eventually(have_all_arrived)
    finally:
        await consumer.stop()
    async with stage.database.all_tenants() as session:
        await publish(session, [stage.sent(schedule_id) for schedule_id in seen])
    await relay.step()

    async def has_finished() -> bool:
        return bool((await stage.show_batch(batch["id"]))["status"] == "sent")

    await eventually(has_finished)


async def test_an_opt_out_over_the_bus_fails_a_pending_schedule(
    stage: Stage, relay: Relay, eventually: Eventually
) -> None:
    ana = stage.make_contact()
    made = await stage.make_schedule(contact=ana["contact_id"])
    state = ContactState.model_validate({**ana, "version": 2, "opt_out": True})
    async with stage.database.all_tenants() as session:
        await publish(session, [ContactChanged(organisation_id=stage.organisation, contacts=(state,))])
    await relay.step()

    async def has_failed() -> bool:
        return bool((await stage.show(made["id"]))["status"] == "failed")

    await eventually(has_failed)
