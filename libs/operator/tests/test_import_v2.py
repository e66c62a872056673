"""`cooee import-v2` imports a database of v2, reports its faults, and can be repeated, changed and killed."""

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from common.database import Database
from cooee.moving_in.source import open_source
from cooee.moving_in.v2 import V2
from delivery.limits.service import find_drift

from .conftest import Cooee, Sql
from .moving_in import ReadState, change, compared, kill_in_the_middle, of_kind, read_csv, state_reader
from .v2_database import build


@pytest.fixture
async def v2(postgres_url: str) -> str:
    """Return the URL of a database of v2 with about 1,900 rows."""
    return await build(postgres_url, "v2_small", contacts=600, singles=800, messages=50)


@pytest.fixture
def state(sql: Sql) -> ReadState:
    """`await state()` returns every row of the tables that an import writes."""
    return state_reader(sql)


async def test_rows_are_imported_and_every_other_one_is_reported(
    cooee: Cooee, sql: Sql, v2: str, tmp_path: Path
) -> None:
    report, ids = tmp_path / "report.csv", tmp_path / "ids.csv"
    done = await cooee("import-v2", "--source", v2, "--report", str(report), "--map-out", str(ids), "--json")
    document = done.document
    assert (done.code, document["agrees"]) == (1, True), "rows were rejected"
    assert of_kind(document, "contact") == {
        "source_rows": 600,
        "imported": 588,
        "merged": 6,
        "pending_cut_over": 0,
        "rejected": 6,
    }
    assert of_kind(document, "member") == {
        "source_rows": 304,
        "imported": 298,
        "merged": 0,
        "pending_cut_over": 0,
        "rejected": 6,
    }
    assert of_kind(document, "template") == {
        "source_rows": 4,
        "imported": 3,
        "merged": 0,
        "pending_cut_over": 0,
        "rejected": 1,
    }
    assert of_kind(document, "config") == {
        "source_rows": 7,
        "imported": 3,
        "merged": 0,
        "pending_cut_over": 0,
        "rejected": 4,
    }
    # 42 have a broken status, format, phone or time. Pending ones and those being sent wait, and so does an orphan.
    assert of_kind(document, "schedule") == {
        "source_rows": 852,
        "imported": 785,
        "merged": 0,
        "pending_cut_over": 25,
        "rejected": 42,
    }
    assert of_kind(document, "batch") == {
        "source_rows": 4,
        "imported": 1,
        "merged": 0,
        "pending_cut_over": 2,
        "rejected": 1,
    }
    assert of_kind(document, "batch_message") == {
        "source_rows": 150,
        "imported": 50,
        "merged": 0,
        "pending_cut_over": 100,
        "rejected": 0,
    }
    problems = read_csv(report)
    assert sum(problem["outcome"] == "rejected" for problem in problems) == document["problems"]["rejected"] == 65
    reasons = {(row["table"], row["id"]): row["reason"] for row in problems if row["outcome"] == "rejected"}
    assert reasons["contact", "7"] == "Its phone is no Australian mobile number."
    assert reasons["user", "4"] == reasons["user", "5"] == "It has no Clerk id."
    assert reasons["membership", "3"] == "Its user was not imported."
    assert reasons["membership", "4"] == "Its organisation was not imported."
    assert reasons["schedule", "35"] == "Its status is unknown."
    assert reasons["schedule", "44"] == "Its scheduled_time is not between the years 1990 and 2100."
    assert not re.search("04[0-9]{8}|x[.]test", report.read_text()), "the report has no values of rows"
    new_ids = {(row["kind"], row["old_id"]): int(row["new_id"]) for row in read_csv(ids)}
    [contact] = await sql("contacts", "SELECT id FROM contacts WHERE phone = '+61400000001'")
    assert new_ids["contact", "1"] == contact.id
    assert new_ids["contact", "6"] == new_ids["contact", "5"]


async def test_contacts_keep_their_values_and_no_opt_out_is_lost(cooee: Cooee, sql: Sql, v2: str) -> None:
    await sql(
        "contacts",
        "INSERT INTO opt_outs (organisation_id, phone, opted_out, changed_at, source, version)"
        " VALUES ('org_1', '+61400000015', true, '2026-11-05Z', 'reply', 1)",
    )
    await cooee("import-v2", "--source", v2)
    rows = await sql("contacts", "SELECT c.*, u.clerk_id FROM contacts c LEFT JOIN users u ON u.id = c.user_id")
    found = {(row.organisation_id, row.phone): row for row in rows}
    first = found["org_1", "+61400000001"]
    assert (first.first_name, first.last_name, first.email, first.clerk_id) == (
        "First 1",
        "Last",
        "a1@x.test",
        "user_1",
    )
    assert (first.created_at, first.is_active, first.opt_out) == (datetime(2026, 1, 6, tzinfo=UTC), True, False)
    assert found["org_1", "+61400000002"].user_id is None, "its user is no member"
    assert (found["org_1", "+61400000003"].first_name, found["org_1", "+61400000010"].email) == ("", "")
    assert not found["org_1", "+61400000040"].is_active
    merged, manual, replied = (found["org_1", f"+614000000{number}"] for number in ("05", "08", "15"))
    assert (merged.first_name, merged.opt_out, merged.opt_out_source) == ("First 5", True, "manual")
    assert (manual.opt_out, replied.opt_out, replied.opt_out_source) == (True, True, "reply")
    assert found["org_2", "+61400000004"].organisation_id == "org_2"
    events = await sql("contacts", "SELECT convert_from(body, 'UTF8') AS body FROM outbox")
    opted_out = {match for row in events for match in re.findall(r'"phone":"([+0-9]+)"', row.body)}
    assert {"+61400000005", "+61400000008", "+61400000015"} <= opted_out


async def test_a_second_run_changes_nothing(cooee: Cooee, v2: str, state: ReadState) -> None:
    await cooee("import-v2", "--source", v2, "--cut-over")
    before = await state()
    again = await cooee("import-v2", "--source", v2, "--cut-over", "--allow-rejected", "--json")
    assert (again.code, again.document["added"], again.document["updated"]) == (0, 0, 0)
    assert await state() == before


async def test_messages_become_history_and_pending_ones_wait_for_the_cut_over(cooee: Cooee, sql: Sql, v2: str) -> None:
    await cooee("import-v2", "--source", v2)
    counts = "SELECT status, count(*) AS number FROM schedules WHERE kind = 'single' GROUP BY 1"
    found = {row.status: row.number for row in await sql("scheduling", counts)}
    assert found == {"sent": 761, "failed": 8, "cancelled": 16}, "nothing that v2 may send"
    await change(v2, "UPDATE app_schedule SET sent_time = now() WHERE id = 33")
    done = await cooee("import-v2", "--source", v2, "--cut-over", "--json")
    assert (done.document["agrees"], done.document["pending_cut_over"]) == (True, 0)
    rows = await sql("scheduling", "SELECT m.old_id, s.* FROM moved_rows m JOIN schedules s ON s.id = m.new_id"
                     " WHERE m.kind <> 'template'")  # fmt: skip
    by_id = {row.old_id: row for row in rows}
    assert (by_id[32].status, by_id[32].message_parts) == ("pending", None)
    assert (by_id[33].status, by_id[33].failure_category, by_id[33].sent_time) == ("failed", "expired", None)
    assert (by_id[31].status, by_id[31].failure_category) == ("failed", "outcome_unknown")
    assert (by_id[26].status, by_id[26].error) == ("failed", "It broke")
    assert (by_id[37].status, by_id[41].format, by_id[42].format, by_id[41].message_parts) == ("sent", "mms", "mms", 1)
    assert (by_id[22].contact_id, by_id[23].phone, by_id[25].message_parts) == (None, "+61400000023", 1)
    assert (by_id[1].template_version, by_id[1].fields["first_name"]) == (1, "First 1")
    assert by_id[2000000].kind == "single", "an orphan"
    assert 2000001 not in by_id, "a pending orphan"


SENT = """
    SELECT v.organisation_id, v.scheduled_time, v.format, v.status, v.failure_category, s.message_parts
    FROM shown_schedules v JOIN schedules s USING (id, organisation_id) WHERE s.message_parts IS NOT NULL
"""


async def test_what_v2_sent_counts_against_the_limits_of_its_month(
    cooee: Cooee, sql: Sql, v2: str, databases: dict[str, Database]
) -> None:
    now = datetime.now(UTC)
    await change(
        v2,
        f"UPDATE app_schedule SET scheduled_time = scheduled_time + (date_trunc('month', timestamptz '{now}')"
        " - timestamptz '2026-11-01Z') WHERE scheduled_time > '2026-10-01' AND scheduled_time < '2027-01-01'",
    )
    for _ in range(2):
        await cooee("import-v2", "--source", v2, "--cut-over")
    expected: dict[tuple[str, date, str], int] = defaultdict(int)
    for row in await sql("scheduling", SENT):
        zone = ZoneInfo("Australia/Perth" if row.organisation_id == "org_2" else "Australia/Adelaide")
        period = row.scheduled_time.astimezone(zone).date().replace(day=1)
        if row.status == "sent" or row.failure_category == "outcome_unknown":
            expected[row.organisation_id, period, row.format] += row.message_parts
    used = await sql("delivery", "SELECT * FROM limit_usage WHERE usage > 0")
    assert {(row.organisation_id, row.period, row.format): row.usage for row in used} == expected
    assert len(expected) >= 4, "two organisations, two formats, and the last hour of the month before"
    async with databases["delivery"].all_tenants() as session:
        assert await find_drift(session, now.date()) == []


async def test_batches_have_their_messages_and_are_sent_by_their_messages_alone(
    cooee: Cooee, sql: Sql, v2: str
) -> None:
    await cooee("import-v2", "--source", v2, "--cut-over")
    rows = await sql(
        "scheduling",
        """
        SELECT b.name, b.status, b.message_count, b.fanned_out_at, count(m.id) AS messages,
               count(m.id) FILTER (WHERE m.status = 'pending') AS pending, max(m.batch_position) AS last,
               count(m.text) AS own_texts
        FROM schedules b LEFT JOIN schedules m ON m.batch_id = b.id WHERE b.kind = 'batch'
        GROUP BY b.id, b.organisation_id
        """,
    )
    found = {row.name: row for row in rows}
    assert set(found) == {"Batch 1", "Batch 2", "Batch 1000004"}
    assert all((row.message_count, row.messages, row.last, row.own_texts) == (50, 50, 50, 1) for row in rows)
    assert all(row.fanned_out_at for row in rows), "no worker adds the members of today"
    assert [(found[f"Batch {n}"].status, found[f"Batch {n}"].pending) for n in (1, 2, 1000004)] == [
        *(("sent", 0), ("pending", 50), ("pending", 0))
    ]
    expired = await sql(
        "scheduling", "SELECT 1 FROM schedules WHERE kind = 'batch_message' AND failure_category = 'expired'"
    )
    assert len(expired) == 25, "their time had passed"
    singles = await sql("scheduling", "SELECT 1 FROM schedules WHERE kind = 'single' AND text LIKE 'Sale%'")
    assert len(singles) == 50, "those of the batch without a group"


async def test_overdue_messages_stay_pending_only_when_asked_for(cooee: Cooee, sql: Sql, v2: str) -> None:
    await cooee("import-v2", "--source", v2, "--cut-over", "--send-overdue")
    rows = await sql("scheduling", "SELECT 1 FROM schedules WHERE status = 'pending' AND scheduled_time < now()")
    assert len(rows) == 8 + 1, "8 single messages and a batch"


async def test_a_changed_row_is_updated_and_a_removed_member_is_removed(
    cooee: Cooee, sql: Sql, v2: str, tmp_path: Path
) -> None:
    await cooee("import-v2", "--source", v2)
    await change(
        v2,
        "UPDATE app_contact SET first_name = 'New', phone = '0491570006', opt_out = true WHERE id = 1",
        "UPDATE app_contact SET opt_out = false WHERE id = 8",  # a person opted in
        "UPDATE app_contact SET opt_out = false WHERE id = 6",  # merged: its opt-out stays
        "UPDATE app_contact SET phone = '0400000001' WHERE id = 2",
        "UPDATE app_contact SET phone = '0400000010' WHERE id = 11",  # another contact has it
        "UPDATE app_contactgroup SET name = 'Renamed' WHERE id = 1",
        "DELETE FROM app_contactgroupmember WHERE contact_id = 2",
        "UPDATE app_template SET text = 'Hi' WHERE id = 1",
        "UPDATE app_config SET value = '5' WHERE id = 1",
        "UPDATE app_schedule SET status = 'failed', error = 'Late' WHERE id = 2",
        "INSERT INTO app_contact (organisation_id, phone, is_active) VALUES (1, '0491570156', true)",
    )
    report = tmp_path / "report.csv"
    done = await cooee("import-v2", "--source", v2, "--json", "--report", str(report))
    # The new contact has the id that a message refers to, so that message is updated, too.
    assert (done.document["added"], done.document["updated"]) == (1, 8)
    found = {row.phone: row for row in await sql("contacts", "SELECT * FROM contacts WHERE organisation_id = 'org_1'")}
    assert (found["+61491570006"].first_name, found["+61491570006"].opt_out) == ("New", True)
    assert (found["+61400000008"].opt_out, found["+61400000005"].opt_out) == (False, True)
    assert "+61491570156" in found
    rejected = [row for row in read_csv(report) if row["outcome"] == "rejected" and row["id"] in ("2", "11")]
    assert [row["reason"] for row in rejected if row["table"] == "contact"] == [
        "Its new phone belongs to another contact, or the contact was erased here."
    ] * 2
    contact = "SELECT new_id FROM moved_rows WHERE kind = 'contact' AND old_id = 2"
    assert not await sql("contacts", f"SELECT 1 FROM group_members WHERE contact_id = ({contact})")
    [template] = await sql("scheduling", "SELECT text, version FROM templates WHERE name = 'Hello'")
    assert tuple(template) == ("Hi", 2)
    [config] = await sql("delivery", "SELECT value FROM configs WHERE name = 'sms_limit'")
    assert config.value == "5"
    [schedule] = await sql("scheduling", "SELECT status, error FROM schedules WHERE text = 'Text 2'")
    assert tuple(schedule) == ("failed", "Late")
    await cooee("import-v2", "--source", v2)
    [second] = await sql("contacts", "SELECT first_name FROM contacts WHERE phone = '+61400000001'")
    assert second.first_name == "First 2", "the first one gave the phone up"


async def test_messages_whose_group_is_gone_are_not_imported_again(cooee: Cooee, sql: Sql, v2: str) -> None:
    await cooee("import-v2", "--source", v2)
    rows = "SELECT count(*) AS number FROM schedules"
    [before] = await sql("scheduling", rows)
    usage = await sql("delivery", "SELECT * FROM limit_usage ORDER BY 1, 2, 3")
    await change(
        v2,
        "DELETE FROM app_contactgroupmember WHERE group_id = 1",
        "DELETE FROM app_contactgroup WHERE id = 1",
    )
    done = await cooee("import-v2", "--source", v2, "--json")
    assert done.document["added"] == 0
    assert await sql("scheduling", rows) == [before]
    assert await sql("delivery", "SELECT * FROM limit_usage ORDER BY 1, 2, 3") == usage


async def test_what_was_sent_or_erased_here_stays(cooee: Cooee, sql: Sql, v2: str) -> None:
    await cooee("import-v2", "--source", v2, "--cut-over")
    await sql("scheduling", "UPDATE schedules SET status = 'sent', dispatch_number = 1 WHERE text = 'Text 32'")
    await sql(
        "contacts",
        "UPDATE contacts SET phone = 'erased-' || id, is_active = false, first_name = '' WHERE phone = '+61400000001'",
    )
    await change(
        v2,
        "UPDATE app_schedule SET text = 'Another' WHERE id = 32",
        "UPDATE app_contact SET first_name = 'Back' WHERE id = 1",
    )
    done = await cooee("import-v2", "--source", v2, "--cut-over", "--json")
    assert (done.code, done.document["updated"], done.document["agrees"]) == (1, 0, False)
    [schedule] = await sql("scheduling", "SELECT text, status FROM schedules WHERE dispatch_number = 1")
    assert tuple(schedule) == ("Text 32", "sent")
    assert not await sql("contacts", "SELECT 1 FROM contacts WHERE first_name = 'Back'")


async def test_the_password_of_the_source_is_not_recorded(cooee: Cooee, sql: Sql, v2: str) -> None:
    await cooee("import-v2", "--source", v2, "--dry-run")
    [row] = await sql("contacts", "SELECT CAST(arguments AS text) AS text FROM operator_actions WHERE step = 'begin'")
    assert "v2_small" in row.text
    assert v2.split(":")[2].partition("@")[0] not in row.text


async def test_one_organisation_moves_alone(cooee: Cooee, sql: Sql, v2: str) -> None:
    done = await cooee("import-v2", "--source", v2, "--organisation", "org_2", "--cut-over", "--json")
    assert done.document["agrees"]
    assert {row[0] for row in await sql("contacts", "SELECT DISTINCT organisation_id FROM contacts")} == {"org_2"}
    assert {row[0] for row in await sql("scheduling", "SELECT DISTINCT organisation_id FROM schedules")} == {"org_2"}
    people = "SELECT u.clerk_id FROM users u LEFT JOIN memberships m ON m.user_id = u.id"
    assert [row[0] for row in await sql("contacts", people)] == ["user_2"], "no user of another organisation"
    unknown = await cooee("import-v2", "--source", v2, "--organisation", "org_9")
    assert (unknown.code, "org_9" in unknown.err) == (4, True)


async def test_a_closed_organisation_is_rejected_and_the_others_move(cooee: Cooee, sql: Sql, v2: str) -> None:
    await sql("contacts", "INSERT INTO organisations (organisation_id, name, deleted_at) VALUES ('org_2', '', now())")
    named = await cooee("import-v2", "--source", v2, "--organisation", "org_2")
    assert (named.code, "org_2 is closed" in named.err) == (5, True)
    done = await cooee("import-v2", "--source", v2, "--json")
    assert {"table": "organisation", "id": 2, "outcome": "rejected", "reason": "It is closed here."} in done.document[
        "first_problems"
    ]
    assert {row[0] for row in await sql("contacts", "SELECT DISTINCT organisation_id FROM contacts")} == {"org_1"}


async def test_a_contact_of_another_organisation_is_no_recipient(cooee: Cooee, sql: Sql, v2: str) -> None:
    await change(v2, "UPDATE app_schedule SET contact_id = 4 WHERE id = 1")  # that of org_2, in a message of org_1
    await cooee("import-v2", "--source", v2)
    [row] = await sql("scheduling", "SELECT contact_id, phone FROM schedules WHERE text = 'Text 1'")
    assert tuple(row) == (None, "+61400000001")


async def test_a_dry_run_writes_nothing(cooee: Cooee, v2: str, state: ReadState) -> None:
    before = await state()
    done = await cooee("import-v2", "--source", v2, "--dry-run", "--json")
    assert (of_kind(done.document, "contact")["rejected"], done.document["pending_cut_over"]) == (6, 127)
    assert await state() == before


async def test_two_imports_of_one_database_do_not_run_at_once(cooee: Cooee, v2: str, state: ReadState) -> None:
    before = await state()
    async with open_source(v2, V2, "app_"):
        second = await cooee("import-v2", "--source", v2)
        assert (second.code, "another import from this database is running" in second.err) == (5, True)
        assert (await cooee("import-v2", "--source", v2, "--dry-run")).code != 5
    assert await state() == before


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("--table-prefix", "old_"), 2, "old_organisation.id"),
        (("--page-rows", "0"), 2, "--page-rows"),
        (("--send-overdue",), 2, "--send-overdue: give it with --cut-over"),
        (("--report", "/nonsuch/report.csv"), 2, "--report: '/nonsuch/report.csv' cannot be written"),
    ],
)
async def test_wrong_arguments_are_named(
    cooee: Cooee, v2: str, arguments: tuple[str, ...], code: int, reason: str
) -> None:
    done = await cooee("import-v2", "--source", v2, *arguments)
    assert (done.code, reason in done.err) == (code, True), done.err


async def test_a_source_that_is_away_is_unreachable_and_its_password_stays_secret(cooee: Cooee) -> None:
    away = await cooee("import-v2", "--source", "postgresql://v2:secret-word@127.0.0.1:1/v2")
    wrong = await cooee("import-v2", "--source", "mysql://v2:secret-word@127.0.0.1:1/v2")
    assert (away.code, wrong.code) == (3, 2)
    assert "secret-word" not in away.err + wrong.err


async def test_a_killed_import_continues_where_it_was(
    cooee: Cooee, sql: Sql, urls: dict[str, str], v2: str, open_database: Callable[[str, str], Awaitable[Database]]
) -> None:
    await cooee("import-v2", "--source", v2)
    whole = await compared(sql)
    for service, url in urls.items():
        await (await open_database(url, service)).close()  # empties its tables
    await kill_in_the_middle(urls, "import-v2", "--source", v2, phone="+61400000350", page_rows=100)
    assert len(await sql("contacts", "SELECT 1 FROM moved_rows WHERE kind = 'contact'")) == 297, "three pages"
    done = await cooee("import-v2", "--source", v2, "--json")
    assert done.document["agrees"]
    assert await compared(sql) == whole


@pytest.mark.slow
async def test_fifty_thousand_rows_move_in_twice_with_a_kill(
    cooee: Cooee, sql: Sql, urls: dict[str, str], postgres_url: str, state: ReadState
) -> None:
    url = await build(postgres_url, "v2_large", contacts=16_000, singles=16_000, messages=3_000)
    await kill_in_the_middle(urls, "import-v2", "--source", url, phone="+61400009000", page_rows=2000)
    first = await cooee("import-v2", "--source", url, "--cut-over", "--json")
    assert first.document["agrees"]
    before = await state()
    second = await cooee("import-v2", "--source", url, "--cut-over", "--json")
    assert (second.document["agrees"], second.document["added"], second.document["updated"]) == (True, 0, 0)
    assert await state() == before


def test_the_page_has_the_columns_and_statuses_of_the_code(repository_root: Path) -> None:
    page = (repository_root / "docs" / "moving-in.md").read_text()
    for table in V2.tables:
        for column in table.columns:
            names = " or ".join(f"`{name}`" for name in column.names)
            target = column.target if column.target == "–" else f"`{column.target}`"
            assert f"| `{table.name}` | {names} | {target} | {column.rule} |" in page
    for old, new in V2.statuses.items():
        assert re.search(rf"^\| `{old}` \| [^|]*`{new}`", page, re.MULTILINE) or old == "processing", old
