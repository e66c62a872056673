"""Apache Kafka in a container as the broker of a chaos run, with faults of the container."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from common.topics import TopicSettings, create_topics
from common.watchdog import is_reachable
from tools.chaos.plan import Fault, FaultKind
from tools.containers import KAFKA, kafka, wait_for
from tools.embedded.environment import HOST
from tools.embedded.processes import free_port

_STOP_S = 30


class KafkaContainer:
    """A container with Apache Kafka. It keeps its events when it is killed or stopped, and started again."""

    def __init__(self, container: Any, port: int) -> None:
        """Set the container (of the Docker client), which publishes Kafka on `port`."""
        self._container, self._port = container, port
        self._fault = asyncio.Lock()  # Docker refuses to unpause a container that was stopped meanwhile

    @property
    def bootstrap_servers(self) -> str:
        """Host and port, as Kafka clients expect them."""
        return f"{HOST}:{self._port}"

    async def is_ready(self) -> bool:
        """Return whether Kafka answers. Docker accepts connections to the port even while Kafka does not run."""
        return await is_reachable(self.bootstrap_servers)

    async def apply(self, fault: Fault) -> None:
        """Kill, stop or freeze the container, and let it run again. A fault waits for the end of the one before."""
        async with self._fault:
            await self._apply(fault)

    async def _apply(self, fault: Fault) -> None:
        match fault.kind:
            case FaultKind.KILL:
                await asyncio.to_thread(self._container.kill)
                await asyncio.to_thread(self._container.start)
            case FaultKind.STOP:
                await asyncio.to_thread(self._container.stop, timeout=_STOP_S)
                await asyncio.to_thread(self._container.start)
            case FaultKind.FREEZE:
                await asyncio.to_thread(self._container.pause)
                try:
                    await asyncio.sleep(fault.duration_s)
                finally:
                    await asyncio.to_thread(self._container.unpause)
            case _:
                raise ValueError(f"a broker has no fault of the kind {fault.kind}")


@contextmanager
def run_kafka() -> Iterator[KafkaContainer]:
    """Start Apache Kafka in a container with the topics, and remove it at the end. Exits when it does not start."""
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    port = free_port()
    with kafka(port) as started:
        found = KafkaContainer(started.get_wrapped_container(), port)
        topics = TopicSettings(kafka_bootstrap_servers=found.bootstrap_servers, topic_partitions=4)
        wait_for(KAFKA, lambda: asyncio.run(create_topics(topics)))
        yield found
