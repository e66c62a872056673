"""The watchdog finds what makes no progress, and a rebalance waits for the running batch."""

import asyncio
import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest

from common.bus import Bus, FinishBatch, make_bus
from common.events import ContactChanged
from common.loops import Loop
from common.settings import StoreSettings
from common.watchdog import find_stuck


class Settings(StoreSettings):
    service = "sample"


async def nothing(*_: object) -> bool:
    return False


@pytest.fixture
def bus(sample_url: str) -> Bus:
    """A bus with one consumer, which is not started."""
    settings = Settings(
        port=1,
        worker_port=2,
        database_url=sample_url,
        kafka_bootstrap_servers="127.0.0.1:1",
        internal_token_secret="test-secret-test-secret-test-secret-0",
    )
    bus = make_bus(settings)
    bus.subscribe([ContactChanged], "contacts", nothing)  # type: ignore[arg-type] # it is never called
    return bus


class Consumer:
    """A consumer that fetched the last time so many seconds ago."""

    def __init__(self, silence_s: float) -> None:
        self._fetched_ms = round((time.time() - silence_s) * 1000)

    def assignment(self) -> set[int]:
        return {0}

    def last_poll_timestamp(self, _: int) -> int:
        return self._fetched_ms


async def test_a_worker_at_rest_is_not_stuck(bus: Bus) -> None:
    assert await find_stuck(bus, [Loop("relay", nothing, 1)]) == []


async def test_a_step_or_a_batch_of_more_than_ten_minutes_is_stuck(bus: Bus) -> None:
    slow, new = Loop("slow", nothing, 1), Loop("new", nothing, 1)
    slow.step_since, new.step_since = time.monotonic() - 601, time.monotonic() - 400
    bus.batch_since = {"sample.contacts": time.monotonic() - 601, "sample.other": time.monotonic() - 400}
    assert await find_stuck(bus, [slow, new]) == ["slow", "sample.contacts"]


async def test_a_consumer_that_does_not_fetch_is_stuck_unless_the_broker_is_away(bus: Bus, kafka_servers: str) -> None:
    [subscriber] = bus.subscribers()
    subscriber.consumer = Consumer(silence_s=121)
    assert await find_stuck(bus, []) == []  # nothing listens on port 1
    bus.settings.kafka_bootstrap_servers = kafka_servers
    assert await find_stuck(bus, []) == []  # it was unavailable a moment ago, so the consumer may still recover
    bus.unavailable_at -= 121
    assert await find_stuck(bus, []) == ["sample.contacts"]
    bus.batch_since = {"sample.contacts": time.monotonic() - 200}
    assert await find_stuck(bus, []) == []
    bus.batch_since.clear()
    subscriber.consumer = Consumer(silence_s=100)
    assert await find_stuck(bus, []) == []


async def test_a_broker_that_accepts_connections_and_does_not_answer_is_away(bus: Bus) -> None:
    [subscriber] = bus.subscribers()
    subscriber.consumer = Consumer(silence_s=121)
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        bus.settings.kafka_bootstrap_servers = f"127.0.0.1:{frozen.getsockname()[1]}"
        assert await find_stuck(bus, []) == []


async def test_a_consumer_whose_coordination_task_died_is_stuck(bus: Bus) -> None:
    [subscriber] = bus.subscribers()
    task = asyncio.create_task(nothing())
    await task
    consumer: Any = Consumer(silence_s=0)
    consumer._coordinator = SimpleNamespace(_coordination_task=task)
    subscriber.consumer = consumer
    assert await find_stuck(bus, []) == ["sample.contacts"]


async def test_partitions_move_when_the_running_batch_has_finished(bus: Bus) -> None:
    finished = asyncio.Event()
    listener = FinishBatch(bus, "sample.contacts", finished)
    await listener.on_partitions_revoked(set())
    bus.batch_since["sample.contacts"] = time.monotonic()
    moving = asyncio.create_task(listener.on_partitions_revoked(set()))
    for _ in range(5):  # lets the other task run as far as it can
        await asyncio.sleep(0)
    assert not moving.done()
    finished.set()
    await moving
