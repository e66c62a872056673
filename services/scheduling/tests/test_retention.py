"""Old messages lose their content and later leave. What is open stays as it is, and the counts stay exact."""

from typing import Any

from common.retention import apply_rules
from scheduling.retention import RULES

from .stage import Stage

STATS = "/api/stats/monthly/"


async def age(stage: Stage, days: int, condition: str = "true") -> None:
    await stage.rows(
        f"UPDATE schedules SET updated_at = now() - make_interval(days => :days) WHERE {condition}", days=days
    )


async def run(stage: Stage) -> None:
    while await apply_rules(stage.database, stage.settings, RULES):
        pass


async def contents(stage: Stage) -> list[tuple[Any, ...]]:
    found = await stage.rows("SELECT text, fields, subject, media_url, content_removed FROM schedules ORDER BY id")
    return [tuple(row) for row in found]


async def test_content_of_a_final_message_is_removed_and_its_shape_stays(stage: Stage) -> None:
    ana = stage.make_contact({"first_name": "Ana"})
    made = await stage.make_schedule(contact=ana["contact_id"], text="Hi {{first_name}}", phone=None)
    later = await stage.make_schedule()
    await stage.rows("UPDATE schedules SET status = 'sent', sent_time = now() WHERE id = :id", id=made["id"])
    await age(stage, 89)
    await run(stage)
    assert (await stage.show(made["id"]))["text"] == "Hi Ana"
    await age(stage, 91)
    await run(stage)
    shown = await stage.show(made["id"])
    assert shown.keys() == made.keys()
    assert (shown["text"], shown["recipient_name"], shown["status"]) == ("", None, "sent")
    assert (await stage.show(later["id"]))["text"] == "Hello"  # pending, however old
    [row, pending] = await contents(stage)
    assert (row, pending[-1]) == (("", {}, None, None, True), False)


async def test_rows_leave_after_24_months_and_lists_count_what_is_left(stage: Stage) -> None:
    for _ in range(3):
        await stage.make_schedule()
    await stage.rows("UPDATE schedules SET status = 'sent', sent_time = now() WHERE id < 3")
    await age(stage, 731, "id = 1")
    await age(stage, 729, "id = 2")
    await run(stage)
    listed = await stage.client.ok("GET", "/api/schedules/?date_from=2020-01-01")
    assert (listed["pagination"]["total"], {one["id"] for one in listed["results"]}) == (2, {2, 3})


async def test_messages_leave_before_their_batch_which_takes_its_counts_along(stage: Stage) -> None:
    batch = await stage.make_batch(3)
    await stage.rows("UPDATE schedules SET status = 'sent', sent_time = now()")
    await age(stage, 731, "kind = 'batch'")
    await age(stage, 100, "kind = 'batch_message'")
    await run(stage)
    shown = await stage.show_batch(batch["id"])
    assert {one["text"] for one in shown["schedules"]} == {""}
    await age(stage, 731)
    await run(stage)
    assert await stage.rows("SELECT 1 FROM schedules") == []
    assert await stage.rows("SELECT 1 FROM batch_counts") == []
    assert (await stage.client("GET", f"/api/group-schedules/{batch['id']}/")).status_code == 404


async def test_pending_messages_of_a_cancelled_batch_end_with_it(stage: Stage) -> None:
    batch, kept = await stage.make_batch(2), await stage.make_batch(1)
    await stage.client.ok("DELETE", f"/api/group-schedules/{batch['id']}/")
    counts = (await stage.show_batch(batch["id"]))["counts"]
    await age(stage, 91)
    await run(stage)
    shown = await stage.show_batch(batch["id"])
    assert (shown["counts"], shown["text"]) == (counts, "")
    messages = await stage.rows("SELECT status, fields FROM schedules WHERE batch_id = :id", id=batch["id"])
    assert [(row.status, row.fields) for row in messages] == [("cancelled", {})] * 2
    assert (await stage.show_batch(kept["id"]))["text"] == "Hi {{first_name}}"
    await age(stage, 731)
    await run(stage)
    assert {row.id for row in await stage.rows("SELECT id FROM schedules WHERE kind = 'batch'")} == {kept["id"]}


async def test_a_message_without_content_is_not_sent_again(stage: Stage) -> None:
    single, batch = await stage.make_schedule(), await stage.make_batch(2)
    failed = "status = 'failed', failure_category = 'unknown', error = 'x'"
    await stage.rows(f"UPDATE schedules SET {failed}")
    await age(stage, 91, "kind <> 'batch_message'")
    await run(stage)
    [message, _] = (await stage.show_batch(batch["id"]))["schedules"]
    for path in (f"schedules/{single['id']}", f"schedules/{message['id']}", f"group-schedules/{batch['id']}"):
        refused = await stage.client("POST", f"/api/{path}/retry/")
        assert (refused.status_code, "removed" in refused.json()["detail"]) == (400, True), path
    assert {row.status for row in await stage.rows("SELECT status FROM schedules")} == {"failed"}
