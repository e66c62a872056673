"""An outbox with many rows, and events that the embedded broker drops before they are read."""

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition

from common.events import ContactChanged, ContactState, ScheduleDue
from tools.backlogs.memory import Memory
from tools.backlogs.outages import check_arrivals
from tools.backlogs.report import Section
from tools.backlogs.world import World

_ORGANISATION = "org_full_outbox"
_FIRST_CONTACT = 7_000_000_000
_NO_EVENT = UUID(int=0)
_CHUNK = 100_000
_POLL_S, _SHORT_POLL_S = 2.0, 0.1
_DRAIN_S = 1800.0
_LONG_TEXT = "Your appointment is tomorrow at half past ten in the morning. " * 22
_ADD = """
    INSERT INTO outbox (event_id, topic, key, body, request_id)
    SELECT id, $1, contact::text, convert_to(replace(replace($2, $3, id::text), $4, contact::text), 'UTF8'), ''
    FROM (SELECT gen_random_uuid() AS id, $4::text::bigint + n AS contact
          FROM generate_series($5::int, $6::int - 1) n ORDER BY n) AS new
"""
# The relay takes this lock while it transmits, so it waits for the connection that has it.
_LOCK_RELAY = "SELECT pg_advisory_lock(hashtext('contacts.relay'))"
_LEFT = "SELECT count(*), min(id), max(id) FROM contacts.outbox"
_APPLIED = "SELECT count(*), max(contact_id) FROM scheduling.contact_changes WHERE organisation_id = $1"


@dataclass(frozen=True)
class Drain:
    """A look at the outbox while it is drained."""

    at: float
    left: int
    first: int
    last: int


async def full_outbox(world: World) -> None:
    """Let the relay of contacts drain an outbox with many rows."""
    section = world.section("an outbox is full")
    rows = world.size.rows
    before = await _offsets(world, ContactChanged.topic)
    section.add("rows", rows)
    drains: list[Drain] = []
    connection = await world.connect()
    try:
        await connection.execute(_LOCK_RELAY)
        await _add_rows(world, rows)
        await _look(world, drains)
    finally:
        await connection.close()
    await _watch(world, section, drains)
    after = await _offsets(world, ContactChanged.topic)
    _check_drains(section, drains)
    transmitted = sum(end for _, end in after.values()) - sum(end for _, end in before.values())
    section.add("events transmitted", transmitted)
    section.require(transmitted == rows, f"{transmitted} events were transmitted for {rows} rows")
    section.add("events that the broker dropped again", sum(start for start, _ in after.values()))
    newer_first = await _count_newer_first(world, after)
    section.require(newer_first == 0, f"{newer_first} events are on Kafka before an older one")
    await _wait_applied(world, section, rows)


async def _add_rows(world: World, rows: int) -> None:
    contact = ContactState(
        contact_id=_FIRST_CONTACT,
        version=2,
        phone="+61449000000",
        fields={"first_name": "Alexandra", "last_name": "Papadopoulos", "company": "Torrens Physio"},
        is_active=True,
        opt_out=False,
    )
    event = ContactChanged(
        event_id=_NO_EVENT, occurred_at=datetime.now(UTC), organisation_id=_ORGANISATION, contacts=(contact,)
    )
    body = event.model_dump_json()
    connection = await world.connect("contacts")
    try:
        for start in range(0, rows, _CHUNK):
            end = min(start + _CHUNK, rows)
            values = (ContactChanged.topic, body, str(_NO_EVENT), str(_FIRST_CONTACT), start, end)
            await connection.execute(_ADD, *values)
    finally:
        await connection.close()


async def _watch(world: World, section: Section, drains: list[Drain]) -> None:
    """Look at the outbox until it is empty. Memory is measured once a tenth is drained, when buffers have been full."""
    await _look_until(world, drains, int(drains[0].left * 0.9))
    async with Memory(world.stack, section):
        await _look_until(world, drains, 0)


async def _look_until(world: World, drains: list[Drain], left: int) -> None:
    deadline = time.monotonic() + _DRAIN_S
    while drains[-1].left > left:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the outbox has {drains[-1].left} rows after {_DRAIN_S:.0f} s")
        await asyncio.sleep(_POLL_S if drains[-1].left > _CHUNK else _SHORT_POLL_S)
        await _look(world, drains)


async def _look(world: World, drains: list[Drain]) -> None:
    count, first, last = (await world.fetch(_LEFT))[0]
    drains.append(Drain(time.monotonic(), count, first or 0, last or 0))


def _check_drains(section: Section, drains: list[Drain]) -> None:
    """Check that only the oldest rows were missing at each look, and compare the rates of both halves."""
    prefixes = [each.left == each.last - each.first + 1 for each in drains if each.left]
    section.require(all(prefixes), f"at {prefixes.count(False)} of {len(prefixes)} looks, newer rows were gone first")
    section.add("looks at the outbox while it was drained", len(prefixes))
    seconds = drains[-1].at - drains[0].at
    section.add("drained in", seconds, "s")
    total, half = drains[0].left, drains[0].left / 2
    middle = next(each for each in drains if each.left <= half)
    if 0 < middle.left < total and seconds:
        section.add("rate of the first half", (total - middle.left) / (middle.at - drains[0].at), "events/s")
        section.add("rate of the second half", middle.left / (drains[-1].at - middle.at), "events/s")


async def _wait_applied(world: World, section: Section, rows: int) -> None:
    """Wait until scheduling has applied the newest event."""
    start = time.monotonic()
    while time.monotonic() - start < _DRAIN_S:
        count, newest = (await world.fetch(_APPLIED, _ORGANISATION))[0]
        if newest == _FIRST_CONTACT + rows - 1:
            section.add("newest event applied by scheduling after", time.monotonic() - start, "s")
            section.add("events applied by scheduling", count)
            return
        await asyncio.sleep(_POLL_S)
    section.require(False, f"scheduling has not applied the newest event after {_DRAIN_S:.0f} s")


async def dropped_events(world: World) -> None:
    """Dispatch more than the broker retains while delivery's worker is away. The sweep publishes the lost events."""
    section = world.section("events are lost at the broker")
    organisation = "org_lost_events"
    await world.wait_idle(_DRAIN_S)
    await world.clear_handset()
    before = await _offsets(world, ScheduleDue.topic)
    await world.stack.stop_process("delivery worker")
    try:
        texts = await world.add_due_schedules(organisation, _LONG_TEXT, world.size.long)
        await _wait_dispatched(world, organisation)
        dispatched = await _offsets(world, ScheduleDue.topic)
    finally:
        world.stack.start_process("delivery worker")
    started = time.monotonic()
    await world.stack.wait_ready()
    is_idle = await world.wait_idle(_DRAIN_S)
    section.add("messages dispatched while delivery's worker was away", world.size.long)
    lost = sum(max(0, start - before[partition][1]) for partition, (start, _) in dispatched.items())
    section.add("events that the broker dropped before they were read", lost)
    again = await _offsets(world, ScheduleDue.topic)
    section.add(
        "events published again by the sweep",
        sum(end for _, end in again.values()) - sum(end for _, end in dispatched.values()),
    )
    section.add("everything sent after", time.monotonic() - started, "s")
    section.require(is_idle is not None, f"something is still open after {_DRAIN_S:.0f} s")
    await check_arrivals(world, section, Counter(texts))


async def _wait_dispatched(world: World, organisation: str) -> None:
    """Wait until all schedules were dispatched and their events transmitted."""
    pending = "SELECT count(*) FROM scheduling.schedules WHERE organisation_id = $1 AND status = 'pending'"
    async with asyncio.timeout(_DRAIN_S):
        while (await world.fetch(pending, organisation))[0][0] or (
            await world.fetch("SELECT count(*) FROM scheduling.outbox")
        )[0][0]:
            await asyncio.sleep(_POLL_S)


async def _offsets(world: World, topic: str) -> dict[Any, tuple[int, int]]:
    """Return partition → its first offset and the offset after its last one."""
    consumer = AIOKafkaConsumer(bootstrap_servers=world.stack.environment["KAFKA_BOOTSTRAP_SERVERS"])
    await consumer.start()
    try:
        partitions = await _partitions(consumer, topic)
        first, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        return {partition: (first[partition], end[partition]) for partition in partitions}
    finally:
        await consumer.stop()


async def _partitions(consumer: Any, topic: str) -> list[TopicPartition]:
    await consumer._client.force_metadata_update()  # as delivery's own question about its lag does
    return [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]


async def _count_newer_first(world: World, offsets: dict[Any, tuple[int, int]]) -> int:
    """Read what the broker retains, and count the events that come after a newer one of their partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=world.stack.environment["KAFKA_BOOTSTRAP_SERVERS"])
    await consumer.start()
    try:
        consumer.assign(list(offsets))
        await consumer.seek_to_beginning(*offsets)
        left = {partition for partition, (first, end) in offsets.items() if first < end}
        contacts: dict[Any, list[int]] = defaultdict(list)
        async with asyncio.timeout(_DRAIN_S):
            while left:
                for partition, records in (await consumer.getmany(timeout_ms=1000)).items():
                    contacts[partition] += [int(record.key) for record in records if int(record.key) >= _FIRST_CONTACT]
                    if records[-1].offset + 1 >= offsets[partition][1]:
                        left.discard(partition)
    finally:
        await consumer.stop()
    return sum(a > b for found in contacts.values() for a, b in pairwise(found))
