"""The consumers, called with batches as the bus gives them."""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from common.database import Database
from common.events import ContactChanged, ContactState, Event, ScheduleDue
from delivery.messages import consumers
from delivery.messages.sender import Sender

Rows = Callable[..., Awaitable[list[Any]]]


def batch(*events: Event | bytes, topic: str = ScheduleDue.topic) -> list[Any]:
    bodies = [event if isinstance(event, bytes) else event.model_dump_json().encode() for event in events]
    return [
        SimpleNamespace(topic=topic, partition=0, offset=offset, key=b"1", value=body)
        for offset, body in enumerate(bodies)
    ]


async def test_a_batch_is_taken_in_whole_and_wakes_the_sender(
    database: Database, due: Callable[..., ScheduleDue], make_sender: Callable[..., Sender], rows: Rows
) -> None:
    sender, event = make_sender(), due()
    records = batch(event, b"{", due(), event, b'{"schedule_id": 5}')
    for _ in range(2):
        await consumers.on_schedule_due(database, [sender], 86_400, records)
    assert sender.wake.is_set()
    assert len(await rows("SELECT 1 FROM messages")) == 2
    assert [row.kafka_offset for row in await rows("SELECT * FROM dead_letters ORDER BY id")] == [1, 4]
    assert [row.taken for row in await rows("SELECT taken FROM limits")] == [2]


async def test_contacts_are_heard(database: Database, organisation: str, rows: Rows) -> None:
    state = ContactState(contact_id=7, version=3, phone="+61453000007", is_active=True, opt_out=True)
    event = ContactChanged(organisation_id=organisation, contacts=(state, state.model_copy(update={"contact_id": 8})))
    for _ in range(2):
        await consumers.on_contact_changed(database, batch(event, topic=ContactChanged.topic))
    assert [(row.contact_id, row.opt_out) for row in await rows("SELECT * FROM contact_opt_outs")] == [
        (7, True),
        (8, True),
    ]
