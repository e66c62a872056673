"""What delivery asks the broker."""

import asyncio

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from common.events import ScheduleDue

log = structlog.get_logger()

_PATIENCE_S = 3.0


async def intake_lag(bootstrap_servers: str) -> int:
    """How many due schedules are on the bus that the intake has not taken in; 1 when the broker does not say, as then
    nobody knows that there are none."""
    reader = AIOKafkaConsumer(ScheduleDue.topic, bootstrap_servers=bootstrap_servers)  # of no group: it reads nothing
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await asyncio.gather(reader.start(), admin.start())
            places = reader.assignment()
            first, end = await reader.beginning_offsets(places), await reader.end_offsets(places)
            done = await admin.list_consumer_group_offsets("delivery.intake", partitions=list(places))
    except (KafkaError, OSError, TimeoutError) as error:
        log.warning("how far the intake is cannot be had", error=type(error).__name__)
        return 1
    finally:
        await asyncio.gather(reader.stop(), admin.close())
    return sum(max(0, end[place] - max(first[place], done[place].offset)) for place in places)
