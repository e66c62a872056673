"""A worker runs its loops while the broker is away, starts its consumers when it is there, and stops on SIGTERM."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from common.bus import make_bus
from common.database import Database
from common.loops import Loop
from common.settings import StoreSettings
from common.worker import Worker, run
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
