"""The broker or delivery is away while clients send, schedule and send to groups."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tools.backlogs.memory import Memory
from tools.backlogs.order import check_order
from tools.backlogs.report import Section
from tools.backlogs.world import World
from tools.demo.journey import Api, JourneyFailed

GROUP = 200
"""The members of the group of each campaign."""
_SINGLE_S, _SCHEDULE_S, _CAMPAIGN_S = 0.25, 1.0, 15.0
_DUE_S = 5.0
_DRAIN_S = 600.0
_DELIVERY = ("delivery worker", "delivery api")

Request = Callable[[int], tuple[str, dict[str, Any]]]


@dataclass
class Load:
    """What the clients of an outage were answered. `expected` has text → how often it must arrive."""

    expected: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


async def broker_outage(world: World) -> None:
    """Freeze the broker while clients send."""
    await _outage(world, "the broker is away", _without_broker(world))


async def delivery_outage(world: World) -> None:
    """Stop delivery's worker and API while clients send."""
    await _outage(world, "delivery is away", _without_delivery(world))


@asynccontextmanager
async def _without_broker(world: World) -> AsyncIterator[None]:
    pid = world.stack.pid("broker")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def _without_delivery(world: World) -> AsyncIterator[None]:
    await asyncio.gather(*(world.stack.stop_process(name) for name in _DELIVERY))
    try:
        yield
    finally:
        for name in _DELIVERY:
            world.stack.start_process(name)


async def _outage(world: World, scenario: str, outage: AbstractAsyncContextManager[None]) -> None:
    section = world.section(scenario)
    organisation = f"org_{scenario.replace(' ', '_')}"
    api = world.api(organisation)
    group = await world.import_group(api, "outage", GROUP)
    await _wait_until_sent(world, api)
    await world.clear_handset()
    load = Load()
    async with Memory(world.stack, section):
        async with outage:
            await _run_clients(api, group, world.size.outage_s, load)
        ended_at = time.monotonic()
        await world.stack.wait_ready()
        section.add("processes ready again after", time.monotonic() - ended_at, "s")
        is_idle = await world.wait_idle(_DRAIN_S)
        section.add("messages accepted during the outage", load.expected.total())
        section.add("slowest answer during the outage", load.slowest_s, "s")
        section.add("everything sent after", time.monotonic() - ended_at, "s")
    section.require(is_idle is not None, f"something is still open {_DRAIN_S:.0f} s after the outage")
    section.require(not load.refused, f"{len(load.refused)} requests were refused, first {load.refused[:1]}")
    await check_arrivals(world, section, load.expected)
    await check_order(world, section, [organisation])


async def _wait_until_sent(world: World, api: Api) -> None:
    """Send one message, so that every process has done its work once before its memory is measured."""
    await api.call("POST", "/api/sms/send/", json={"message": "first", "recipient": "+61446000000"})
    await world.wait_idle(_DRAIN_S)


async def _run_clients(api: Api, group: int, seconds: float, load: Load) -> None:
    end = time.monotonic() + seconds

    def single(number: int) -> tuple[str, dict[str, Any]]:
        load.expected[f"single {number}"] += 1
        return "/api/sms/send/", {"message": f"single {number}", "recipient": f"+614{46_000_000 + number}"}

    def schedule(number: int) -> tuple[str, dict[str, Any]]:
        load.expected[f"schedule {number}"] += 1
        due = (datetime.now(UTC) + timedelta(seconds=_DUE_S)).isoformat()
        phone = f"+614{47_000_000 + number}"
        return "/api/schedules/", {"text": f"schedule {number}", "phone": phone, "scheduled_time": due}

    def campaign(number: int) -> tuple[str, dict[str, Any]]:
        load.expected[f"campaign {number}"] += GROUP
        return "/api/sms/send-to-group/", {"message": f"campaign {number}", "group_id": group}

    requests = ((single, _SINGLE_S), (schedule, _SCHEDULE_S), (campaign, min(_CAMPAIGN_S, seconds / 3)))
    await asyncio.gather(*(_run_client(api, make, pause_s, end, load) for make, pause_s in requests))


async def _run_client(api: Api, make: Request, pause_s: float, end: float, load: Load) -> None:
    number = 0
    while time.monotonic() < end:
        path, body = make(number)
        started = time.monotonic()
        try:
            await api.call("POST", path, json=body)
        except JourneyFailed as error:
            load.refused.append(str(error))
        load.slowest_s = max(load.slowest_s, time.monotonic() - started)
        number += 1
        await asyncio.sleep(min(pause_s, max(0.0, end - time.monotonic())))


async def check_arrivals(world: World, section: Section, expected: Counter[str]) -> None:
    """Compare what the handset received with text → how often it must arrive."""
    arrived = Counter(message["text"] for message in await world.arrived())
    missing, surplus = expected - arrived, arrived - expected
    section.add("messages that did not arrive", missing.total())
    section.add("messages that arrived twice or unexpectedly", surplus.total())
    section.require(not missing, f"{missing.total()} messages did not arrive, for example {list(missing)[:1]}")
    section.require(not surplus, f"{surplus.total()} surplus messages arrived, for example {list(surplus)[:1]}")
