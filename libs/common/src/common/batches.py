"""Read the records of a consumer in batches: at once after a quiet time, and under load those of 100 ms together."""

import asyncio
import math
from typing import Any, TypeAlias

from aiokafka import ConsumerRecord

Record: TypeAlias = ConsumerRecord
_MAX_RECORDS = 500
_INTERVAL_S = 0.1  # between the beginnings of two batches
_MAX_GATHER_S = 0.2
_BACKLOG_WAIT_S = 0.01
_POLL_MS = 1000
# How long the broker may hold a fetch that finds no records.
_BUSY_WAIT_MS = 50
_BUSY_S = 1.0  # a consumer is busy until this time after its last batch


class BatchReader:
    """Reads the batches of one consumer.

    A batch costs nearly the same for one record and for many. So the first record after a quiet time is a batch of its
    own, and under load a batch has the records of one interval. With a backlog a batch has up to 500 records, even if
    the broker returns a few at a time, as the embedded broker does: it returns one producer's batch for each fetch.

    aiokafka has one fetch at a time for each broker. While it waits for the partitions that were empty, new records of
    the others are not fetched, so a long wait delays a busy consumer. A short one costs an idle consumer CPU. aiokafka
    reads the wait from an attribute of its fetcher before each fetch and has no public way to change it.
    """

    def __init__(self, idle_wait_ms: int) -> None:
        self.idle_wait_ms = idle_wait_ms
        self._interval_end = 0.0
        self._lengthening: asyncio.TimerHandle | None = None

    async def read(self, consumer: Any) -> tuple[Record, ...]:
        """Return the next batch of an `AIOKafkaConsumer`: at most 500 records, or none after a second without any."""
        clock = asyncio.get_running_loop().time
        last = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_MAX_RECORDS)
        records = [record for found in last.values() for record in found]
        if not records:
            return ()
        self._shorten_wait(consumer)
        give_up_at = clock() + _MAX_GATHER_S
        while len(records) < _MAX_RECORDS and (now := clock()) < give_up_at:
            wait_s = self._interval_end - now
            if wait_s <= 0 and not _has_backlog(consumer, last):
                break
            timeout_ms = math.ceil(max(wait_s, _BACKLOG_WAIT_S) * 1000)
            try:
                last = await consumer.getmany(timeout_ms=timeout_ms, max_records=_MAX_RECORDS - len(records))
            except Exception:  # noqa: BLE001
                # aiokafka counts the records in hand as read, so they must be handled. The next call, which has none,
                # raises what lasts.
                break
            records += [record for found in last.values() for record in found]
        self._interval_end = clock() + _INTERVAL_S
        return tuple(records)

    def _shorten_wait(self, consumer: Any) -> None:
        """Let the fetches of the next second wait less."""
        if self._lengthening is None:
            _set_fetch_wait(consumer, _BUSY_WAIT_MS)
        else:
            self._lengthening.cancel()
        self._lengthening = asyncio.get_running_loop().call_later(_BUSY_S, self._lengthen_wait, consumer)

    def _lengthen_wait(self, consumer: Any) -> None:
        self._lengthening = None
        _set_fetch_wait(consumer, self.idle_wait_ms)


def _has_backlog(consumer: Any, last: dict[Any, list[Record]]) -> bool:
    """Return whether a partition has records after those that were returned last.

    A partition that has moved to another worker meanwhile counts as read: aiokafka knows no end of it any more.
    """
    assigned = consumer.assignment()
    return any(
        (consumer.highwater(partition) or 0) > found[-1].offset + 1
        for partition, found in last.items()
        if partition in assigned
    )


def _set_fetch_wait(consumer: Any, wait_ms: int) -> None:
    consumer._fetcher._fetch_max_wait_ms = wait_ms
