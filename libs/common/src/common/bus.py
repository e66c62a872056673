"""Kafka as a consumer sees it: batches of records, at least once, decoded one by one, in one transaction a batch."""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar

import structlog
from aiokafka import ConsumerRecord
from faststream import AckPolicy, BaseMiddleware
from faststream.kafka import KafkaBroker, KafkaMessage
from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.database import Database, in_transaction
from common.events import Event
from common.settings import StoreSettings

log = structlog.get_logger()

EventT = TypeVar("EventT", bound=Event)
Record: TypeAlias = ConsumerRecord
_DEAD_LETTERS = text(
    """
    INSERT INTO dead_letters (topic, kafka_partition, kafka_offset, sha256, key, body, error)
    SELECT * FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS int[]), CAST(:offsets AS bigint[]),
                         CAST(:hashes AS bytea[]), CAST(:keys AS bytea[]), CAST(:bodies AS bytea[]),
                         CAST(:errors AS text[]))
    ON CONFLICT DO NOTHING
    """
)
# A bad deploy must not empty a topic into the table: more than 50 within 10 minutes, and the next bad record stops its
# consumer. Their own times are compared, so that the stop lasts until somebody ends it.
_IS_STOPPED = text(
    """
    SELECT count(*) > 50 AND max(created_at) - min(created_at) < interval '10 minutes'
    FROM (SELECT created_at FROM dead_letters WHERE topic = :topic AND NOT passed AND kafka_partition >= 0
          ORDER BY id DESC LIMIT 51) AS newest
    """
)


class TooManyDeadLetters(Exception):
    """A consumer reads no further until an operator lets the dead letters of its topic pass."""


class BackOff(BaseMiddleware):
    """After a failure waits, longer each time, before the batch is read again (NACK_ON_ERROR seeks back at once)."""

    _failures: ClassVar[dict[str, int]] = {}
    stopped: ClassVar[set[str]] = set()  # the topics that have too many dead letters

    async def consume_scope(self, call_next: Any, msg: Any) -> Any:
        topic = msg.raw_message[0].topic
        try:
            result = await call_next(msg)
        except Exception as error:
            failures = self._failures[topic] = self._failures.get(topic, 0) + 1
            if isinstance(error, TooManyDeadLetters):
                self.stopped.add(topic)
            pause = min(30.0, 0.2 * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)
            log.error("batch failed", topic=topic, failures=failures, pause_s=round(pause, 1), error=repr(error)[:500])
            await asyncio.sleep(pause)
            raise
        self._failures.pop(topic, None)
        self.stopped.discard(topic)
        return result


async def _raw(message: KafkaMessage) -> Any:
    return message.raw_message


def make_broker(settings: StoreSettings) -> KafkaBroker:
    """The broker of a worker. Topics are provisioned elsewhere, never made by accident."""
    return KafkaBroker(
        settings.kafka_bootstrap_servers,
        client_id=f"{settings.service}.worker",
        allow_auto_create_topics=False,
        apply_types=False,
        graceful_timeout=20,
        middlewares=[BackOff],
        decoder=_raw,
        logger=None,
    )


def subscribe(
    broker: KafkaBroker,
    settings: StoreSettings,
    events: Sequence[type[Event]],
    purpose: str,
    handler: Callable[[Sequence[Record]], Awaitable[None]],
) -> None:
    """Calls `handler` with each batch of the events' topics, as the group `<service>.<purpose>` (bus.md, Consumers)."""

    async def handle(records: Any) -> None:
        await handler(records)

    broker.subscriber(
        *(event.topic for event in events),
        group_id=f"{settings.service}.{purpose}",
        batch=True,
        max_records=500,
        batch_timeout_ms=100,
        fetch_max_wait_ms=100,
        auto_offset_reset="earliest",
        session_timeout_ms=settings.kafka_session_timeout_ms,
        heartbeat_interval_ms=settings.kafka_session_timeout_ms // 3,
        rebalance_timeout_ms=60_000,
        max_poll_interval_ms=300_000,
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )(handle)


async def consume(
    database: Database,
    event_class: type[EventT],
    records: Sequence[Record],
    use_case: Callable[[AsyncSession, list[EventT]], Awaitable[object]],
) -> None:
    """Decodes a batch and runs `use_case` on it once, in one transaction with the dead letters of what was unreadable.

    Duplicates inside the batch are dropped. A database that is away is waited for; then the failure goes up and the
    batch is read again. So it is, every half minute, when there are too many dead letters (TooManyDeadLetters).
    """
    events: dict[Any, EventT] = {}
    bad: list[tuple[Record, str]] = []
    for record in records:
        try:
            event = event_class.model_validate_json(record.value or b"")
            events.setdefault(event.event_id, event)
        except ValidationError as error:
            reason = "; ".join(f"{p['loc']}: {p['msg']}" for p in error.errors(include_input=False, include_url=False))
            bad.append((record, reason[:1000]))

    async def work(session: AsyncSession) -> None:
        if bad:
            if await session.scalar(_IS_STOPPED, {"topic": bad[0][0].topic}):
                raise TooManyDeadLetters(bad[0][0].topic)
            await _bury(session, bad)
        if events:
            await use_case(session, list(events.values()))

    await in_transaction(database.all_tenants, work)


async def _bury(session: AsyncSession, bad: Sequence[tuple[Record, str]]) -> None:
    for record, reason in bad:
        log.error("dead letter", topic=record.topic, partition=record.partition, offset=record.offset, reason=reason)
    bodies = [record.value or b"" for record, _ in bad]
    await session.execute(
        _DEAD_LETTERS,
        {
            "topics": [record.topic for record, _ in bad],
            "partitions": [record.partition for record, _ in bad],
            "offsets": [record.offset for record, _ in bad],
            "hashes": [hashlib.sha256(body).digest() for body in bodies],
            "keys": [record.key for record, _ in bad],
            "bodies": bodies,
            "errors": [reason for _, reason in bad],
        },
    )
