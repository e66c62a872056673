"""One chaos run: the stack, the load, the faults, the wait for the outcomes, and the comparison."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from tools.chaos.audit import count_open, install_audit
from tools.chaos.checks import Comparison, Violation
from tools.chaos.evidence import Evidence, collect
from tools.chaos.faults import Injector, make_proxies
from tools.chaos.kafka import KafkaContainer
from tools.chaos.load import run_load
from tools.chaos.organisation import make_organisations
from tools.chaos.plan import BROKER, PROCESSES, Fault, make_plan
from tools.chaos.records import Records
from tools.demo.journey import read_handset
from tools.embedded.supervisor import Stack
from tools.token import Issuer, Session, mint

# Short time-outs, so that each recovery happens during a short run. A batch has more messages than its window, so a
# cancel finds some that were not dispatched. The window of resends is shorter than the wait for the outcomes.
SETTINGS = {
    "BULK_WINDOW": "10",
    "HANDSET_LATENCY_MS": "100",
    "HANDSET_RECEIPTS": "on",
    "LEASE_S": "6",
    "MOBILE_MESSAGE_BATCH_SIZE": "5",
    "REPLAY_AFTER_S": "3",
    "REPLAY_WINDOW_S": "30",
    "REQUEST_TIMEOUT_S": "4",
    "SMS_PROVIDERS": "mobile_message,twilio",
    "SWEEP_AFTER_S": "8",
    "THROTTLE_RATE_IMPORT": "100000/min",
    "THROTTLE_RATE_SMS": "100000/min",
    "THROTTLE_RATE_USER": "100000/min",
    "TWILIO_CONCURRENCY": "8",
}
_PROGRESS_S = 10.0
_READY_S = 90.0
_IDLE_S = 240.0
_POLL_S = 0.5
_STEADY_S = 5.0
_AT_ONCE_S = 1.0


@dataclass
class Result:
    """The figures of a run, and the violations that it found. Times are in seconds after the end of the last fault.

    `green_s`: until all processes are ready. `clients_s`: until the clients have their answers. `idle_s`: until every
    message has its outcome and nothing is left. A time is None when it was not reached. `load_average` is that of the
    machine, in processes that want a core: on a busy machine a restart takes longer.
    """

    seed: int
    load_s: float
    plan: Sequence[Fault]
    records: Records
    broker: str = "embedded"
    injected: Sequence[Fault] = ()
    load_average: float = 0.0
    green_s: float | None = None
    clients_s: float | None = None
    idle_s: float | None = None
    evidence: Evidence = field(default_factory=Evidence)
    in_flight: Sequence[float] = ()
    violations: list[Violation] = field(default_factory=list)


async def run(
    seed: int, load_s: float, home: Path, say: Callable[[str], None], kafka: KafkaContainer | None = None
) -> Result:
    """Run the load with the faults of the seed in a new stack in `home`, and compare. Raises StackError.

    The stack uses `kafka` as its broker, or the one that KAFKA_BOOTSTRAP_SERVERS names, or its own. A broker that only
    has an address gets no faults.
    """
    environment = SETTINGS | ({"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers} if kafka else {})
    has_broker = kafka is not None or not os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    plan = make_plan(seed, load_s, [name for name in PROCESSES if has_broker or name != BROKER])
    say(f"chaos run with seed {seed}: {load_s:.0f} s of load and {len(plan)} faults")
    for fault in plan:
        say(f"plan    {fault.describe()}")
    stack = Stack(home, environment, free_ports=True, say=lambda line: say(f"stack   {line}"))
    proxies = make_proxies(stack.environment)
    for proxy in proxies.values():
        await proxy.start()
    result = Result(seed, load_s, plan, Records(), broker=_name_broker(kafka, has_broker=has_broker))
    try:
        async with stack:
            await install_audit(stack.environment["DATABASE_URL"])
            injector = Injector(stack, proxies, say, kafka)
            await _run_on(stack, injector, result, say)
    finally:
        for proxy in proxies.values():
            await proxy.cut()
    return result


async def _run_on(stack: Stack, injector: Injector, result: Result, say: Callable[[str], None]) -> None:
    issuer = Issuer(stack.home, stack.environment["CLERK_ISSUER"])

    def token_of(organisation: str) -> Callable[[], str]:
        token = mint(Session(f"user_{organisation}", organisation, "admin", ttl_s=86_400), issuer)
        return lambda: token

    urls = {name: stack.url(name) for name in ("gateway", "handset")}
    secret = stack.environment["CLERK_WEBHOOK_SIGNING_SECRET"]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http:
        organisations = make_organisations(
            seed=result.seed,
            http=http,
            gateway=urls["gateway"],
            token_of=token_of,
            load_s=result.load_s,
            records=result.records,
        )
        await asyncio.gather(*(organisation.set_up() for organisation in organisations))
        say(f"load    {len(organisations)} organisations are set up")
        progress = asyncio.create_task(_report_progress(result.records, say))
        try:
            load = asyncio.create_task(run_load(organisations, http, urls, secret, result.load_s))
            await injector.run(result.plan)
            result.injected = injector.injected
            green = asyncio.create_task(_wait_green(stack, injector, result))
            await load
            ended_at = max(injector.ended_at, organisations[0].ends_at)
            result.clients_s = time.time() - ended_at
            await green
        finally:
            progress.cancel()
        result.load_average = os.getloadavg()[0]
        say(f"end     green after {_show(result.green_s)}, clients done after {_show(result.clients_s)}")
        await _wait_idle(stack, result, ended_at, say)
        received = await read_handset(http, urls["handset"])
    await _compare(stack, result, received)


async def _wait_green(stack: Stack, injector: Injector, result: Result) -> None:
    """Wait until all processes are ready and stay so. A process that was asked to stop is ready for some time."""
    ready_since = 0.0
    while not ready_since or time.time() - ready_since < _STEADY_S:
        asked_at = time.time()
        await stack.wait_ready(_READY_S)
        while not await injector.is_broker_ready() and time.time() - asked_at < _READY_S:
            await asyncio.sleep(_POLL_S)
        was_ready = time.time() - asked_at < _AT_ONCE_S
        ready_since = ready_since if was_ready and ready_since else time.time()
        await asyncio.sleep(_POLL_S)
    result.green_s = ready_since - injector.ended_at


async def _wait_idle(stack: Stack, result: Result, since: float, say: Callable[[str], None]) -> None:
    """Wait until every message has its outcome, and then until nothing is left."""
    url = stack.environment["DATABASE_URL"]
    deadline = time.monotonic() + _IDLE_S
    also_left, shown_at = False, time.monotonic()
    while time.monotonic() < deadline:
        left: dict[str, int] = {}
        try:
            left = await count_open(url, also_left=also_left)
        except (OSError, asyncpg.PostgresError) as error:
            say(f"wait    the database cannot be read: {error}")
        if left and not any(left.values()):
            if also_left:
                result.idle_s = time.time() - since
                say(f"end     nothing left after {_show(result.idle_s)}")
                return
            also_left = True
            continue
        if time.monotonic() - shown_at > _PROGRESS_S:
            shown_at = time.monotonic()
            say(f"wait    {', '.join(f'{number} {name}' for name, number in left.items() if number)}")
        await asyncio.sleep(_POLL_S)
    say(f"end     something was still left after {_IDLE_S:.0f} s")


async def _compare(stack: Stack, result: Result, received: list[dict[str, Any]]) -> None:
    environment = stack.environment
    result.evidence = await collect(environment["DATABASE_URL"], environment["DELIVERY_DATABASE_URL"], received)
    comparison = Comparison(result.records, result.evidence)
    result.violations = comparison.violations()
    result.in_flight = comparison.in_flight()


async def _report_progress(records: Records, say: Callable[[str], None]) -> None:
    start = time.monotonic()
    while True:
        await asyncio.sleep(_PROGRESS_S)
        accepted = sum(request.is_accepted for request in records.requests.values())
        say(
            f"load    {time.monotonic() - start:5.0f} s: {records.statuses.total()} requests,"
            f" {accepted} of {len(records.requests)} requests for messages accepted, {records.repeated} repeated"
        )


def _name_broker(kafka: KafkaContainer | None, *, has_broker: bool) -> str:
    if kafka:
        return "Apache Kafka in a container"
    return "embedded" if has_broker else os.environ["KAFKA_BOOTSTRAP_SERVERS"]


def _show(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"
