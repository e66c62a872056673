"""The consumer of due schedules, called with a batch as Kafka delivers it."""

from types import SimpleNamespace
from typing import Any

from common.events import Event, ScheduleDue
from delivery.messages import consumers
from services.delivery.tests.stage import Stage


def batch(*events: Event | bytes) -> list[Any]:
    bodies = [event if isinstance(event, bytes) else event.model_dump_json().encode() for event in events]
    return [
        SimpleNamespace(topic=ScheduleDue.topic, partition=0, offset=offset, key=b"1", value=body)
        for offset, body in enumerate(bodies)
    ]


async def test_a_batch_is_added_once_and_wakes_the_workers(stage: Stage) -> None:
    worker, event = stage.make_worker(), stage.due()
    records = batch(event, b"{", stage.due(), event, b'{"schedule_id": 5}')
    for _ in range(2):
        await consumers.on_schedule_due(stage.database, [worker.wake], 86_400, records)
    assert worker.wake.is_set()
    assert len(await stage.rows("SELECT 1 FROM messages")) == 2
    assert [row.kafka_offset for row in await stage.rows("SELECT * FROM dead_letters ORDER BY id")] == [1, 4]
    assert await stage.usage() == 2
