"""The worker process of a service: consumers, loops and the relay, stopped in order."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog
from sqlalchemy import text

from common.bus import Bus
from common.database import OUTBOX, Database, check_database
from common.errors import Unavailable
from common.http.health import HealthServer, Probes, serve_health, state_of
from common.http.server_limits import HttpLimits
from common.logs import StateLog, broker_log
from common.loops import Loop
from common.readings import Observed, Readings, bus_readings
from common.relay import Relay
from common.retention import COMMON_RULES, Rule, make_loop
from common.settings import StoreSettings
from common.watchdog import find_stuck, is_reachable

log = structlog.get_logger()

_START_TIMEOUT_S = 60.0
_BROKER_PAUSE_S = 0.5  # no event says that a broker has come back
_WATCH_S = 5.0
_FIND_WORK_PAUSE_FACTOR, _MAX_FIND_WORK_PAUSE_S = 100.0, 3.0
_SLOW_S = 30.0
_MAX_OUTBOX_AGE_S = 60.0
_OUTBOX_AGE = text("SELECT extract(epoch FROM now() - created_at)::float8 FROM outbox ORDER BY id LIMIT 1")
_RELAY_INTERVAL_S = 0.1


@dataclass
class Worker:
    """The parts of a worker.

    `work` names SQL conditions. When one active, the loops that wait for its name are woken, in case that nothing else
    woke them.

    `drain` finishes the work in flight after loops and consumers have stopped. `close` closes the rest.

    `retention` has the rules of the service's own tables.

    `observed` adds to the metrics and to the health.
    """

    settings: StoreSettings
    database: Database
    bus: Bus
    loops: Sequence[Loop]
    work: Mapping[str, str] = field(default_factory=dict)
    drain: Sequence[Callable[[], Awaitable[None]]] = ()
    close: Sequence[Callable[[], Awaitable[None]]] = ()
    observed: Observed = field(default_factory=Observed)
    retention: Sequence[Rule] = ()
    ready: bool = field(default=False, init=False)
    started: bool = field(default=False, init=False)

    def all_loops(self) -> list[Loop]:
        """Return the loops with those that every worker has: looking for work, and retention."""
        work = {OUTBOX: "EXISTS (SELECT FROM outbox)", **self.work}
        outbox = StateLog("events not published", "events published again")
        interval_s = self.settings.find_work_interval_ms / 1000
        loops = [
            *self.loops,
            Loop("find work", FindWork(self.database, work), interval_s),
            Loop("outbox age", partial(_report_outbox_age, self.database, outbox), 30.0),
            make_loop(self.database, self.settings, [*self.retention, *COMMON_RULES]),
        ]
        for loop in loops:
            loop.service = self.settings.service
        return loops


class ShutdownDeadline:
    """The deadline of a worker's shutdown. All steps together take `timeout_s` at most."""

    def __init__(self, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin the shutdown."""
        self._clock = clock
        self._ends = clock() + timeout_s

    def time_left(self, limit_s: float) -> float:
        """Return the seconds that a step may take: `limit_s`, or what is left."""
        return max(0.0, min(limit_s, self._ends - self._clock()))

    async def run_step(self, what: str, step: Awaitable[object], limit_s: float) -> None:
        """Run a step. Its failure, or the end of its time, is logged, and the shutdown continues."""
        try:
            async with asyncio.timeout(self.time_left(limit_s)):
                await step
        except Exception as error:
            log.error("shutdown step failed", step=what, error=repr(error)[:300])


async def run(worker: Worker) -> int:
    """Run until SIGTERM or SIGINT and return 0, or return 1 when the worker must be restarted."""
    settings = worker.settings
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    relay = Relay(worker.database, settings.kafka_bootstrap_servers, settings.service, settings.kafka_tls)
    relay_loop = Loop("relay", relay.step, _SLOW_S, wake=worker.database.published, min_interval_s=_RELAY_INTERVAL_S)
    relay_loop.service = settings.service
    health = await _serve_health(worker)
    relay_stop = asyncio.Event()
    worker.database.wakes.notifies = False  # the loops of this process are woken directly
    listen_task = asyncio.create_task(worker.database.wakes.listen(relay_stop), name="listen")
    relay_task = asyncio.create_task(relay_loop.run(relay_stop), name="relay")
    loops = worker.all_loops()
    loop_tasks = [asyncio.create_task(loop.run(stopping), name=loop.name) for loop in loops]
    bus_task = asyncio.create_task(_start_bus(worker), name="bus")
    code = await _watch(
        worker, bus_task=bus_task, loops=[relay_loop, *loops], tasks=[relay_task, *loop_tasks], stopping=stopping
    )
    bus_task.cancel()
    worker.ready = False
    stopping.set()
    deadline = ShutdownDeadline(settings.stop_timeout_s)
    await _stop_work(worker, loop_tasks, deadline)
    relay_stop.set()
    await deadline.run_step("relay loop", asyncio.wait([relay_task]), 15)
    for task in (relay_task, listen_task, *loop_tasks):
        task.cancel()
    await deadline.run_step("relay round", relay.step(), 15)
    await deadline.run_step("relay", relay.close(), 5)
    for close in worker.close:
        await deadline.run_step("close", close(), 5)
    await deadline.run_step("database", worker.database.close(), 5)
    await deadline.run_step("health", health.close(), 5)
    return code


async def _start_bus(worker: Worker) -> None:
    """Start the consumers as soon as the broker is available. The loops run meanwhile: they need no broker."""
    unavailable = StateLog("broker unavailable", "broker available")
    settings = worker.settings
    while not await is_reachable(settings.kafka_bootstrap_servers, settings.kafka_tls):
        unavailable.update(True)
        await asyncio.sleep(_BROKER_PAUSE_S)
    unavailable.update(False)
    async with asyncio.timeout(_START_TIMEOUT_S):
        await worker.bus.broker.start()
    worker.ready = worker.started = True
    log.info("worker ready", loops=[loop.name for loop in worker.loops])


async def _report_outbox_age(database: Database, state: StateLog) -> bool:
    """Log when events begin and cease to wait too long for the relay. Return False."""
    async with database.all_tenants() as session:
        age_s = await session.scalar(_OUTBOX_AGE)
    state.update(age_s is not None and age_s > _MAX_OUTBOX_AGE_S, oldest_s=round(age_s or 0.0))
    return False


class FindWork:
    """Wakes the loops that have work, by the SQL conditions of their wake events. A loop runs this as its step.

    It is the fallback for a notification that was lost. Under load the conditions read index entries of many rows that
    are done. So a slow query is repeated later: the pause is 100 times its duration, at most 3 s.
    """

    def __init__(
        self, database: Database, conditions: Mapping[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._conditions = conditions
        self._clock = clock
        self._next = float("-inf")

    async def __call__(self) -> bool:
        began = self._clock()
        if began >= self._next:
            self._database.wakes.set_here(*await self._database.find_work(self._conditions))
            ended = self._clock()
            self._next = ended + min(_FIND_WORK_PAUSE_FACTOR * (ended - began), _MAX_FIND_WORK_PAUSE_S)
        return False


async def _watch(
    worker: Worker,
    *,
    bus_task: asyncio.Task[None],
    loops: Sequence[Loop],
    tasks: Sequence[asyncio.Task[None]],
    stopping: asyncio.Event,
    interval_s: float = _WATCH_S,
) -> int:
    """Wait until the worker must stop, and return 0. Look for failed parts at each interval.

    Return 1 when the consumers cannot be started, a loop has ended or a part makes no progress.
    """
    while not stopping.is_set():
        try:
            async with asyncio.timeout(interval_s):
                await stopping.wait()
        except TimeoutError:
            if bus_task.done() and (error := bus_task.exception()):
                log.error("broker unavailable", error=repr(error)[:300])
                return 1
            broker_log.report_end()
            stuck = await find_stuck(worker.bus, loops)
            ended = [task.get_name() for task in tasks if task.done()]
            # A stop that arrives meanwhile ends the loops, too.
            if (stuck or ended) and not stopping.is_set():
                log.error("worker failed", stuck=stuck, ended=ended)
                return 1
    return 0


async def _stop_work(worker: Worker, loop_tasks: Sequence[asyncio.Task[None]], deadline: ShutdownDeadline) -> None:
    """Stop the loops, then the consumers, then finish the work in flight. The relay still runs meanwhile."""
    log.info("worker stopping")
    await deadline.run_step("loops", asyncio.wait(loop_tasks), 15)
    await deadline.run_step("consumers", worker.bus.broker.stop(), 25)
    for drain in worker.drain:
        await deadline.run_step("drain", drain(), 15)


async def _serve_health(worker: Worker) -> HealthServer:
    settings = worker.settings
    readings = Readings(worker.database, settings.service, [*bus_readings(settings.service), *worker.observed.readings])

    async def refresh() -> None:
        worker.bus.set_metrics()
        if worker.observed.set_metrics is not None:
            worker.observed.set_metrics()
        await readings.refresh()

    probes = Probes(
        ready=partial(_check_ready, worker),
        started=lambda: worker.started,
        details=partial(_read_details, worker),
        refresh=refresh,
    )
    return await serve_health(
        probes, host=settings.bind_host, port=settings.worker_port, limits=HttpLimits.of(settings)
    )


async def _check_ready(worker: Worker) -> tuple[int, dict[str, Any]]:
    """Return whether the worker does its work: it runs, it can reach its dependencies, and no topic is paused."""
    try:
        await check_database(worker.database)
    except Unavailable as error:
        return 503, {"status": "unavailable", "database": error.detail}
    kafka = await state_of(_check_kafka(worker.settings))
    paused = sorted(worker.bus.paused_topics)
    good = worker.ready and kafka == "ok" and not paused
    body = {"status": "ok" if good else "unavailable", "database": "ok", "kafka": kafka, "paused_topics": paused}
    return 200 if good else 503, body


async def _read_details(worker: Worker) -> dict[str, Any]:
    """Return the state of the worker and of what it depends on, within half a second."""
    database, kafka = await asyncio.gather(
        state_of(check_database(worker.database)), state_of(_check_kafka(worker.settings))
    )
    lag: dict[str, int] = {}
    for (group, _), records in worker.bus.lag().items():
        lag[group] = lag.get(group, 0) + records
    return {
        "worker": "ok" if worker.ready and not worker.bus.paused_topics else "unavailable",
        "database": database,
        "kafka": kafka,
        "lag": lag,
        **(worker.observed.details() if worker.observed.details is not None else {}),
    }


async def _check_kafka(settings: StoreSettings) -> None:
    """Raise Unavailable when no broker answers."""
    if not await is_reachable(settings.kafka_bootstrap_servers, settings.kafka_tls):
        raise Unavailable
