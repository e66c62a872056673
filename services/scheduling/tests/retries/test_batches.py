"""The retry of a large batch: 5,000 messages in the request, the rest in a loop."""

from collections import Counter
from dataclasses import dataclass

import pytest

from scheduling.retries.loops import continue_retries
from scheduling.retries.service import BATCH
from services.scheduling.tests.stage import Stage

FAILED = """
    INSERT INTO schedules (organisation_id, kind, status, batch_id, batch_position, contact_id, phone, format,
                           scheduled_time, dispatch_number, message_parts, failure_category, error)
    SELECT b.organisation_id, 'batch_message', 'failed', b.id, b.message_count + g, g + 1000, '+61491000999', 'sms',
           now(), 1, 1, CASE WHEN g % 100 = 0 THEN 'outcome_unknown' ELSE 'blocked' END, 'x'
    FROM schedules b, generate_series(1, CAST(:rows AS int)) g WHERE b.id = :id
"""
FINISHED = """
    UPDATE schedules SET status = 'failed', failure_category = 'blocked', error = 'x', fanned_out_at = now(),
                         message_count = :rows
    WHERE id = :id
"""
ROWS = 2 * BATCH + 1000
UNKNOWN = ROWS // 100


@dataclass
class LargeBatch:
    """A finished batch of 11,000 failed messages, 110 of them with an unknown outcome."""

    stage: Stage
    id: int
    url: str

    async def count(self) -> Counter[str]:
        """Count the messages by the status in their rows."""
        rows = await self.stage.rows(
            "SELECT status, count(*) AS n FROM schedules WHERE kind = 'batch_message' GROUP BY status"
        )
        return Counter({row.status: row.n for row in rows})

    async def retry(self, query: str = "") -> int:
        """Retry the batch and return how many messages the answer names."""
        answer = await self.stage.client.ok("POST", f"{self.url}retry/{query}")
        return int(answer["retried"])


@pytest.fixture
async def batch(stage: Stage) -> LargeBatch:
    """Create the large batch."""
    made = await stage.make_batch(1)
    await stage.rows("DELETE FROM schedules WHERE kind = 'batch_message'")
    await stage.rows(FAILED, id=made["id"], rows=ROWS)
    await stage.rows(FINISHED, id=made["id"], rows=ROWS)
    return LargeBatch(stage, made["id"], f"/api/group-schedules/{made['id']}/")


async def test_the_rest_is_reopened_by_the_loop_before_the_batch_finishes(stage: Stage, batch: LargeBatch) -> None:
    assert await batch.retry() == ROWS - UNKNOWN
    assert await batch.count() == {"pending": BATCH, "failed": ROWS - BATCH}
    assert (await stage.show_batch(batch.id))["status"] == "processing"
    await stage.continue_retries()
    assert await batch.count() == {"pending": ROWS - UNKNOWN, "failed": UNKNOWN}
    assert await batch.retry("?include_unknown=TRUE") == UNKNOWN
    assert await batch.count() == {"pending": ROWS}
    assert not await continue_retries(stage.database)


async def test_a_message_that_fails_again_meanwhile_is_not_sent_a_third_time(stage: Stage, batch: LargeBatch) -> None:
    await batch.retry()
    await stage.rows(
        "UPDATE schedules SET status = 'failed', failure_category = 'blocked', error = 'x', updated_at = now()"
        " WHERE status = 'pending' AND kind = 'batch_message'"
    )
    await stage.finish_batches()
    assert (await stage.show_batch(batch.id))["status"] == "processing"
    await stage.continue_retries()
    assert await batch.count() == {"failed": BATCH + UNKNOWN, "pending": ROWS - UNKNOWN - BATCH}
    await stage.rows("UPDATE schedules SET status = 'sent' WHERE status = 'pending'")
    await stage.finish_batches()
    assert (await stage.show_batch(batch.id))["status"] == "sent"


async def test_a_cancellation_ends_the_retry(stage: Stage, batch: LargeBatch) -> None:
    await batch.retry()
    assert (await stage.client("DELETE", batch.url)).status_code == 204
    assert not await continue_retries(stage.database)
    detail = await stage.show_batch(batch.id)
    assert (detail["status"], detail["counts"]["cancelled"]) == ("cancelled", BATCH)
    assert detail["counts"]["pending"] == 0
    assert (await stage.client("DELETE", batch.url)).status_code == 400


async def test_a_retry_of_a_cancelled_batch_leaves_cancelled_messages_cancelled(
    stage: Stage, batch: LargeBatch
) -> None:
    await stage.rows(
        "UPDATE schedules SET status = 'pending', failure_category = NULL, error = NULL, scheduled_time = NULL"
        " WHERE kind = 'batch_message' AND contact_id > :some",
        some=1000 + 200,
    )
    await stage.rows("UPDATE schedules SET status = 'cancelled' WHERE id = :id", id=batch.id)
    assert await batch.retry() == 198
    await stage.dispatch()
    assert (await batch.count())["cancelled"] == BATCH
    await stage.continue_retries()
    assert await batch.count() == {"cancelled": ROWS - 200, "pending": 198, "failed": 2}
    assert (await stage.show_batch(batch.id))["status"] == "processing"
    await stage.dispatch()
    assert (await batch.count())["processing"] == 198


async def test_a_retry_without_failed_messages_changes_nothing(stage: Stage) -> None:
    batch = await stage.make_batch(2)
    answer = await stage.client.ok("POST", f"/api/group-schedules/{batch['id']}/retry/")
    assert answer == {"retried": 0}
    assert (await stage.show_batch(batch["id"]))["status"] == "pending"
    assert not await continue_retries(stage.database)
