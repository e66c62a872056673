"""Failed messages are sent again for an organisation, and no other ones."""

import pytest

from .conftest import Cooee, Sql
from .test_stuck import add_schedule

FAILED = {"failure_category": "'unroutable'", "error": "'No route.'"}


async def test_failed_schedule_is_sent_again(cooee: Cooee, sql: Sql, organisation: str) -> None:
    schedule = await add_schedule(sql, organisation, "failed", **FAILED)
    done = await cooee("retry", "schedule", organisation, str(schedule), "--json")
    assert (done.code, done.document["status"]) == (0, "pending")
    (row,) = await sql("scheduling", "SELECT status, dispatch_number FROM schedules")
    assert row.status == "pending"
    again = await cooee("retry", "schedule", organisation, str(schedule))
    assert (again.code, again.err.startswith(f"cooee: schedule {schedule}: ")) == (5, True)


async def test_message_that_may_have_arrived_is_sent_again_only_when_asked(
    cooee: Cooee, sql: Sql, organisation: str
) -> None:
    unknown = {"failure_category": "'outcome_unknown'", "error": "'Not known.'"}
    schedule = str(await add_schedule(sql, organisation, "failed", **unknown))
    assert (await cooee("retry", "schedule", organisation, schedule)).code == 5
    assert (await cooee("retry", "schedule", organisation, schedule, "--include-unknown")).code == 0


async def test_failed_messages_of_a_batch_are_sent_again(cooee: Cooee, sql: Sql, organisation: str) -> None:
    values = {"phone": "NULL", "fanned_out_at": "now()", "group_id": "1", "next_due_at": "now()", "message_count": "1"}
    batch = await add_schedule(sql, organisation, "failed", kind="'batch'", **values, **FAILED)
    values = {"kind": "'batch_message'", "batch_id": str(batch), "batch_position": "1"}
    await add_schedule(sql, organisation, "failed", **values, text="NULL", scheduled_time="NULL", **FAILED)
    done = await cooee("retry", "batch", organisation, str(batch))
    assert (done.code, done.out) == (0, f"1 failed message of batch {batch} is sent again\n")


@pytest.mark.parametrize("kind", ["schedule", "batch"])
async def test_another_organisations_messages_are_not_found(
    cooee: Cooee, sql: Sql, organisation: str, kind: str
) -> None:
    schedule = str(await add_schedule(sql, "org_other", "failed", **FAILED))
    refused = await cooee("retry", kind, organisation, schedule)
    assert (refused.code, refused.err) == (4, f"cooee: {organisation} has no {kind} {schedule}\n")
    (row,) = await sql("scheduling", "SELECT status FROM schedules")
    assert row.status == "failed"
