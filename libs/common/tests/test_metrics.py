"""The metrics of every process: loops, pools, and the values that a worker reads from its database."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import Gauge
from sqlalchemy import text

from common import metrics
from common.database import Database, after_commit
from common.loops import Loop, report_rows
from common.metrics import REGISTRY
from common.readings import Reading, Readings, bus_readings

ADD_DEAD_LETTER = text(
    "INSERT INTO dead_letters (topic, kafka_partition, kafka_offset, sha256, body, error, acknowledged)"
    " VALUES ('delivery.message-sent.v1', 0, :offset, '', '', 'bad', :acknowledged)"
)
ADD_EVENT = text(
    "INSERT INTO outbox (event_id, topic, key, body, request_id, created_at)"
    " VALUES (gen_random_uuid(), 'a.v1', 'k', '', '', now() - interval '90 seconds')"
)


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_a_worker_reads_its_outbox_and_its_dead_letters(database: Database) -> None:
    async with database.all_tenants() as session:
        await session.execute(ADD_EVENT)
        for offset, acknowledged in enumerate((True, False, False)):
            await session.execute(ADD_DEAD_LETTER, {"offset": offset, "acknowledged": acknowledged})
    readings = Readings(database, "sample", bus_readings("sample"))
    await readings.refresh()
    assert value("cooee_database_up", service="sample") == 1
    assert value("cooee_outbox_rows", service="sample") == 1
    assert (value("cooee_outbox_oldest_seconds", service="sample") or 0) >= 90
    assert value("cooee_dead_letters", service="sample", topic="delivery.message-sent.v1") == 2
    async with database.all_tenants() as session:
        await session.execute(text("DELETE FROM outbox"))
    await readings.refresh()
    assert value("cooee_outbox_rows", service="sample") == 1, "a second scrape does not ask the database again"
    await Readings(database, "sample", bus_readings("sample")).refresh()
    assert value("cooee_outbox_rows", service="sample") == 0


async def test_without_a_database_the_values_are_missing_and_the_scrape_answers(sample_url: str) -> None:
    away = Database("postgresql://sample:p@127.0.0.1:1/nowhere", "sample test")
    metrics.OUTBOX_ROWS.labels("sample").set(7)
    await Readings(away, "sample", bus_readings("sample")).refresh()
    assert value("cooee_database_up", service="sample") == 0
    assert value("cooee_outbox_rows", service="sample") is None, "an old value would look like a new one"
    assert b"cooee_database_up" in metrics.render()
    await away.close()


async def test_a_statement_that_takes_too_long_is_given_up(database: Database) -> None:
    gauge = Gauge("cooee_sample_slow", "A gauge of this test.", ["a"], registry=None)
    slow = Reading(gauge, "SELECT ARRAY['x'] AS labels, 1 AS value FROM pg_sleep(30)")
    async with asyncio.timeout(20):
        await Readings(database, "sample", [slow]).refresh()
    assert value("cooee_database_up", service="sample") == 0


async def test_a_loop_measures_its_steps_failures_and_rows() -> None:
    stopping = asyncio.Event()
    steps = iter((4, RuntimeError("broken"), 0))

    async def step() -> bool:
        rows = next(steps)
        if isinstance(rows, Exception):
            raise rows
        report_rows(rows)
        if rows == 0:
            stopping.set()
        return rows == 4

    loop = Loop("of a test", step, 0.001)
    loop.service = "sample"
    await loop.run(stopping)
    labels = {"service": "sample", "loop": "of a test"}
    assert value("cooee_loop_step_seconds_count", **labels) == 3
    assert value("cooee_loop_failures_total", **labels) == 1
    assert value("cooee_loop_batch_rows_sum", **labels) == 4
    assert value("cooee_loop_batch_rows_count", **labels) == 1, "a step that finds nothing is no batch"


async def test_pools_count_their_connections_in_use(database: Database) -> None:
    def in_use() -> float | None:
        return value("cooee_pool_connections_in_use", service="sample", pool="all")

    before = in_use() or 0
    async with database.all_tenants() as session:
        await session.execute(text("SELECT 1"))
        assert in_use() == before + 1
    assert in_use() == before
    broken = database.all_tenants()
    with pytest.raises(Exception, match="closed|terminated|connection"):
        async with broken as session:
            await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert in_use() == before
    statements = {"service": "sample", "pool": "statements"}
    await database.pool.fetch("SELECT 1")
    assert value("cooee_pool_connections_in_use", **statements) == 0
    assert value("cooee_pool_connections_max", **statements) == 10


async def test_what_is_counted_after_the_commit_is_not_counted_after_a_rollback(database: Database) -> None:
    counted: list[str] = []
    with pytest.raises(RuntimeError):
        async with database.all_tenants() as session:
            await session.execute(text("SELECT 1"))
            after_commit(session, lambda: counted.append("rolled back"))
            raise RuntimeError
    async with database.all_tenants() as session:
        after_commit(session, lambda: counted.append("committed"))
        await session.execute(text("SELECT 1"))
        assert not counted
    assert counted == ["committed"]


def test_several_processes_of_an_api_answer_with_the_sum(tmp_path: Path) -> None:
    program = (
        "from common.metrics import RequestMetrics, POOL_IN_USE, render\n"
        "RequestMetrics('sample').add('GET', '/a/', 200, 0.1)\n"
        "POOL_IN_USE.labels('sample', 'all').inc()\n"
        "print(render().decode())"
    )
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    outputs = [
        subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    requests = 'cooee_http_requests_total{method="GET",route="/a/",service="sample",status="200"}'
    assert f"{requests} 1.0" in outputs[0].stdout
    assert f"{requests} 2.0" in outputs[1].stdout
    connections = 'cooee_pool_connections_in_use{pool="all",service="sample"}'
    assert f"{connections} 1.0" in outputs[1].stdout, "the connections of a process that ended are not counted"
