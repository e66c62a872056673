"""A large batch goes again some thousand messages at a time: the first in the request, the rest behind it."""

import pytest

from scheduling.batches.loops import finish_batches
from scheduling.retries.loops import continue_retries
from scheduling.retries.service import BATCH as RETRY_BATCH

FAILED = """
    INSERT INTO schedules (organisation_id, kind, status, batch_id, contact_id, phone, format, scheduled_time, dispatch_number,
                           message_parts, failure_category, error)
    SELECT p.organisation_id, 'batch_message', 'failed', p.id, g + 1000, '+61491000999', 'sms', now(), 1, 1,
           CASE WHEN g % 100 = 0 THEN 'outcome_unknown' ELSE 'blocked' END, 'x'
    FROM schedules p, generate_series(1, CAST(:rows AS int)) g WHERE p.id = :id
"""
ENDED = """
    UPDATE schedules SET status = 'failed', failure_category = 'blocked', error = 'x', fanned_out_at = now(),
                         message_count = :rows
    WHERE id = :id
"""
ROWS = 2 * RETRY_BATCH + 1000


@pytest.fixture
async def large(make_batch, run_sql):
    """The path and id of a batch of whose 11,000 messages all have failed, 110 with an unknown outcome."""
    batch = await make_batch(1)
    await run_sql("DELETE FROM schedules WHERE kind = 'batch_message'")
    await run_sql(FAILED, id=batch["id"], rows=ROWS)
    await run_sql(ENDED, id=batch["id"], rows=ROWS)
    return f"/api/group-schedules/{batch['id']}/", batch["id"]


@pytest.fixture
def count(run_sql):
    async def by_status():
        rows = await run_sql("SELECT status, count(*) AS n FROM schedules WHERE kind = 'batch_message' GROUP BY status")
        return {row.status: row.n for row in rows}

    return by_status


async def test_the_rest_goes_behind_the_answer_and_the_batch_does_not_end_before(client, database, large, count):
    path, _ = large
    told = await client.ok("POST", path + "retry/")
    assert told == {"retried": ROWS - 110}
    assert await count() == {"pending": RETRY_BATCH, "failed": ROWS - RETRY_BATCH}
    assert (await client.ok("GET", path))["status"] == "processing"
    while await continue_retries(database):
        pass
    assert await count() == {"pending": ROWS - 110, "failed": 110}
    assert (await client.ok("POST", path + "retry/?include_unknown=true")) == {"retried": 110}
    assert await count() == {"pending": ROWS}
    assert not await continue_retries(database)


async def test_what_fails_again_meanwhile_is_not_sent_a_third_time(client, database, large, count, run_sql):
    path, _ = large
    await client.ok("POST", path + "retry/")
    await run_sql(
        "UPDATE schedules SET status = 'failed', failure_category = 'blocked', error = 'x', updated_at = now()"
        " WHERE status = 'pending' AND kind = 'batch_message'"
    )
    await finish_batches(database)
    assert (await client.ok("GET", path))["status"] == "processing"
    while await continue_retries(database):
        pass
    assert await count() == {"failed": RETRY_BATCH + 110, "pending": ROWS - 110 - RETRY_BATCH}
    await run_sql("UPDATE schedules SET status = 'sent' WHERE status = 'pending'")
    await finish_batches(database)
    assert (await client.ok("GET", path))["status"] == "sent"


async def test_a_batch_cancelled_meanwhile_goes_no_further(client, database, large, count):
    path, _ = large
    await client.ok("POST", path + "retry/")
    assert (await client("DELETE", path)).status_code == 204
    assert not await continue_retries(database)
    detail = await client.ok("GET", path)
    assert (detail["status"], detail["counts"]["cancelled"], detail["counts"]["pending"]) == (
        "cancelled",
        RETRY_BATCH,
        0,
    )
    assert (await client("DELETE", path)).status_code == 400


async def test_the_failures_of_a_cancelled_batch_go_again_and_what_was_cancelled_stays_so(
    client, database, large, count, run_sql, dispatch
):
    path, batch_id = large
    await run_sql(
        "UPDATE schedules SET status = 'pending', failure_category = NULL, error = NULL, scheduled_time = NULL"
        " WHERE kind = 'batch_message' AND contact_id > :some",
        some=1000 + 200,
    )
    await run_sql("UPDATE schedules SET status = 'cancelled' WHERE id = :id", id=batch_id)
    assert (await client.ok("POST", path + "retry/")) == {"retried": 198}
    await dispatch()
    assert (await count())["cancelled"] == RETRY_BATCH
    while await continue_retries(database):
        pass
    assert await count() == {"cancelled": ROWS - 200, "pending": 198, "failed": 2}
    assert (await client.ok("GET", path))["status"] == "processing"
    await dispatch()
    assert (await count())["processing"] == 198


async def test_a_retry_of_nothing_changes_nothing(client, make_batch, database):
    batch = await make_batch(2)
    path = f"/api/group-schedules/{batch['id']}/"
    assert (await client.ok("POST", path + "retry/")) == {"retried": 0}
    assert (await client.ok("GET", path))["status"] == "pending"
    assert not await continue_retries(database)
