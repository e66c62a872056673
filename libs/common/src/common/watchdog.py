"""Find the parts of a worker that make no progress. Their process exits, and whatever runs it starts it again."""

import asyncio
import ssl
import time
from collections.abc import Iterable, Sequence
from typing import Any

from common.bus import Bus
from common.loops import Loop

# Longer than the 60 s for which a transaction is retried, and than the longest step: counting the rows of an import and
# its transaction of at most 300 s.
_MAX_STEP_S = 600.0
# A consumer fetches several times a second, unless a batch runs or the broker is not available.
_MAX_SILENCE_S = 120.0
_ANSWER_S = 2.0
# The request ApiVersions (API key 18), version 0, correlation id 1, no client id, after its size of 10 bytes.
_API_VERSIONS = bytes.fromhex("0000000a 0012 0000 00000001 ffff")


async def find_stuck(bus: Bus, loops: Sequence[Loop]) -> list[str]:
    """Return the names of loops whose step, and of consumers whose batch, takes more than 10 minutes.

    Also return consumers whose coordination task has died, and those that have not fetched for 2 minutes in which the
    broker was available: they never recover.
    """
    now = time.monotonic()
    stuck = [loop.name for loop in loops if loop.step_since is not None and now - loop.step_since > _MAX_STEP_S]
    stuck += [name for name, since in bus.batch_since.items() if now - since > _MAX_STEP_S]
    consumers = {str(subscriber.group_id): subscriber.consumer for subscriber in bus.subscribers()}
    stuck += [name for name, consumer in consumers.items() if _coordination_died(consumer)]
    silent = [
        name
        for name, consumer in consumers.items()
        if name not in bus.batch_since and _silence_s(consumer) > _MAX_SILENCE_S
    ]
    settings = bus.settings
    if silent and not await is_reachable(settings.kafka_bootstrap_servers, settings.kafka_tls):
        bus.unavailable_at = now
    if silent and now - bus.unavailable_at > _MAX_SILENCE_S:
        stuck += silent
    return stuck


def _coordination_died(consumer: Any) -> bool:
    coordinator = getattr(consumer, "_coordinator", None)
    task = getattr(coordinator, "_coordination_task", None)
    return task is not None and bool(task.done())


def _silence_s(consumer: Any) -> float:
    """Return the time since a consumer last fetched from any of its partitions, 0 while it has none."""
    if consumer is None:
        return 0.0
    fetched = [consumer.last_poll_timestamp(partition) for partition in consumer.assignment()]
    newest = max((moment for moment in fetched if moment is not None), default=None)
    return 0.0 if newest is None else time.time() - newest / 1000


async def is_reachable(bootstrap_servers: str, tls: ssl.SSLContext | None = None) -> bool:
    """Return whether one of the brokers answers. A broker that hangs accepts connections, but does not answer."""
    return any([await _answers(server, tls) for server in _split(bootstrap_servers)])


def _split(bootstrap_servers: str) -> Iterable[tuple[str, int]]:
    for server in bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        yield host.strip("[]"), int(port)


async def _answers(server: tuple[str, int], tls: ssl.SSLContext | None) -> bool:
    try:
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_connection(*server, ssl=tls)
            try:
                writer.write(_API_VERSIONS)
                return bool(await reader.read(1))
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
