"""The metrics of delivery change when messages are queued, sent, refused, unknown and reported."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from common.metrics import REGISTRY
from common.readings import Readings, bus_readings
from delivery import metrics
from delivery.limits.loops import report_drift
from delivery.sending.provider_worker import observe
from services.delivery.tests.stage import Stage

PROVIDER = "mobile_message"
FILL = """
    INSERT INTO messages (organisation_id, schedule_id, dispatch_number, phone, text, format, parts, scheduled_time,
                          period, lane, request_id, deadline, status)
    SELECT 'org_' || n % 300, 1000000 + n, 1, '+61453000001', 'Hi', 'sms', 1, now(), '2026-04-01', 'bulk', '',
           now() + interval '1 day', CASE WHEN n % 4 = 0 THEN 'queued' ELSE 'delivered' END
    FROM generate_series(1, 40000) n
"""


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def read(stage: Stage) -> None:
    await Readings(stage.database, "delivery", [*bus_readings("delivery"), *metrics.READINGS]).refresh()
    assert value("cooee_database_up", service="delivery") == 1


async def test_the_queue_shows_its_oldest_message_by_lane(stage: Stage) -> None:
    await stage.add_due(stage.due(), stage.due(), stage.due(lane="bulk", organisation_id="org_other"))
    await stage.execute(
        "UPDATE messages SET changed_at = now() - interval '1 hour' WHERE organisation_id = 'org_other'"
    )
    await read(stage)
    assert (value("cooee_queue_messages", lane="single"), value("cooee_queue_messages", lane="bulk")) == (2, 1)
    assert value("cooee_queue_oldest_seconds", lane="single") < 3600 <= value("cooee_queue_oldest_seconds", lane="bulk")
    await stage.send(stage.make_worker())
    await read(stage)
    assert value("cooee_queue_oldest_seconds", lane="bulk") == 0
    assert value("cooee_queue_messages", lane="bulk") == 0


async def test_a_sent_message_is_counted_with_its_lateness(stage: Stage) -> None:
    outcome = {"provider": PROVIDER, "outcome": "sent", "failure_category": "-"}
    answered = {"provider": PROVIDER, "result": "answered"}
    before = value("cooee_messages_total", **outcome), value("cooee_submissions_total", **answered)
    late = value("cooee_message_lateness_seconds_sum", lane="single")
    await stage.add_due(stage.due(scheduled_time=datetime.now(UTC) - timedelta(minutes=10)))
    await stage.send(stage.make_worker())
    assert (value("cooee_messages_total", **outcome), value("cooee_submissions_total", **answered)) == (
        before[0] + 1,
        before[1] + 1,
    )
    assert value("cooee_message_lateness_seconds_sum", lane="single") >= late + 600


async def test_an_unknown_submission_is_counted_until_it_has_an_outcome(stage: Stage) -> None:
    await stage.add_due(stage.due())
    await stage.claim(worker := stage.make_worker())
    await worker.drain()
    worker.results.clear()  # as if the process had died before it recorded them
    await stage.execute("UPDATE submissions SET state = 'unknown', tried_at = now() - interval '20 minutes'")
    await read(stage)
    assert value("cooee_submissions_unknown", provider=PROVIDER) == 1
    assert value("cooee_submissions_unknown_oldest_seconds", provider=PROVIDER) >= 1200
    await stage.execute("DELETE FROM submissions")
    await read(stage)
    assert REGISTRY.get_sample_value("cooee_submissions_unknown", {"provider": PROVIDER}) is None


async def test_a_provider_that_cannot_be_reached_is_unavailable_with_reason_and_time(stage: Stage) -> None:
    worker = stage.make_worker(base_url="http://127.0.0.1:1", rate=100)
    observed = observe([worker])
    assert observed.set_metrics is not None
    assert observed.details is not None
    assert observed.details() == {"providers": {PROVIDER: {"status": "available"}}}
    for _ in range(3):
        await stage.add_due(stage.due())
        await stage.send(worker)
    observed.set_metrics()
    assert value("cooee_circuit_state", provider=PROVIDER, state="open") == 1
    assert value("cooee_circuit_state", provider=PROVIDER, state="closed") == 0
    assert value("cooee_submissions_in_flight", provider=PROVIDER) == 0
    assert value("cooee_token_bucket_parts", provider=PROVIDER) > 0
    described = observed.details()["providers"][PROVIDER]
    assert (described["status"], described["failure_category"]) == ("unavailable", "provider_unavailable")
    assert datetime.now(UTC) - datetime.fromisoformat(described["since"]) < timedelta(minutes=5)


async def test_usage_that_differs_is_counted_by_format(stage: Stage) -> None:
    await stage.add_due(stage.due())
    await report_drift(stage.database)
    assert value("cooee_limit_drift", format="sms") == 0
    await stage.execute("UPDATE limit_usage SET usage = usage + 5")
    await report_drift(stage.database)
    assert (value("cooee_limit_drift", format="sms"), value("cooee_limit_drift", format="mms")) == (1, 0)


async def test_no_reading_reads_a_whole_table(
    stage: Stage, explain: Callable[..., Awaitable[list[tuple[str, str]]]]
) -> None:
    await stage.execute(FILL)
    async with stage.database.all_tenants() as session:

        async def run() -> None:
            for reading in metrics.READINGS:
                await session.execute(text(reading.statement))

        plans: list[tuple[str, Any]] = await explain(session, run)
    assert len(plans) == len(metrics.READINGS)
    for statement, plan in plans:
        assert "Seq Scan" not in plan, (statement, plan)
