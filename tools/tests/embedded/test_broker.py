"""The embedded broker with real clients in several processes: consumer groups and ports."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tools.embedded.broker import PARTITIONS, BrokerError, EmbeddedBroker
from tools.embedded.processes import free_port, port_is_busy

DEADLINE_S = 20
# A member of the group in a separate process. It prints each value that it read and committed.
MEMBER = """
import asyncio, sys
from aiokafka import AIOKafkaConsumer

async def main():
    consumer = AIOKafkaConsumer("t.v1", group_id="g", bootstrap_servers=sys.argv[1], auto_offset_reset="earliest",
                                enable_auto_commit=False, session_timeout_ms=2000, heartbeat_interval_ms=500)
    await consumer.start()
    while True:
        batches = await consumer.getmany(timeout_ms=100)
        if batches:
            await consumer.commit()
        for records in batches.values():
            for record in records:
                print(record.value.decode(), flush=True)

asyncio.run(main())
"""


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    """Start a broker with one topic."""
    with EmbeddedBroker(["t.v1"]) as started:
        yield started


async def produce(broker: EmbeddedBroker, values: range) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, enable_idempotence=True, acks="all")
    await producer.start()
    try:
        sent = [await producer.send("t.v1", b"%d" % value, key=b"%d" % value) for value in values]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def consume(broker: EmbeddedBroker, count: int) -> set[int]:
    """Read `count` records with a consumer of group `g`, commit, leave the group and return the values."""
    consumer = AIOKafkaConsumer(
        "t.v1",
        group_id="g",
        bootstrap_servers=broker.bootstrap_servers,
        auto_offset_reset="earliest",
        session_timeout_ms=2000,  # the broker rebalances a group that lost a member up to a second before this
        heartbeat_interval_ms=500,
    )
    await consumer.start()
    try:
        values: set[int] = set()
        async with asyncio.timeout(DEADLINE_S):
            while len(values) < count:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    values |= {int(record.value or b"") for record in records}
        await consumer.commit()
        assert len(consumer.partitions_for_topic("t.v1") or ()) == PARTITIONS
        return values
    finally:
        await consumer.stop()


async def test_group_continues_after_its_committed_offset(broker: EmbeddedBroker) -> None:
    await produce(broker, range(1000))
    assert await consume(broker, 1000) == set(range(1000))
    await produce(broker, range(1000, 1010))
    assert await consume(broker, 10) == set(range(1000, 1010))


async def test_killed_member_of_another_process_is_replaced_without_loss(broker: EmbeddedBroker) -> None:
    received: list[set[int]] = []
    for values in (range(40), range(40, 80)):
        await produce(broker, values)
        command = [sys.executable, "-c", MEMBER, broker.bootstrap_servers]
        member = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        assert member.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            received.append({int(await member.stdout.readline()) for _ in values})
        member.kill()
        await member.wait()
    assert received == [set(range(40)), set(range(40, 80))]


def test_given_port_is_the_port_that_clients_use() -> None:
    port = free_port()
    with EmbeddedBroker(["t.v1"], port) as broker:
        assert broker.bootstrap_servers == f"127.0.0.1:{port}"
        asyncio.run(produce(broker, range(1)))
    assert not port_is_busy(port)


def test_busy_port_raises_an_error_that_names_it(broker: EmbeddedBroker) -> None:
    with pytest.raises(BrokerError, match=str(broker.port)):
        EmbeddedBroker([], broker.port).start()
