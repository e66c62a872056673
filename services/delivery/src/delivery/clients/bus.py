"""Calls to the Kafka broker."""

import asyncio
import ssl
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from common.events import ScheduleDue

log = structlog.get_logger()

_TIMEOUT_S = 3.0


async def intake_lag(bootstrap_servers: str, tls: ssl.SSLContext | None = None) -> int:
    """Return how many due schedules are on Kafka that the intake has not consumed.

    Return 1 when the broker does not answer, because then there may be some.
    """
    client: dict[str, Any] = {
        "bootstrap_servers": bootstrap_servers,
        "security_protocol": "SSL" if tls else "PLAINTEXT",
        "ssl_context": tls,
    }
    reader = AIOKafkaConsumer(ScheduleDue.topic, **client)  # in no group, and reads nothing
    admin = AIOKafkaAdminClient(**client)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await asyncio.gather(reader.start(), admin.start())
            partitions = reader.assignment()
            first, end = await reader.beginning_offsets(partitions), await reader.end_offsets(partitions)
            consumed = await admin.list_consumer_group_offsets("delivery.intake", partitions=list(partitions))
    except (KafkaError, OSError, TimeoutError) as error:
        log.warning("intake lag not known", error=type(error).__name__)
        return 1
    finally:
        await asyncio.gather(reader.stop(), admin.close())
    return sum(max(0, end[one] - max(first[one], consumed[one].offset)) for one in partitions)
