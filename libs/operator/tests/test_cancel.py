"""A batch is cancelled for its organisation alone, and only while something of it is pending."""

from .conftest import Cooee, Sql
from .test_stuck import add_schedule


async def add_batch(sql: Sql, organisation: str) -> int:
    """Add a batch in processing with a message that was sent and two that are pending."""
    values = {
        "kind": "'batch'",
        "group_id": "1",
        "message_count": "3",
        "phone": "NULL",
        "fanned_out_at": "now()",
        "next_due_at": "now()",
    }
    batch = await add_schedule(sql, organisation, "processing", **values)
    for position, status in enumerate(("sent", "pending", "pending"), start=1):
        message = {"kind": "'batch_message'", "batch_id": str(batch), "batch_position": str(position)}
        await add_schedule(sql, organisation, status, **message)
    return batch


async def test_what_is_pending_of_a_batch_is_cancelled_once(cooee: Cooee, sql: Sql) -> None:
    batch = await add_batch(sql, "org_mine")
    done = await cooee("cancel", "batch", "org_mine", str(batch), "--json")
    assert (done.code, done.document) == (
        0,
        {
            "organisation_id": "org_mine",
            "batch_id": batch,
            "status": "cancelled",
            "messages": {"sent": 1, "cancelled": 2},
        },
    ), done
    again = await cooee("cancel", "batch", "org_mine", str(batch))
    assert (again.code, again.err) == (5, f"cooee: nothing of batch {batch} is pending\n")
    [row] = await sql("contacts", "SELECT * FROM operator_actions WHERE outcome = 'done'")
    assert (row.organisation_id, row.arguments) == ("org_mine", {"organisation": "org_mine", "batch_id": batch})


async def test_a_batch_of_another_organisation_is_not_found(cooee: Cooee, sql: Sql) -> None:
    batch = await add_batch(sql, "org_mine")
    for organisation, number in (("org_other", batch), ("org_mine", batch + 100), ("", batch)):
        refused = await cooee("cancel", "batch", organisation, str(number))
        assert (refused.code, f"has no batch {number}" in refused.err) == (4, True), refused
    assert (await cooee("cancel", "batch", "org_mine", "x")).code == 2
    [row] = await sql("scheduling", "SELECT status FROM schedules WHERE id = :id", id=batch)
    assert row.status == "processing"


async def test_open_batches_since_a_time_are_cancelled_together(cooee: Cooee, sql: Sql) -> None:
    batches = [await add_batch(sql, "org_mine") for _ in range(52)]
    early = await add_batch(sql, "org_mine")
    await sql("scheduling", "UPDATE schedules SET created_at = now() - interval '3 days' WHERE id = :id", id=early)
    dispatched = await add_batch(sql, "org_mine")
    await sql("scheduling", "UPDATE schedules SET status = 'sent' WHERE batch_id = :id", id=dispatched)
    other = await add_batch(sql, "org_other")
    done = await cooee("cancel", "batches", "org_mine", "--since", "2h", "--json")
    assert (done.code, done.document["cancelled"]) == (0, batches), done
    rows = await sql("scheduling", "SELECT id FROM schedules WHERE kind = 'batch' AND status = 'processing'")
    assert sorted(row.id for row in rows) == sorted([early, dispatched, other])
    again = await cooee("cancel", "batches", "org_mine", "--since", "2h")
    assert (again.code, "no batch of org_mine since" in again.err) == (5, True)
    [row] = await sql("contacts", "SELECT * FROM operator_actions WHERE outcome = 'done'")
    assert (row.action, row.organisation_id, sorted(row.arguments)) == (
        "cancel batches",
        "org_mine",
        ["organisation", "since"],
    )
    assert (await cooee("cancel", "batches", "org_mine")).code == 2
