"""Consume Kafka: batches of records, at least once, decoded one by one, in one transaction for each batch."""

import asyncio
import contextlib
import hashlib
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import structlog
from aiokafka import ConsumerRebalanceListener
from aiokafka.errors import KafkaError
from faststream import AckPolicy, BaseMiddleware
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.security import BaseSecurity
from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common import metrics, tracing
from common.batches import BatchReader, Record
from common.bulk import Columns
from common.database import Database, in_transaction
from common.events import Event
from common.settings import StoreSettings

log = structlog.get_logger()

EventT = TypeVar("EventT", bound=Event)
# How long the broker may hold a fetch of an idle consumer.
_IDLE_WAIT_MS, _SELDOM_WAIT_MS = 200, 1000
# aiokafka's fetcher wakes by events, and after this time as a fallback. Its default of 200 ms costs an idle worker CPU.
_CONSUMER_TIMEOUT_MS = 2000
_ENDS_TIMEOUT_S = 5.0
# Consumers continue within 5 s of an outage's end. A pause for dead letters ends only when an operator acts.
_MAX_BACK_OFF_S, _DEAD_LETTERS_PAUSE_S = 5.0, 30.0
_REBALANCE_TIMEOUT_S = 60
_REBALANCE_MARGIN_S = 10
_DEAD_LETTER = Columns(
    topic="text", kafka_partition="int", kafka_offset="bigint", sha256="bytea", key="bytea", body="bytea", error="text"
)
_ADD_DEAD_LETTERS = text(
    f"""
    INSERT INTO dead_letters ({", ".join(_DEAD_LETTER.names)})
    SELECT * FROM {_DEAD_LETTER.unnest("new")}
    ON CONFLICT DO NOTHING
    """  # noqa: S608  # constants of this file
)
# With more than 50 dead letters within 10 minutes the consumer pauses at its next bad record, so that a faulty version
# does not move a whole topic into the table. The rows' own times are compared, so the pause lasts until an operator
# acknowledges them. A negative partition marks an event that the relay could not transmit.
_HAS_TOO_MANY = text(
    """
    SELECT count(*) > 50 AND max(created_at) - min(created_at) < interval '10 minutes'
    FROM (SELECT created_at FROM dead_letters WHERE topic = :topic AND NOT acknowledged AND kafka_partition >= 0
          ORDER BY id DESC LIMIT 51) AS newest
    """
)


class TooManyDeadLetters(Exception):
    """A consumer reads no further until an operator acknowledges the dead letters of its topic."""


@dataclass(slots=True)
class Bus:
    """The consumers of one process.

    failures: consecutive failures of each topic.
    paused_topics: topics with too many dead letters.
    batch_since: when the running batch of each consumer group began (`time.monotonic`).
    unavailable_at: when the broker was last found unavailable (`time.monotonic`).
    ends: the offset after the last record of each partition, by the broker's last answer.
    """

    settings: StoreSettings
    broker: KafkaBroker = field(init=False)
    failures: dict[str, int] = field(default_factory=dict)
    paused_topics: set[str] = field(default_factory=set)
    batch_since: dict[str, float] = field(default_factory=dict)
    unavailable_at: float = -math.inf
    ends: dict[Any, int] = field(default_factory=dict)
    _asking: asyncio.Task[None] | None = None

    def subscribe(
        self,
        events: Sequence[type[Event]],
        purpose: str,
        handler: Callable[[Sequence[Record]], Awaitable[None]],
        *,
        is_busy: bool = False,
    ) -> None:
        """Call `handler` with each batch of the events' topics, as the consumer group `<service>.<purpose>`.

        A batch has at most 500 records. `is_busy` is for topics that carry every message: they are fetched more often.
        See docs/events.md for what the settings of a consumer mean.
        """
        group, finished = f"{self.settings.service}.{purpose}", asyncio.Event()
        batch_metrics, handler = metrics.BatchMetrics(group), tracing.wrap_consumer(group, handler)

        async def handle(records: Any) -> None:
            self.batch_since[group] = time.monotonic()
            finished.clear()
            try:
                with batch_metrics.measure(len(records)):
                    await handler(records)
            finally:
                del self.batch_since[group]
                finished.set()

        timeout_ms = self.settings.kafka_session_timeout_ms
        reader = BatchReader(_IDLE_WAIT_MS if is_busy else _SELDOM_WAIT_MS)
        subscriber: Any = self.broker.subscriber(
            *(event.topic for event in events),
            group_id=group,
            listener=FinishBatch(self, group, finished),
            batch=True,
            fetch_max_wait_ms=reader.idle_wait_ms,
            consumer_timeout_ms=_CONSUMER_TIMEOUT_MS,
            auto_offset_reset="earliest",
            session_timeout_ms=timeout_ms,
            heartbeat_interval_ms=timeout_ms // 3,
            rebalance_timeout_ms=_REBALANCE_TIMEOUT_S * 1000,
            max_poll_interval_ms=300_000,
            ack_policy=AckPolicy.NACK_ON_ERROR,
        )
        # FastStream's own method takes what one fetch returned, and sleeps for a second when there was nothing.
        subscriber.get_msg = reader.read
        subscriber(handle)

    def subscribers(self) -> Sequence[Any]:
        """Return FastStream's subscribers. Each has a `group_id` and, once it is started, a `consumer`."""
        return list(self.broker.subscribers)

    def lag(self) -> dict[tuple[str, str], int]:
        """Return the records after the running batches, by group and topic, of the partitions that this process reads.

        A partition counts from its first fetch on. While a consumer's batch runs, it fetches no more, so the broker is
        asked for the ends of its partitions in the background: the answer counts from the next call on.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_for_ends())
        found: dict[tuple[str, str], int] = {}
        for subscriber in self.subscribers():
            for partition in subscriber.consumer.assignment() if subscriber.consumer is not None else ():
                key = str(subscriber.group_id), str(partition.topic)
                found[key] = found.get(key, 0) + _partition_lag(subscriber.consumer, partition, self.ends)
        return found

    async def _ask_for_ends(self) -> None:
        for subscriber in self.subscribers():
            if subscriber.consumer is not None and str(subscriber.group_id) in self.batch_since:
                # While the broker is unavailable, the ends that are known count.
                with contextlib.suppress(KafkaError, TimeoutError):
                    async with asyncio.timeout(_ENDS_TIMEOUT_S):
                        self.ends |= await subscriber.consumer.end_offsets(subscriber.consumer.assignment())

    def set_metrics(self) -> None:
        """Set the metrics of the consumers' state."""
        metrics.CONSUMER_LAG.clear()
        for labels, lag in self.lag().items():
            metrics.CONSUMER_LAG.labels(*labels).set(lag)
        metrics.PAUSED_TOPICS.labels(self.settings.service).set(len(self.paused_topics))


def _partition_lag(consumer: Any, partition: Any, ends: Mapping[Any, int]) -> int:
    """Return the distance from a consumer's position to the end of a partition.

    aiokafka's public `position` waits until there is one, so the state is read where aiokafka keeps it.
    """
    assignment = consumer._subscription.subscription.assignment
    state = assignment.state_value(partition) if assignment is not None else None
    if state is None or not state.has_valid_position or state.highwater is None:
        return 0
    return max(0, max(int(state.highwater), ends.get(partition, 0)) - int(state.position))


class FinishBatch(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """Lets the running batch finish before its partitions move to another worker, which would read it again."""

    def __init__(self, bus: Bus, group: str, finished: asyncio.Event) -> None:
        self._bus = bus
        self._group = group
        self._finished = finished

    async def on_partitions_revoked(self, _: object) -> None:
        """Wait for the running batch, at most as long as the broker waits for this worker."""
        if self._group not in self._bus.batch_since:
            return
        try:
            async with asyncio.timeout(_REBALANCE_TIMEOUT_S - _REBALANCE_MARGIN_S):
                await self._finished.wait()
        except TimeoutError:
            log.warning("batch not finished before its partitions moved", group=self._group)

    async def on_partitions_assigned(self, _: object) -> None:
        """Do nothing."""


class BackOff(BaseMiddleware):
    """After a failure, wait before the batch is read again: NACK_ON_ERROR alone seeks back at once."""

    def __init__(self, msg: Any, /, *, context: Any, bus: Bus) -> None:
        super().__init__(msg, context=context)
        self._bus = bus

    async def consume_scope(self, call_next: Any, msg: Any) -> Any:
        topic = msg.raw_message[0].topic
        try:
            result = await call_next(msg)
        except Exception as error:
            failures = self._bus.failures[topic] = self._bus.failures.get(topic, 0) + 1
            if isinstance(error, TooManyDeadLetters):
                self._bus.paused_topics.add(str(error))
            longest = _DEAD_LETTERS_PAUSE_S if isinstance(error, TooManyDeadLetters) else _MAX_BACK_OFF_S
            pause = min(longest, 0.2 * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)
            log.error("batch failed", topic=topic, failures=failures, pause_s=round(pause, 1), error=repr(error)[:500])
            await asyncio.sleep(pause)
            raise
        self._bus.failures.pop(topic, None)
        self._bus.paused_topics.difference_update(record.topic for record in msg.raw_message)
        return result


async def _decode_nothing(message: KafkaMessage) -> Any:
    return message.raw_message


def make_bus(settings: StoreSettings) -> Bus:
    """Return the consumers of a worker, without subscriptions. Topics are provisioned, never created by accident."""
    bus, tls = Bus(settings), settings.kafka_tls
    bus.broker = KafkaBroker(
        settings.kafka_bootstrap_servers,
        client_id=f"{settings.service}.worker",
        security=None if tls is None else BaseSecurity(ssl_context=tls, use_ssl=True),
        allow_auto_create_topics=False,
        apply_types=False,
        graceful_timeout=20,
        middlewares=[partial(BackOff, bus=bus)],
        decoder=_decode_nothing,
        logger=None,
    )
    return bus


async def consume(
    database: Database,
    event_class: type[EventT],
    records: Sequence[Record],
    use_case: Callable[[AsyncSession, list[EventT]], Awaitable[object]],
) -> None:
    """Decode a batch and run `use_case` on it once, in one transaction with the dead letters of unreadable records.

    Duplicates inside the batch are dropped. While the database is unavailable the transaction is retried for 60 s.
    Then the failure is raised, and Kafka delivers the batch again. Raises TooManyDeadLetters.
    """
    await consume_topics(database, {event_class.topic: event_class}, records, use_case)


async def consume_topics(
    database: Database,
    event_classes: Mapping[str, type[EventT]],
    records: Sequence[Record],
    use_case: Callable[[AsyncSession, list[EventT]], Awaitable[object]],
) -> None:
    """Do what `consume` does for a batch of several topics. `event_classes` has the class of each topic."""
    events: dict[Any, EventT] = {}
    bad: list[tuple[Record, str]] = []
    for record in records:
        try:
            event = event_classes[record.topic].model_validate_json(record.value or b"")
            events.setdefault(event.event_id, tracing.continued(event, record))
        except ValidationError as error:
            reason = "; ".join(f"{p['loc']}: {p['msg']}" for p in error.errors(include_input=False, include_url=False))
            bad.append((record, reason[:1000]))

    async def work(session: AsyncSession) -> None:
        if bad:
            for topic in sorted({record.topic for record, _ in bad}):
                if await session.scalar(_HAS_TOO_MANY, {"topic": topic}):
                    raise TooManyDeadLetters(topic)
            await _add_dead_letters(session, bad)
        if events:
            await use_case(session, list(events.values()))

    await in_transaction(database.all_tenants, work)


async def _add_dead_letters(session: AsyncSession, bad: Sequence[tuple[Record, str]]) -> None:
    for record, reason in bad:
        log.error("dead letter", topic=record.topic, partition=record.partition, offset=record.offset, reason=reason)
    rows = [
        (
            record.topic,
            record.partition,
            record.offset,
            hashlib.sha256(record.value or b"").digest(),
            record.key,
            record.value or b"",
            reason,
        )
        for record, reason in bad
    ]
    await session.execute(_ADD_DEAD_LETTERS, _DEAD_LETTER.bind_tuples(rows))
