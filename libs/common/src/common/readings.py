"""Metrics that come from the database: read by one statement when they are scraped, and at most every few seconds."""
# ruff: noqa: S608 (the parts of the statements are constants)

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import Gauge
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from common import metrics
from common.database import Database

log = structlog.get_logger()

MAX_ROWS = 10_001
"""No statement counts further than this, so that a scrape costs the same however long a queue is."""
_TIMEOUT_S = 1.0
_MAX_AGE_S = 5.0
_SET_TIMEOUT = text(f"SET LOCAL statement_timeout = '{_TIMEOUT_S}s'")


@dataclass(frozen=True)
class Reading:
    """A gauge and the SELECT of its values. Each row has `labels`, an array of text, and `value`.

    The statement must use an index and read a bounded number of rows. A row whose value is null is skipped.
    """

    gauge: Gauge
    statement: str


@dataclass(frozen=True)
class Observed:
    """What a service adds to the metrics and the health of its worker.

    `set_metrics` sets metrics before they are read. `details` returns what to add to `/health/details`.
    """

    readings: Sequence[Reading] = ()
    set_metrics: Callable[[], None] | None = None
    details: Callable[[], Mapping[str, Any]] | None = None


def bus_readings(service: str) -> list[Reading]:
    """Return what every worker reads: its outbox and its dead letters."""
    return [
        Reading(
            metrics.OUTBOX_ROWS,
            f"SELECT ARRAY['{service}'] AS labels, count(*) AS value FROM (SELECT FROM outbox LIMIT {MAX_ROWS}) AS o",
        ),
        Reading(
            metrics.OUTBOX_OLDEST,
            f"""
            SELECT ARRAY['{service}'] AS labels,
                   coalesce((SELECT extract(epoch FROM clock_timestamp() - created_at)
                             FROM outbox ORDER BY id LIMIT 1), 0) AS value
            """,
        ),
        Reading(
            metrics.DEAD_LETTERS,
            f"""
            SELECT ARRAY['{service}', topic] AS labels, count(*) AS value
            FROM (SELECT topic FROM dead_letters WHERE NOT acknowledged LIMIT {MAX_ROWS}) AS d GROUP BY topic
            """,
        ),
    ]


class Readings:
    """The metrics of one worker that come from its database."""

    def __init__(self, database: Database, service: str, readings: Sequence[Reading]) -> None:
        self._database = database
        self._service = service
        self._readings = readings
        self._statement = text(
            " UNION ALL ".join(
                f"SELECT {number} AS number, labels, CAST(value AS float8) AS value FROM ({reading.statement}) AS r"
                for number, reading in enumerate(readings)
            )
        )
        self._task: asyncio.Task[list[tuple[int, list[str], float | None]]] | None = None
        self._read_at = float("-inf")

    async def refresh(self) -> None:
        """Set the gauges when they are older than 5 s. Take a second at most.

        When the database does not answer, the gauges have no values, and `cooee_database_up` is 0.
        """
        if time.monotonic() - self._read_at < _MAX_AGE_S:
            return
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._read())
            self._task.add_done_callback(_retrieve)
        task = self._task
        await asyncio.wait({task}, timeout=_TIMEOUT_S)
        is_read = task.done() and not task.cancelled() and task.exception() is None
        self._set(task.result() if is_read else [])
        metrics.DATABASE_UP.labels(self._service).set(is_read)
        self._read_at = time.monotonic()

    def _set(self, rows: Sequence[tuple[int, list[str], float | None]]) -> None:
        for reading in self._readings:
            reading.gauge.clear()
        for number, labels, value in rows:
            if value is not None:
                self._readings[number].gauge.labels(*labels).set(value)

    async def _read(self) -> list[tuple[int, list[str], float | None]]:
        async with asyncio.timeout(_TIMEOUT_S), self._database.all_tenants() as session:
            await session.execute(_SET_TIMEOUT)
            return [(row.number, row.labels, row.value) for row in await session.execute(self._statement)]


def _retrieve(task: asyncio.Task[object]) -> None:
    """Log why the values could not be read. A task whose error nobody retrieves would log a traceback."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        known = isinstance(error, DBAPIError | PoolTimeoutError | OSError | TimeoutError)
        log.warning("metrics not read", error=type(error).__name__ if known else repr(error)[:300])
