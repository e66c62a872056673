"""Actions want a reason and leave rows in the audit. What is masked is shown only in this way, too."""

import pytest

from cooee.command import Command
from cooee.main import COMMANDS
from cooee.page.actions import ACTIONS
from cooee.page.forms import Fields

from ..test_stuck import add_schedule
from .conftest import FERN, OPERATOR, PHONE, Browser, Sql, World

ROWS = "SELECT step, action, operator, reason, organisation_id, outcome FROM operator_actions ORDER BY id"
ASSIGN = {"organisation": FERN, "sender": "0491 570 006"}


async def audit(sql: Sql) -> list[tuple[object, ...]]:
    """Return the rows of the audit."""
    return [tuple(row) for row in await sql("contacts", ROWS)]


async def test_action_with_a_reason_is_done_and_recorded(browser: Browser, sql: Sql) -> None:
    form = await browser.get(f"/actions/assign-sender-id?organisation={FERN}")
    assert f'value="{FERN}"' in form.text
    done = await browser.post("/actions/assign-sender-id", reason="ticket 12: <new number>", **ASSIGN)
    assert done.status_code == 200
    assert f"0491570006 belongs to {FERN}" in done.text
    (row,) = await sql("delivery", "SELECT sender_id, organisation_id FROM sender_ids")
    assert tuple(row) == (PHONE, FERN)
    common = ("sender-ids assign", OPERATOR, "ticket 12: <new number>", FERN)
    assert await audit(sql) == [("begin", *common, None), ("end", *common, "done")]
    shown = await browser.get("/audit")
    for expected in ("sender-ids assign", OPERATOR, "ticket 12: &lt;new number&gt;", f"/organisations/{FERN}", "done"):
        assert expected in shown.text, expected


@pytest.mark.parametrize("reason", ["", "   ", "no", "x" * 501, "called 0491 570 006", "line\nbreak\x07 bell"])
async def test_action_without_a_good_reason_changes_nothing(browser: Browser, sql: Sql, reason: str) -> None:
    refused = await browser.post("/actions/assign-sender-id", reason=reason, **ASSIGN)
    assert refused.status_code == 400
    assert "reason" in refused.text
    assert await sql("delivery", "SELECT * FROM sender_ids") == []
    assert await audit(sql) == []


@pytest.mark.parametrize(
    ("name", "fields", "named"),
    [
        ("assign-sender-id", {"organisation": "", "sender": "Fern"}, "Organisation"),
        ("assign-sender-id", {"organisation": FERN, "sender": "--json"}, "sender"),
        ("replay-dead-letter", {"service": "gateway", "id": "1"}, "Service"),
        ("replay-dead-letter", {"service": "delivery", "id": "1 --all"}, "id"),
        ("republish", {"since": "yesterday"}, "since"),
    ],
)
async def test_wrong_field_is_named(browser: Browser, name: str, fields: dict[str, str], named: str) -> None:
    refused = await browser.post(f"/actions/{name}", reason="ticket 12", **fields)
    assert refused.status_code == 400
    assert named in refused.text
    assert "--help" not in refused.text


async def test_refused_action_leaves_its_rows(browser: Browser, sql: Sql) -> None:
    await browser.post("/actions/assign-sender-id", reason="ticket 12", **ASSIGN)
    refused = await browser.post(
        "/actions/assign-sender-id", reason="ticket 13", organisation="org_x", sender="0491570006"
    )
    assert refused.status_code == 409
    assert f"belongs to {FERN}: remove it there first" in refused.text
    assert [row[-1] for row in await audit(sql)] == [None, "done", None, "refused"]


async def test_dead_letter_is_acknowledged_and_transmitted_again(browser: Browser, sql: Sql, world: World) -> None:
    letter = {"service": "scheduling", "id": str(world.dead_letter)}
    assert (await browser.post("/actions/acknowledge-dead-letter", reason="ticket 12", **letter)).status_code == 200
    assert (await browser.post("/actions/replay-dead-letter", reason="ticket 12", **letter)).status_code == 200
    assert await sql("scheduling", "SELECT * FROM dead_letters") == []
    (event,) = await sql("scheduling", "SELECT topic FROM outbox")
    assert event.topic == "delivery.message-sent.v1"
    again = await browser.post("/actions/replay-dead-letter", reason="ticket 12", **letter)
    assert (again.status_code, "has no such dead letters" in again.text) == (404, True)


async def test_organisation_and_provider_are_paused_and_resumed(browser: Browser, sql: Sql, world: World) -> None:
    for name, fields in (("organisation", {"organisation": FERN}), ("provider", {"provider": "mobile_message"})):
        paused = await browser.post(f"/actions/pause-{name}", reason="ticket 12: runaway", **fields)
        assert paused.status_code == 200, paused.text
    stored = await sql("delivery", "SELECT name, operator FROM pauses ORDER BY kind")
    assert [tuple(row) for row in stored] == [(FERN, OPERATOR), ("mobile_message", OPERATOR)]
    overview, organisation = await browser.get("/"), await browser.get(f"/organisations/{FERN}")
    assert f'href="/actions/resume-organisation?organisation={FERN}"' in overview.text
    assert 'href="/actions/resume-provider?provider=mobile_message"' in overview.text
    assert f"by {OPERATOR}: ticket 12: runaway" in organisation.text
    for name, fields in (("organisation", {"organisation": FERN}), ("provider", {"provider": "mobile_message"})):
        assert (
            await browser.post(f"/actions/resume-{name}", reason="ticket 12: repaired", **fields)
        ).status_code == 200
    assert await sql("delivery", "SELECT * FROM pauses") == []
    refused = await browser.post("/actions/pause-organisation", reason="ticket 12", organisation="--json")
    assert (refused.status_code, "there is no organisation --json" in refused.text) == (404, True)
    assert [row[-1] for row in await audit(sql)] == [None, "done"] * 4 + [None, "refused"]


async def test_organisation_is_closed(browser: Browser, sql: Sql, world: World) -> None:
    assert "Its queued messages fail as blocked." in (await browser.get("/actions/close-organisation")).text
    assert (await browser.post("/actions/close-organisation", reason="", organisation=FERN)).status_code == 400
    done = await browser.post("/actions/close-organisation", reason="contract has ended", organisation=FERN)
    assert (done.status_code, "is closed" in done.text) == (200, True)
    found = await sql("contacts", "SELECT organisation_id FROM organisations WHERE is_active")
    assert [row.organisation_id for row in found] == ["org_reed"]
    assert "closed" in (await browser.get(f"/organisations/{FERN}")).text


async def test_failed_message_is_sent_again_and_batch_is_cancelled(browser: Browser, sql: Sql) -> None:
    failed = {"failure_category": "'unroutable'", "error": "'No route.'"}
    schedule = await add_schedule(sql, FERN, "failed", **failed)
    values = {"phone": "NULL", "group_id": "1", "next_due_at": "now()", "message_count": "1"}
    batch = await add_schedule(sql, FERN, "pending", kind="'batch'", **values)
    assert "/actions/retry-schedule?" in (await browser.get(f"/schedules/{schedule}")).text
    for name, number in (("retry-schedule", {"schedule": schedule}), ("cancel-batch", {"batch": batch})):
        fields = {"organisation": FERN, **{key: str(value) for key, value in number.items()}}
        done = await browser.post(f"/actions/{name}", reason="ticket 12", **fields)
        assert done.status_code == 200, done.text
        fields["organisation"] = "org_reed"
        assert (await browser.post(f"/actions/{name}", reason="ticket 12", **fields)).status_code == 404
    rows = await sql("scheduling", "SELECT status FROM schedules ORDER BY id")
    assert [row.status for row in rows] == ["pending", "cancelled"]


async def test_phone_and_text_are_shown_with_a_reason_alone(browser: Browser, sql: Sql, world: World) -> None:
    path = f"/messages/{world.message}"
    refused = await browser.post(path, reason="")
    assert (refused.status_code, PHONE in refused.text) == (400, False)
    assert await audit(sql) == []
    shown = await browser.post(path, reason="the customer asks")
    assert shown.status_code == 200
    assert PHONE in shown.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown.text
    common = ("history (unmasked)", OPERATOR, "the customer asks", FERN)
    assert await audit(sql) == [("begin", *common, None), ("end", *common, "done")]
    assert PHONE not in (await browser.get(path)).text


async def test_body_of_a_dead_letter_is_shown_with_a_reason_alone(browser: Browser, sql: Sql, world: World) -> None:
    path = f"/dead-letters/scheduling/{world.dead_letter}"
    shown = await browser.post(path, reason="why it cannot be read")
    assert (shown.status_code, PHONE in shown.text) == (200, True)
    assert [row[1] for row in await audit(sql)] == ["dead-letters show (unmasked)"] * 2
    assert PHONE not in (await browser.get(path)).text


async def test_large_or_foreign_body_is_refused(browser: Browser) -> None:
    assert (await browser.post("/actions/republish", since="x" * 70_000)).status_code == 413
    assert (await browser.post("/actions/republish", **{f"f{n}": "" for n in range(40)})).status_code == 400
    headers = {"Origin": "http://127.0.0.1:8085"}
    assert (await browser.client.post("/actions/republish", json={}, headers=headers)).status_code == 415
    form = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    assert (await browser.client.post("/actions/republish", content=b"a=\xff", headers=form)).status_code == 400
    assert (await browser.client.post("/actions/republish", content=b"a=%ff", headers=form)).status_code == 400


@pytest.mark.parametrize("name", ACTIONS)
def test_every_action_is_a_changing_command(name: str) -> None:
    action = ACTIONS[name]
    line = action.arguments(Fields([(field.name, "x") for field in action.fields]))
    groups = {one.name: one for one in COMMANDS}
    found = groups[line[0]]
    command = found if isinstance(found, Command) else {one.name: one for one in found.commands}[line[1]]
    assert command.changes
