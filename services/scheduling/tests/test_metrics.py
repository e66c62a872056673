"""The metrics of scheduling change when something is due, or a batch waits for its fan-out."""

from common.metrics import REGISTRY
from common.readings import Readings, bus_readings
from scheduling.metrics import READINGS
from services.scheduling.tests.stage import Stage

NAMES = ("cooee_fan_out_batches", "cooee_fan_out_oldest_seconds", "cooee_dispatch_oldest_seconds")


async def read(stage: Stage) -> list[float | None]:
    await Readings(stage.database, "scheduling", [*bus_readings("scheduling"), *READINGS]).refresh()
    return [REGISTRY.get_sample_value(name, {"service": "scheduling"}) for name in NAMES]


async def test_a_batch_counts_until_it_is_fanned_out(stage: Stage) -> None:
    assert await read(stage) == [0, 0, 0]
    await stage.make_batch(51)  # the request itself writes the first 50 messages
    await stage.rows("UPDATE schedules SET created_at = now() - interval '1 hour'")
    batches, oldest_s, _ = await read(stage)
    assert (batches, (oldest_s or 0) >= 3600) == (1, True)
    await stage.fan_out()
    assert await read(stage) == [0, 0, 0]


async def test_a_due_schedule_counts_until_it_is_dispatched(stage: Stage) -> None:
    schedule = await stage.make_schedule(text="Hi")
    assert await read(stage) == [0, 0, 0], "it is not due yet"
    await stage.make_due(schedule["id"])
    due_s = (await read(stage))[2]
    assert due_s is not None
    assert due_s >= 1
    await stage.dispatch()
    assert await read(stage) == [0, 0, 0]
