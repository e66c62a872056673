"""From the outbox over a real broker to a consumer: nothing is lost, and bad records become dead letters."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.batches import BatchReader, Record
from common.bus import Bus, consume, make_bus
from common.database import Database, in_transaction
from common.events import MessageSent, OrganisationChanged, ScheduleDue
from common.metrics import REGISTRY
from common.outbox import publish
from common.relay import Relay
from common.settings import StoreSettings


class SampleSettings(StoreSettings):
    service = "sample"


@pytest.fixture
def settings(kafka_servers: str, sample_url: str) -> SampleSettings:
    return SampleSettings(
        port=1,
        worker_port=2,
        database_url=sample_url,
        kafka_bootstrap_servers=kafka_servers,
        kafka_session_timeout_ms=6000,
        internal_token_secret="s" * 32,
    )


@pytest.fixture
async def relay(database: Database, kafka_servers: str) -> AsyncIterator[Relay]:
    relay = Relay(database, kafka_servers, "sample")
    yield relay
    await relay.close()


@pytest.fixture
async def start_consumer(settings: SampleSettings) -> AsyncIterator[Callable[..., Awaitable[Bus]]]:
    """`await start_consumer(event, handler)`: a consumer in its own group, stopped at the end of the test."""
    started: list[Bus] = []

    async def start(event: Any, handler: Callable[[Sequence[Record]], Awaitable[None]]) -> Bus:
        bus = make_bus(settings)
        bus.subscribe([event], f"test-{uuid4()}", handler)
        started.append(bus)
        await bus.broker.start()
        return bus

    yield start
    for bus in started:
        await bus.broker.stop()


def changed(organisation: str, version: int) -> OrganisationChanged:
    return OrganisationChanged(organisation_id=organisation, closed=False, version=version)


async def drain(relay: Relay) -> None:
    while await relay.step():
        pass


async def _as_result(value: bool) -> bool:
    """Return the value, as a check that `eventually` can await."""
    return value


async def test_events_arrive_in_order_of_their_key(
    database: Database, relay: Relay, start_consumer: Any, eventually: Any
) -> None:
    organisations = [f"org_{uuid4()}" for _ in range(10)]
    async with database.all_tenants() as session:
        await publish(session, [changed(o, v) for v in range(120) for o in organisations])
    await drain(relay)
    seen: dict[str, list[int]] = defaultdict(list)

    async def handler(records: Sequence[Record]) -> None:
        async def apply(_: AsyncSession, events: list[OrganisationChanged]) -> None:
            for event in events:
                seen[event.organisation_id].append(event.version)

        await consume(database, OrganisationChanged, records, apply)

    await start_consumer(OrganisationChanged, handler)

    async def all_there() -> bool:
        return all(len(seen[o]) == 120 for o in organisations)

    await eventually(all_there)
    assert all(seen[o] == list(range(120)) for o in organisations)
    async with database.all_tenants() as session:
        assert await session.scalar(text("SELECT count(*) FROM outbox")) == 0


async def test_a_backlog_of_single_records_is_read_in_large_batches(
    database: Database, relay: Relay, start_consumer: Any, eventually: Any
) -> None:
    """The broker returns one producer's batch for each fetch. A batch for each of them would take 400 transactions."""
    organisation = f"org_{uuid4()}"
    for version in range(400):
        async with database.all_tenants() as session:
            await publish(session, [changed(organisation, version)])
        await relay.step()
    batches: list[int] = []

    async def handler(records: Sequence[Record]) -> None:
        batches.append(sum(organisation.encode() in (record.value or b"") for record in records))

    await start_consumer(OrganisationChanged, handler)
    await eventually(lambda: _as_result(sum(batches) == 400))
    assert len([count for count in batches if count]) <= 20


async def test_lag_counts_the_records_behind_a_batch_until_they_are_handled(
    database: Database, relay: Relay, start_consumer: Any, eventually: Any
) -> None:
    release, handled = asyncio.Event(), 0

    async def handler(records: Sequence[Record]) -> None:
        nonlocal handled
        await release.wait()
        handled += len(records)

    bus = await start_consumer(ScheduleDue, handler)
    (group,) = (str(subscriber.group_id) for subscriber in bus.subscribers())

    async def publish_one() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=bus.settings.kafka_bootstrap_servers)
        await producer.start()
        await producer.send_and_wait(ScheduleDue.topic, b"{}", key=b"1")
        await producer.stop()

    await publish_one()
    await eventually(lambda: _as_result(bool(bus.batch_since)))
    for _ in range(3):
        await publish_one()
    await eventually(lambda: _as_result(bus.lag() == {(group, ScheduleDue.topic): 3}))
    bus.set_metrics()
    labels = {"group": group, "topic": ScheduleDue.topic}
    assert REGISTRY.get_sample_value("cooee_consumer_lag", labels) == 3
    release.set()
    await eventually(lambda: _as_result(handled == 4 and bus.lag() == {(group, ScheduleDue.topic): 0}))
    assert REGISTRY.get_sample_value("cooee_consumer_batch_records_sum", {"group": group}) == 4
    assert REGISTRY.get_sample_value("cooee_consumer_failures_total", {"group": group}) == 0


async def test_an_event_of_a_transaction_that_failed_is_never_published(database: Database) -> None:
    with pytest.raises(RuntimeError):
        async with database.tenant("org_a") as session:
            await publish(session, [changed("org_a", 1)])
            raise RuntimeError
    assert not database.published.is_set()
    async with database.tenant("org_a") as session:
        await publish(session, [changed("org_a", 1)])
    assert database.published.is_set()


async def test_a_lower_id_that_commits_late_is_published(database: Database, relay: Relay) -> None:
    async with database.all_tenants() as late:
        await publish(late, [changed("org_late", 1)])
        async with database.all_tenants() as early:
            await publish(early, [changed("org_early", 1)])
        await drain(relay)
    async with database.all_tenants() as session:
        keys = (await session.scalars(text("SELECT key FROM outbox"))).all()
    assert keys == ["org_late"]
    await drain(relay)
    async with database.all_tenants() as session:
        assert await session.scalar(text("SELECT count(*) FROM outbox")) == 0


async def test_a_second_relay_publishes_nothing_while_the_first_runs(
    database: Database, relay: Relay, kafka_servers: str
) -> None:
    async with database.all_tenants() as session:
        await publish(session, [changed("org_a", 1)])
    async with database.all_tenants() as session:
        await session.execute(text("SELECT pg_advisory_xact_lock(hashtext('sample.relay'))"))
        assert await relay.step() is False
    async with database.all_tenants() as session:
        assert await session.scalar(text("SELECT count(*) FROM outbox")) == 1


async def test_without_a_broker_the_rows_stay_in_the_outbox(database: Database) -> None:
    relay = Relay(database, "127.0.0.1:1", "sample")
    async with database.all_tenants() as session:
        await publish(session, [changed("org_a", 1)])
    with pytest.raises(Exception, match="connect|Connection|bootstrap"):
        await relay.step()
    async with database.all_tenants() as session:
        assert await session.scalar(text("SELECT count(*) FROM outbox")) == 1
    async with asyncio.timeout(10):
        await relay.close()


async def test_a_malformed_record_becomes_a_dead_letter_and_the_others_are_applied(
    database: Database, kafka_servers: str, start_consumer: Any, eventually: Any
) -> None:
    marker = str(uuid4())
    bad = [b"{", b"", b'{"version": "x"}', b"\xff\xfe", b'{"organisation_id": 7, "closed": null}']
    producer = AIOKafkaProducer(bootstrap_servers=kafka_servers)
    await producer.start()
    for version in range(3):
        event = changed(f"org_{marker}", version)
        await producer.send_and_wait(OrganisationChanged.topic, event.model_dump_json().encode(), marker.encode())
        await producer.send_and_wait(OrganisationChanged.topic, event.model_dump_json().encode(), marker.encode())
        for value in bad:
            await producer.send_and_wait(OrganisationChanged.topic, value, marker.encode())
    await producer.stop()
    seen: list[int] = []

    async def handler(records: Sequence[Record]) -> None:
        mine = [record for record in records if record.key == marker.encode()]

        async def apply(_: AsyncSession, events: list[OrganisationChanged]) -> None:
            seen.extend(event.version for event in events)

        await consume(database, OrganisationChanged, mine, apply)

    await start_consumer(OrganisationChanged, handler)

    async def all_are_dead_letters() -> bool:
        async with database.all_tenants() as session:
            return bool(await session.scalar(text("SELECT count(*) = 15 FROM dead_letters")))

    await eventually(all_are_dead_letters)
    assert sorted(set(seen)) == [0, 1, 2]


async def test_too_many_dead_letters_pause_a_consumer_until_they_are_acknowledged(
    database: Database, start_consumer: Any, eventually: Any, kafka_servers: str
) -> None:
    marker, topic = str(uuid4()).encode(), OrganisationChanged.topic

    async def count_dead_letters(statement: str) -> Any:
        async with database.all_tenants() as session:
            return await session.scalar(text(statement))

    async def add_dead_letters(count: int, age: str) -> None:
        async with database.all_tenants() as session:
            await session.execute(
                text(
                    "INSERT INTO dead_letters (topic, kafka_partition, kafka_offset, sha256, body, error, created_at)"
                    f" SELECT :topic, 0, -n, '{age}', 'x', 'x', now() - interval '{age}'"
                    f" FROM generate_series(1, {count}) AS n"
                ),
                {"topic": topic},
            )

    seen: list[int] = []

    async def handler(records: Sequence[Record]) -> None:
        async def apply(_: AsyncSession, events: list[OrganisationChanged]) -> None:
            seen.extend(event.version for event in events)

        await consume(database, OrganisationChanged, [r for r in records if r.key == marker], apply)

    async def is_paused() -> bool:
        return topic in bus.paused_topics

    async def is_continued() -> bool:
        return bool(await count_dead_letters("SELECT count(*) = 2 FROM dead_letters WHERE key IS NOT NULL"))

    producer = AIOKafkaProducer(bootstrap_servers=kafka_servers)
    await producer.start()
    await add_dead_letters(49, "2 hours")
    bus = await start_consumer(OrganisationChanged, handler)
    await producer.send_and_wait(topic, b"{", marker)
    await eventually(lambda: count_dead_letters("SELECT count(*) = 1 FROM dead_letters WHERE key IS NOT NULL"))
    await add_dead_letters(50, "1 hour")
    good = OrganisationChanged(organisation_id="org_good", closed=False, version=7).model_dump_json().encode()
    await producer.send_and_wait(topic, good, marker)
    await eventually(lambda: _as_result(seen == [7]))
    await add_dead_letters(51, "3 hours")
    await producer.send_and_wait(topic, b"[", marker)
    await eventually(is_paused)
    assert await count_dead_letters("SELECT count(*) FROM dead_letters WHERE key IS NOT NULL") == 1
    async with database.all_tenants() as session:
        await session.execute(text("UPDATE dead_letters SET acknowledged = true"))
    await eventually(is_continued)
    await eventually(lambda: _as_result(topic not in bus.paused_topics))
    await producer.stop()


async def test_a_handler_that_fails_receives_the_batch_again(
    database: Database, relay: Relay, start_consumer: Any, eventually: Any
) -> None:
    calls: list[int] = []
    organisation = f"org_{uuid4()}"

    async def handler(records: Sequence[Record]) -> None:
        if any(organisation.encode() == record.key for record in records):
            calls.append(len(records))
            if len(calls) < 3:
                raise RuntimeError("not yet")

    async with database.all_tenants() as session:
        await publish(session, [changed(organisation, 1)])
    await start_consumer(OrganisationChanged, handler)
    await drain(relay)

    async def three_times() -> bool:
        return len(calls) == 3

    await eventually(three_times)


async def test_a_consumer_fetches_more_often_while_it_has_records(
    database: Database, relay: Relay, start_consumer: Any, eventually: Any
) -> None:
    waits: list[int] = []

    async def handle(_: Sequence[Record]) -> None:
        waits.append(bus.subscribers()[0].consumer._fetcher._fetch_max_wait_ms)

    bus = await start_consumer(OrganisationChanged, handle)
    fetcher = bus.subscribers()[0].consumer._fetcher
    assert fetcher._fetch_max_wait_ms == 1000  # aiokafka's constructor filled the attribute from its public argument
    async with database.all_tenants() as session:
        await publish(session, [changed("org_a", 1)])
    await drain(relay)
    await eventually(lambda: _as_result(bool(waits)))
    assert waits[0] == 50
    await eventually(lambda: _as_result(fetcher._fetch_max_wait_ms == 1000))


async def test_records_of_a_partition_that_moved_meanwhile_are_handled(
    database: Database, relay: Relay, settings: SampleSettings, kafka_servers: str
) -> None:
    """aiokafka asserts that a partition is assigned when its end is asked for. That must not end the consumer."""
    async with database.all_tenants() as session:
        await publish(session, [changed(f"org_{uuid4()}", 1)])
    await drain(relay)

    class Moved(AIOKafkaConsumer):  # type: ignore[misc] # aiokafka has no types
        async def getmany(self, *partitions: Any, **options: Any) -> Any:
            found = await super().getmany(*partitions, **options)
            self.unsubscribe()
            return found

    consumer = Moved(OrganisationChanged.topic, bootstrap_servers=kafka_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        assert await BatchReader(500).read(consumer)
    finally:
        await consumer.stop()


async def test_in_transaction_retries_transient_errors_only(database: Database) -> None:
    tries: list[int] = []

    async def killed_once(session: AsyncSession) -> int:
        tries.append(1)
        if len(tries) == 1:
            pid = await session.scalar(text("SELECT pg_backend_pid()"))
            async with database.all_tenants() as other:
                await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        await session.execute(text("INSERT INTO notes (organisation_id, body) VALUES ('org_a', 'once')"))
        return 7

    assert await in_transaction(database.all_tenants, killed_once) == 7
    async with database.all_tenants() as session:
        assert await session.scalar(text("SELECT count(*) FROM notes")) == 1

    async def wrong(session: AsyncSession) -> None:
        tries.append(1)
        await session.execute(text("SELECT 1 / 0"))

    tries.clear()
    with pytest.raises(Exception, match="division"):
        await in_transaction(database.all_tenants, wrong)
    assert len(tries) == 1


def test_the_id_of_a_due_schedule_follows_from_schedule_and_dispatch_number() -> None:
    assert ScheduleDue.id_of(7, 1) == ScheduleDue.id_of(7, 1) != ScheduleDue.id_of(7, 2)
    assert MessageSent.model_config.get("frozen")


async def test_a_connection_that_died_while_idle_is_replaced(
    database: Database, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart of PostgreSQL the next transaction replaces the connection before it begins."""
    monkeypatch.setattr("common.database._IDLE_CHECK_S", 0.0)
    async with database.tenant("org_a") as session:
        pid = await session.scalar(text("SELECT pg_backend_pid()"))
    admin = await asyncpg.connect(postgres_url)
    assert await admin.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
    await admin.close()
    async with database.tenant("org_a") as session:
        assert await session.scalar(text("SELECT pg_backend_pid()")) != pid
