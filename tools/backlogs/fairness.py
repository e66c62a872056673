"""One organisation has a long queue at a slow provider, and another one sends single messages."""

import asyncio
import time
from collections import Counter
from statistics import median

from tools.backlogs.memory import Memory
from tools.backlogs.order import check_order
from tools.backlogs.outages import check_arrivals
from tools.backlogs.report import Section
from tools.backlogs.world import World
from tools.bench.bench import received
from tools.demo.journey import Api

_PHONE = "+61448000000"
_LATENCY_MS = 500
_IDLE_PROBES = 10
_PAUSE_S = 1.0
_MAX_DELAY_S = 1.0
_DRAIN_S = 1200.0
_QUEUED = """
    SELECT (SELECT count(*) FROM scheduling.shown_schedules WHERE organisation_id = $1
            AND status IN ('pending', 'processing'))
"""


async def fairness(world: World) -> None:
    """Compare single sends beside a long queue of singles and of a campaign with the same sends on the idle stack."""
    section = world.section("another organisation has a long queue")
    large, small = "org_long_queue", "org_single_sends"
    api = world.api(small)
    group = await world.import_group(world.api(large), "queue", world.size.queued)
    await world.wait_idle(_DRAIN_S)
    await world.clear_handset()
    await world.set_latency(_LATENCY_MS)
    try:
        idle = await _measure(world, api, "idle", min(_IDLE_PROBES, world.size.probes))
        async with Memory(world.stack, section):
            expected = await _fill(world, large, group)
            beside = await _measure_beside(world, api, large, section)
            await world.set_latency(0)
            is_idle = await world.wait_idle(_DRAIN_S)
    finally:
        await world.set_latency(0)
    _compare(section, idle, beside, is_timed=world.is_timed)
    section.require(is_idle is not None, f"something is still open after {_DRAIN_S:.0f} s")
    expected.update([*idle, *beside])
    await check_arrivals(world, section, expected)
    await check_order(world, section, [large, small])


async def _fill(world: World, organisation: str, group: int) -> Counter[str]:
    """Queue a campaign and as many single messages. Return text → how often it must arrive."""
    api = world.api(organisation)
    await api.call("POST", "/api/sms/send-to-group/", json={"message": "campaign", "group_id": group})
    expected = Counter(await world.add_due_schedules(organisation, "queued", world.size.queued))
    expected["campaign"] = world.size.queued
    return expected


async def _measure_beside(world: World, api: Api, large: str, section: Section) -> dict[str, float]:
    """Send probes while the queue is long. Return probe → seconds."""
    section.add("messages queued by the other organisation", await _count_queued(world, large))
    accepted = await _send_probes(api, "beside", world.size.probes)
    left = await _count_queued(world, large)
    section.add("messages still queued after the last single send", left)
    section.require(left > 0, "the queue was empty before the last single send, so the scenario proves nothing")
    return await _wait_for(world, accepted)


async def _count_queued(world: World, organisation: str) -> int:
    return int((await world.fetch(_QUEUED, organisation))[0][0])


async def _measure(world: World, api: Api, name: str, count: int) -> dict[str, float]:
    """Send single messages one after another. Return text → seconds from the 202 to the arrival at the handset."""
    return await _wait_for(world, await _send_probes(api, name, count))


async def _send_probes(api: Api, name: str, count: int) -> dict[str, float]:
    """Send single messages one after another. Return text → the time of its 202."""
    accepted: dict[str, float] = {}
    for number in range(count):
        text = f"{name} {number}"
        await api.call("POST", "/api/sms/send/", json={"message": text, "recipient": _PHONE})
        accepted[text] = time.time()
        await asyncio.sleep(_PAUSE_S)
    return accepted


async def _wait_for(world: World, accepted: dict[str, float]) -> dict[str, float]:
    """Wait until the handset has these messages. Return text → seconds from the 202 to its arrival."""
    url, params = f"{world.stack.url('handset')}/api/messages/", {"to": _PHONE, "limit": "1000"}
    async with asyncio.timeout(_DRAIN_S):
        while True:
            async with world.http.get(url, params=params) as answer:
                messages = (await answer.json())["messages"]
            arrived = {each["text"]: received(each) for each in messages}
            if accepted.keys() <= arrived.keys():
                return {text: arrived[text] - at for text, at in accepted.items()}
            await asyncio.sleep(_PAUSE_S)


def _compare(section: Section, idle: dict[str, float], beside: dict[str, float], *, is_timed: bool) -> None:
    usual, longest = median(idle.values()), max(beside.values())
    section.add("single send on the idle stack, median", usual, "s")
    section.add("single send beside the queue, median", median(beside.values()), "s")
    section.add("single send beside the queue, longest", longest, "s")
    delay = longest - usual
    section.require(not is_timed or delay <= _MAX_DELAY_S, f"a single send was delayed by {delay:.1f} s")
