"""Listens to the outcomes of messages: a complete Kafka consumer, as an example to copy. See docs/events.md."""

import argparse
import asyncio
import json
import os
from typing import Any

from aiokafka import AIOKafkaConsumer

TOPICS = ("delivery.message-sent.v1", "delivery.message-failed.v1")


async def listen(group: str, count: int | None) -> None:
    """Print the newest state of each message. End after `count` of them."""
    # In your service, this is a table that you update in the transaction of what you do with the event.
    newest: dict[int, tuple[int, int]] = {}
    consumer = AIOKafkaConsumer(
        *TOPICS,
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
                    state = (event["dispatch_number"], event["version"])
                    if state <= newest.get(event["schedule_id"], (0, 0)):
                        continue  # repeated, or older than what we know
                    newest[event["schedule_id"]] = state
                    printed += 1
                    outcome = event.get("failure_category", "sent")
                    print(f"{event['occurred_at']} schedule {event['schedule_id']}: {outcome}", flush=True)
                    if printed == count:
                        return
            await consumer.commit()  # only after the records were handled, so unhandled records are read again
    finally:
        await consumer.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--group", default="example.listen", help="your consumer group; a new one reads from the start")
    parser.add_argument("--count", type=int, help="end after so many messages")
    arguments = parser.parse_args()
    asyncio.run(listen(arguments.group, arguments.count))
