"""Schedules of an earlier system are history here, and its batches are dispatched but never fanned out."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import text

from common import moved_rows
from common.moved_rows import OldId
from scheduling.batches.service import claim_fan_out
from scheduling.models import ScheduleKind, ScheduleStatus
from scheduling.moving_in import service
from scheduling.moving_in.schemas import MovedUsage, ScheduleIn
from services.scheduling.tests.stage import Stage

NOW = datetime.now(UTC).replace(microsecond=0)


def schedule(stage: Stage, old_id: int, **changes: Any) -> ScheduleIn:
    moment = changes.pop("scheduled_time", NOW - timedelta(minutes=1))
    values = {
        **dict.fromkeys(ScheduleIn._fields),
        "old_id": old_id,
        "organisation_id": stage.organisation,
        "month": moment.date().replace(day=1),
        "old_status": "sent",
        "status": "sent",
        "kind": ScheduleKind.SINGLE,
        "contact_version": 0,
        "phone": "+61491570006",
        "fields": {},
        "text": "Hi",
        "message_parts": 2,
        "scheduled_time": moment,
        "format": "sms",
        "created_at": moment,
        "updated_at": moment,
    }
    return ScheduleIn(**(values | changes))


async def import_rows(stage: Stage, kind: str, *rows: ScheduleIn) -> dict[int, int]:
    async with stage.database.all_tenants() as session:
        await service.import_schedules(session, "v2", rows, kind=kind)
        ids = [OldId(row.organisation_id, row.old_id) for row in rows]
        found = await moved_rows.find_new_ids(session, "v2", kind, ids)
        return {key.old_id: new_id for key, new_id in found.items()}


async def test_a_sent_message_is_shown_in_lists_and_in_the_statistics_of_its_month(stage: Stage) -> None:
    ids = await import_rows(stage, service.SCHEDULE, schedule(stage, 7))
    shown = await stage.show(ids[7])
    assert (shown["status"], shown["text"]) == ("sent", "Hi")
    stats = await stage.client.ok("GET", "/api/stats/monthly/")
    assert sum(month["sms_parts"] for month in stats["monthly_stats"]) == 2


async def test_a_pending_batch_is_dispatched_with_its_own_messages_only(stage: Stage) -> None:
    open_row: dict[str, Any] = {"old_status": "pending", "status": "pending", "message_parts": None}
    batch = schedule(stage, 1, kind=ScheduleKind.BATCH, phone=None, group_id=5, name="Sale", **open_row)
    ids = await import_rows(stage, service.BATCH, batch)
    message: dict[str, Any] = {"kind": ScheduleKind.BATCH_MESSAGE, "batch_id": ids[1], **open_row}
    await import_rows(
        stage, service.BATCH_MESSAGE, schedule(stage, 2, **message), schedule(stage, 3, **message, text="Own")
    )
    async with stage.database.all_tenants() as session:
        assert await claim_fan_out(session) is None, "a worker must not add the members of today"
        assert await service.complete_batches(session, "v2", [stage.organisation], after=0, size=10) == (None, 1)
        assert await service.complete_batches(session, "v2", [stage.organisation], after=0, size=10) == (None, 0)
        assert await claim_fan_out(session) is None
    detail = await stage.show_batch(ids[1])
    assert ([row["text"] for row in detail["schedules"]], detail["expanding"]) == (["Hi", "Own"], False)
    await stage.dispatch()
    assert sorted(event.text for event in await stage.dispatches()) == ["Hi", "Own"]


async def test_usage_counts_what_was_sent_or_may_have_been_in_the_month_of_the_zone(stage: Stage) -> None:
    last = datetime(2026, 3, 31, 13, 45, tzinfo=UTC)  # 1 April in Adelaide and still 31 March in Perth
    rows = (
        schedule(stage, 1, scheduled_time=last),
        schedule(stage, 2, scheduled_time=last, old_status="processing", status="failed",
                 failure_category="outcome_unknown", error="x"),
        schedule(stage, 3, scheduled_time=last, status="failed", failure_category="unknown", error="x"),
        schedule(stage, 4, scheduled_time=last, status="cancelled"),
    )  # fmt: skip
    await import_rows(stage, service.SCHEDULE, *rows)
    for zone, month in (("Australia/Adelaide", date(2026, 4, 1)), ("Australia/Perth", date(2026, 3, 1))):
        async with stage.database.all_tenants() as session:
            usage = await service.count_usage(session, {stage.organisation: zone}, date(2026, 3, 1))
        assert usage == [MovedUsage(stage.organisation, month, "sms", 4)]


async def test_a_row_is_written_again_only_when_it_changed_and_was_not_sent_here(stage: Stage) -> None:
    first = schedule(stage, 1)
    async with stage.database.all_tenants() as session:
        assert (await service.import_schedules(session, "v2", [first], kind="schedule")).added == 1
        later = first._replace(status=ScheduleStatus.FAILED, failure_category="expired", error="x")
        assert (await service.import_schedules(session, "v2", [later], kind="schedule")).updated == 0
        changed = first._replace(text="New")
        assert (await service.import_schedules(session, "v2", [changed], kind="schedule")).updated == 1
        [checked] = await service.check(session, "v2", [stage.organisation])
        assert (checked.kind, checked.month, checked.rows) == ("schedule", first.month, 1)
    async with stage.database.all_tenants() as session:
        await session.execute(text("UPDATE schedules SET dispatch_number = 1"))
        written = await service.import_schedules(session, "v2", [first], kind="schedule")
    assert (written.updated, [old_id for old_id, _ in written.rejected]) == (0, [1])


async def test_two_organisations_may_have_moved_in_with_the_same_old_ids(stage: Stage) -> None:
    first, other = schedule(stage, 1, text="First"), schedule(stage, 1, organisation_id="org_other", text="Other")
    async with stage.database.all_tenants() as session:
        for row in (first, other, other, first):
            await service.import_schedules(session, "v1", [row], kind="schedule")
        rows = await session.execute(text("SELECT organisation_id, text FROM schedules"))
        assert sorted(map(tuple, rows)) == sorted([(stage.organisation, "First"), ("org_other", "Other")])
        changed = await service.import_schedules(session, "v1", [first._replace(text="New")], kind="schedule")
        assert changed.updated == 1
        texts = await session.scalars(text("SELECT text FROM schedules WHERE organisation_id = 'org_other'"))
        assert texts.all() == ["Other"]
        [checked] = await service.check(session, "v1", ["org_other"])
        assert checked.rows == 1


async def test_usage_of_an_organisation_that_came_from_two_systems_is_their_sum(stage: Stage) -> None:
    at = datetime(2026, 3, 15, tzinfo=UTC)
    async with stage.database.all_tenants() as session:
        for system in ("v1", "v2"):
            await service.import_schedules(session, system, [schedule(stage, 1, scheduled_time=at)], kind="schedule")
        usage = await service.count_usage(session, {stage.organisation: "Australia/Adelaide"}, date(2026, 3, 1))
    assert usage == [MovedUsage(stage.organisation, date(2026, 3, 1), "sms", 4)]
