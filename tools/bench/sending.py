"""Scenarios of sending: schedules and a group that are due at once, a steady rate, and immediate sends."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

from tools.bench.bench import Bench, phone, received
from tools.bench.cpu import measure_cpu
from tools.bench.load import quantile, run_load
from tools.bench.requests import ZONE, new_schedule
from tools.bench.yardsticks import CONNECTIONS, Yard

STEADY_PER_S = 300
_COUNT = 10_000
_TRIAL = 300
_OUTCOMES_S = 1.0
"""The time after the last arrival in which scheduling stores the outcomes. Its CPU time counts too."""


async def due(bench: Bench) -> None:
    """Measure 10,000 schedules that are due at once, from their time to the last arrival on the handset."""
    await bench.clear_handset()
    count = bench.size(_COUNT)
    moment = await _create_due(bench, count)
    bench.shared.due_day = moment.astimezone(ZONE).date()
    await _measure_due(bench, f"{count:,} schedules due at once", count, moment, Yard.ANSWERS_32)


async def _create_due(bench: Bench, count: int) -> datetime:
    """Create schedules and return the time at which they are due."""
    creation_s = await _estimate_creation(bench, count)
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=creation_s)
    created = await run_load(
        bench.address, CONNECTIONS, lambda number: new_schedule(bench, number, moment), count=count
    )
    if created.failures or datetime.now(UTC) > moment - timedelta(seconds=1):
        raise RuntimeError(f"the schedules were not created in time: {created.seconds:.0f} s. {created.failures}")
    return moment


async def _estimate_creation(bench: Bench, count: int) -> float:
    """Return the seconds in which this number of schedules can be created with certainty, from a shorter load."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    trial = await run_load(
        bench.address, CONNECTIONS, lambda number: new_schedule(bench, number, tomorrow), count=bench.size(_TRIAL)
    )
    return 5 + 1.5 * count / max(trial.per_second, 1)


async def group(bench: Bench) -> None:
    """Measure a batch to a group of 10,000, one message in each submission."""
    await _measure_group(bench, Yard.ANSWERS_32)


async def batches(bench: Bench) -> None:
    """Measure a batch to a group of 10,000, with 100 messages in a submission. Most of the work is the database's."""
    await _measure_group(bench, Yard.ROUND_TRIPS_32)


async def _measure_group(bench: Bench, yard: Yard) -> None:
    await bench.clear_handset()
    count = bench.size(_COUNT)
    moment = datetime.now(UTC) + timedelta(seconds=8)
    body = {
        "name": "bench",
        "group_id": bench.shared.group,
        "text": "Hi {{first_name}}, see you soon",
        "scheduled_time": moment.isoformat(),
    }
    await bench.api.call("POST", "/api/group-schedules/", json=body)
    await _measure_due(bench, f"group of {count:,}", count, moment, yard)


async def _measure_due(bench: Bench, name: str, count: int, moment: datetime, yard: Yard) -> None:
    """Measure from half a second before the messages are due. Each must arrive exactly once."""
    await asyncio.sleep(max(0.0, moment.timestamp() - 0.5 - time.time()))
    with measure_cpu(bench.pids) as use:
        messages = await bench.arrivals(count)
        await asyncio.sleep(_OUTCOMES_S)
    once = len({message["to"] for message in messages}) == len(messages) == count
    late = [received(message) - moment.timestamp() for message in messages]
    seconds = max(late, default=0.0)
    remark = "" if once else f"NOT EXACTLY ONCE: {len(messages):,} arrived"
    bench.report.rate(name, len(late) / max(seconds, 1e-9), "messages/s", yard, cpu_ms=use.per(count), remark=remark)
    _show_lateness(bench, name, late)


async def steady(bench: Bench) -> None:
    """Measure how late single schedules reach the handset when they are due at a steady rate."""
    await bench.clear_handset()
    count = STEADY_PER_S * bench.size(20)
    begins = time.time() + await _estimate_creation(bench, count)
    times = {phone(n): begins + n / STEADY_PER_S for n in range(count)}

    def request(number: int) -> bytes:
        return new_schedule(bench, number, datetime.fromtimestamp(times[phone(number)], UTC))

    created = await run_load(bench.address, CONNECTIONS, request, count=count)
    await asyncio.sleep(max(0.0, begins - 0.5 - time.time()))
    with measure_cpu(bench.pids) as use:
        messages = await bench.arrivals(created.successes)
    late = [received(message) - times[message["to"]] for message in messages]
    name = f"steady {STEADY_PER_S}/s"
    seconds = max((received(message) for message in messages), default=begins + 1) - begins
    cpu_ms = use.per(len(late))
    bench.report.rate(name, len(late) / seconds, "messages/s", Yard.ANSWERS_32, cpu_ms=cpu_ms, remark=created.failures)
    _show_lateness(bench, name, late)


def _show_lateness(bench: Bench, name: str, late_s: list[float]) -> None:
    for label, share in (("p50", 0.5), ("p99", 0.99)):
        lateness_ms = quantile(late_s, share) * 1000
        bench.report.latency(f"{name}, lateness {label}", lateness_ms, Yard.PROXY)


async def sends(bench: Bench) -> None:
    """Measure immediate sends: those that were accepted, and the CPU time until all of them arrived."""
    await bench.clear_handset()

    def request(number: int) -> bytes:
        body = {"message": "Your appointment is tomorrow at 10:30.", "recipient": phone(500_000 + number)}
        return bench.post("/api/sms/send/", body)

    with measure_cpu(bench.pids) as use:
        load = await run_load(bench.address, CONNECTIONS, request, seconds=bench.load_s)
        ended = time.time()
        messages = await bench.arrivals(load.successes)
        await asyncio.sleep(_OUTCOMES_S)
    arrived = len({message["to"] for message in messages})
    remark = "" if arrived == len(messages) == load.successes else f"NOT EXACTLY ONCE: {len(messages):,} arrived"
    bench.report.load("POST sms/send", load, use, Yard.PROXY_32, remark=remark)
    last = max((received(message) for message in messages), default=ended)
    bench.report.latency("POST sms/send, last arrival after the load", (last - ended) * 1000, Yard.PROXY)
