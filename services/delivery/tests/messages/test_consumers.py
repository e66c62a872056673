"""The consumers, called with batches as the bus gives them."""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from common.database import Database
from common.events import ContactChanged, ContactState, Event, ScheduleDue
from delivery.messages import consumers
from delivery.messages.worker import ProviderWorker

Rows = Callable[..., Awaitable[list[Any]]]


def batch(*events: Event | bytes, topic: str = ScheduleDue.topic) -> list[Any]:
    bodies = [event if isinstance(event, bytes) else event.model_dump_json().encode() for event in events]
    return [
        SimpleNamespace(topic=topic, partition=0, offset=offset, key=b"1", value=body)
        for offset, body in enumerate(bodies)
    ]


async def test_a_batch_is_taken_in_whole_and_wakes_the_sender(stage: Stage) -> None:
    worker, event = stage.make_worker(), stage.due()
    records = batch(event, b"{", stage.due(), event, b'{"schedule_id": 5}')
    for _ in range(2):
        await consumers.on_schedule_due(stage.database, [worker], 86_400, records)
    assert worker.wake.is_set()
    assert len(await stage.rows("SELECT 1 FROM messages")) == 2
    assert [row.kafka_offset for row in await stage.rows("SELECT * FROM dead_letters ORDER BY id")] == [1, 4]
    assert [row.usage for row in await stage.rows("SELECT usage FROM limit_usage")] == [2]


async def test_contacts_are_heard(stage: Stage) -> None:
    state = ContactState(contact_id=7, version=3, phone="+61453000007", is_active=True, opt_out=True)
    event = ContactChanged(organisation_id=stage.organisation, contacts=(state, state.model_copy(update={"contact_id": 8})))
    for _ in range(2):
        await consumers.on_contact_changed(stage.database, batch(event, topic=ContactChanged.topic))
    assert [(row.contact_id, row.opt_out) for row in await stage.rows("SELECT * FROM contact_opt_outs")] == [
        (7, True),
        (8, True),
    ]
