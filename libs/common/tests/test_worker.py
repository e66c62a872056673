"""A worker runs its loops while the broker is away, starts its consumers when it is there, and stops on SIGTERM."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from structlog.testing import capture_logs

from common.bus import make_bus
from common.database import Database
from common.loops import Loop
from common.settings import StoreSettings
from common.worker import FindWork, ShutdownDeadline, Worker, _watch, run
from tools.embedded.broker import EmbeddedBroker
from tools.embedded.processes import free_port


class Settings(StoreSettings):
    service = "sample"


async def test_worker_runs_its_loops_before_the_broker_is_available(
    sample_url: str, eventually: Callable[..., Awaitable[Any]]
) -> None:
    broker = EmbeddedBroker([], free_port())
    settings = Settings(
        port=free_port(),
        worker_port=free_port(),
        database_url=sample_url,
        kafka_bootstrap_servers=broker.bootstrap_servers,
        internal_token_secret="test-secret-test-secret-test-secret-0",
    )
    ran = asyncio.Event()

    async def step() -> bool:
        ran.set()
        return False

    async def is_ready() -> bool:
        return worker.ready

    worker = Worker(settings, Database(sample_url, "worker"), make_bus(settings), [Loop("step", step, 30)])
    running = asyncio.create_task(run(worker))
    try:
        async with asyncio.timeout(20):
            await ran.wait()
        assert not worker.ready
        broker.start()
        await eventually(is_ready)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        assert await running == 0
        broker.stop()


async def test_a_stop_while_the_worker_looks_for_failures_is_no_failure(sample_url: str) -> None:
    """After a process was frozen, a stop and the end of an interval are handled together."""
    stopping = asyncio.Event()

    class SetsStoppingWhenRead(list[Loop]):
        def __iter__(self) -> Iterator[Loop]:
            stopping.set()
            return super().__iter__()

    async def ended() -> None:
        pass

    settings = Settings(
        port=1,
        worker_port=2,
        database_url=sample_url,
        kafka_bootstrap_servers="127.0.0.1:1",
        internal_token_secret="test-secret-test-secret-test-secret-0",
    )
    worker = Worker(settings, Database(sample_url, "worker"), make_bus(settings), [])
    task, bus_task = asyncio.create_task(ended()), asyncio.create_task(stopping.wait())
    await task
    watch = _watch(
        worker, bus_task=bus_task, loops=SetsStoppingWhenRead(), tasks=[task], stopping=stopping, interval_s=0.01
    )  # type: ignore[arg-type]  # the result of the task for the bus does not matter
    async with asyncio.timeout(10):
        assert await watch == 0
    await worker.database.close()


async def test_the_steps_of_a_shutdown_end_by_one_deadline() -> None:
    now = 100.0
    deadline = ShutdownDeadline(60, clock=lambda: now)
    assert [deadline.time_left(15), deadline.time_left(90)] == [15, 60]
    now = 150.0
    assert deadline.time_left(15) == 10, "less is left than the limit of the step"
    now = 170.0
    assert deadline.time_left(15) == 0
    with capture_logs() as logs:
        async with asyncio.timeout(10):
            await deadline.run_step("drain", asyncio.Event().wait(), 15)
    assert [(entry["event"], entry["step"]) for entry in logs] == [("shutdown step failed", "drain")]


async def test_a_slow_query_for_work_is_repeated_later(database: Database) -> None:
    times = iter([0.0, 0.02, 2.0, 2.1, 2.1, 2.1])  # of each query the beginning and the end; at 2.0 it is too early
    find_work = FindWork(database, {"queued": "true", "expired": "false"}, clock=lambda: next(times))
    woken = []
    for _ in range(3):
        await find_work()
        woken.append(database.wakes.event("queued").is_set())
        database.wakes.event("queued").clear()
    assert woken == [True, False, True]
    assert not database.wakes.event("expired").is_set()
