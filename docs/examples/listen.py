"""Listens to the state of messages: a complete Kafka consumer, as an example to copy. See docs/events.md."""

import argparse
import asyncio
import json
import os
from typing import Any

from aiokafka import AIOKafkaConsumer

STATES = {
    "delivery.message-delayed.v1": "delayed",
    "delivery.message-sent.v1": "sent",
    "delivery.message-delivered.v1": "delivered",
    "delivery.message-failed.v1": "failed",
}


class Newest:
    """The newest state of each message. In your service, this is a table.

    Update it in the transaction of what you do with the event.
    """

    def __init__(self) -> None:
        self._states: dict[int, tuple[int, int]] = {}

    def apply(self, event: dict[str, Any]) -> bool:
        """Return whether the event is newer than what is known of its message: by dispatch number, then version.

        The topics have no common order, and an event may be repeated. So the last event that arrives may be old.
        """
        state = (event["dispatch_number"], event["version"])
        if state <= self._states.get(event["schedule_id"], (0, 0)):
            return False
        self._states[event["schedule_id"]] = state
        return True


def describe(topic: str, event: dict[str, Any]) -> str:
    """Return the state of a message as a line."""
    details = {
        "delayed": f" until {event.get('next_attempt_at')}: {event.get('failure_category')}",
        "failed": f": {event.get('failure_category')}",
    }
    state = STATES[topic]
    return f"{event['occurred_at']} schedule {event['schedule_id']}: {state}{details.get(state, '')}"


async def listen(group: str, count: int | None) -> None:
    """Print each new state of each message. End after `count` of them."""
    newest = Newest()
    consumer = AIOKafkaConsumer(
        *STATES,
        bootstrap_servers=os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"),
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    printed = 0
    try:
        while True:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=500)).values():
                for record in records:
                    event: dict[str, Any] = json.loads(record.value)
                    if not newest.apply(event):
                        continue
                    print(describe(record.topic, event), flush=True)
                    printed += 1
                    if printed == count:
                        return
            await consumer.commit()  # only after the records were handled, so unhandled records are read again
    finally:
        await consumer.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--group", default="example.listen", help="your consumer group; a new one reads from the start")
    parser.add_argument("--count", type=int, help="end after so many states")
    arguments = parser.parse_args()
    asyncio.run(listen(arguments.group, arguments.count))
