"""Transmit the outbox to Kafka, in the order of the rows' ids. One relay of a service is active at a time."""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from common import tracing
from common.database import Database
from common.loops import report_rows

log = structlog.get_logger()

BATCH = 500
_SEND_TIMEOUT_S = 15.0
_LOCKED_PAUSE_S = 0.1
_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtext(:name))")
_OLDEST = text("SELECT id, topic, key, body, request_id, traceparent, created_at FROM outbox ORDER BY id LIMIT :batch")
_DELETE = text("DELETE FROM outbox WHERE id = ANY(CAST(:ids AS bigint[]))")
_OVERSIZED = text(
    """
    INSERT INTO dead_letters (topic, kafka_partition, kafka_offset, sha256, key, body, error)
    SELECT topic, -1, id, sha256(body), convert_to(key, 'UTF8'), body, :error FROM outbox WHERE id = :id
    ON CONFLICT DO NOTHING
    """
)


class Relay:
    """The relay of one service. It replaces its producer after a time-out or an error (aiokafka#1017)."""

    def __init__(
        self, database: Database, bootstrap_servers: str, service: str, tls: ssl.SSLContext | None = None
    ) -> None:
        self._database = database
        self._servers = bootstrap_servers
        self._service = service
        self._tls = tls
        self._producer: AIOKafkaProducer | None = None

    async def step(self) -> bool:
        """Transmit the oldest rows, then delete them, in one transaction. Return whether there may be more."""
        async with self._database.all_tenants() as session:
            if not await session.scalar(_LOCK, {"name": f"{self._service}.relay"}):
                # Another worker transmits. Look again soon: it may not have seen the newest rows.
                asyncio.get_running_loop().call_later(_LOCKED_PAUSE_S, self._database.published.set)
                return False
            rows = (await session.execute(_OLDEST, {"batch": BATCH})).all()
            if not rows:
                return False
            with tracing.transmission(rows) as traceparents:
                await self._transmit(session, rows, traceparents)
            await session.execute(_DELETE, {"ids": [row.id for row in rows]})
        report_rows(len(rows))
        return len(rows) == BATCH

    async def _transmit(
        self, session: AsyncSession, rows: Sequence[Row[Any]], traceparents: Sequence[str | None]
    ) -> None:
        producer = await self._get_producer()
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_S):
                sent = []
                for row, traceparent in zip(rows, traceparents, strict=True):
                    try:
                        headers = _headers(request_id=row.request_id, traceparent=traceparent)
                        sent.append(await producer.send(row.topic, row.body, row.key.encode(), headers=headers))
                    except MessageSizeTooLargeError as error:
                        log.error("event too large", topic=row.topic, outbox_id=row.id)
                        await session.execute(_OVERSIZED, {"id": row.id, "error": str(error)})
                await asyncio.gather(*sent)
        except (TimeoutError, KafkaError):
            await self._drop_producer()
            raise

    async def _get_producer(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._servers,
                security_protocol="SSL" if self._tls else "PLAINTEXT",
                ssl_context=self._tls,
                client_id=f"{self._service}.relay",
                acks="all",
                enable_idempotence=True,
                max_batch_size=128 * 1024,
                linger_ms=2,
                request_timeout_ms=10_000,
            )
            self._producer = producer
            try:
                async with asyncio.timeout(_SEND_TIMEOUT_S):
                    await producer.start()
            except (TimeoutError, KafkaError, OSError):
                await self._drop_producer()
                raise
        return self._producer

    async def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                async with asyncio.timeout(3):
                    await producer.stop()
            except (TimeoutError, KafkaError, OSError) as error:
                log.warning("producer stop failed", error=type(error).__name__)

    async def close(self) -> None:
        """Stop the producer."""
        await self._drop_producer()


def _headers(**values: str | None) -> list[tuple[str, bytes]]:
    return [(name, value.encode()) for name, value in values.items() if value]
