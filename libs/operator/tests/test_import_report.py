"""An import names the faults of its source: columns of a wrong type, times far away, and the rows by reason."""

import re
from collections import Counter
from pathlib import Path

import pytest

from .conftest import Cooee, Sql
from .moving_in import change, compared, read_csv
from .v2_database import build


@pytest.fixture
async def v2(postgres_url: str) -> str:
    """Return the URL of a database of v2 with about 1,000 rows."""
    return await build(postgres_url, "v2_report", contacts=200, singles=200, messages=20)


@pytest.mark.parametrize(
    ("column", "kind", "problem"),
    [
        ("app_schedule.scheduled_time", "text", "text, expected a timestamp"),
        ("app_contact.is_active", "integer USING is_active::int", "integer, expected a boolean"),
        ("app_contact.phone", "bytea USING phone::bytea", "bytea, expected a text"),
        ("app_contactgroupmember.group_id", "text", "text, expected an integer"),
    ],
)
async def test_a_column_of_a_wrong_type_is_named_with_a_row(
    cooee: Cooee, sql: Sql, v2: str, column: str, kind: str, problem: str
) -> None:
    table, _, name = column.partition(".")
    await change(v2, f"ALTER TABLE {table} ALTER {name} TYPE {kind}")
    for arguments in ((), ("--dry-run",)):
        done = await cooee("import-v2", "--source", v2, *arguments)
        assert done.code == 2
        sentence = f"--source: {column} has the type {problem} (row 1). Change the type of the column, then start again"
        assert f"{sentence}\n" in done.err
    assert not await sql("contacts", "SELECT FROM contacts UNION ALL SELECT FROM organisations")


@pytest.mark.parametrize(
    ("column", "kind"),
    [("app_contact.company", "int"), ("app_schedule.message_parts", "text"), ("app_schedule.template_id", "text")],
)
async def test_a_column_of_another_type_without_values_is_no_problem(
    cooee: Cooee, v2: str, column: str, kind: str
) -> None:
    table, _, name = column.partition(".")
    await change(v2, f"ALTER TABLE {table} ALTER {name} TYPE {kind} USING NULL")
    done = await cooee("import-v2", "--source", v2, "--json")
    assert done.document["agrees"], done.err


async def test_a_joined_column_of_another_type_is_named_even_without_values(cooee: Cooee, v2: str) -> None:
    await change(v2, "ALTER TABLE app_schedule ALTER parent_id TYPE text USING NULL")
    done = await cooee("import-v2", "--source", v2)
    assert (done.code, "app_schedule.parent_id has the type text, expected an integer. Change" in done.err) == (2, True)


async def test_the_columns_that_an_error_does_not_name_are_counted(cooee: Cooee, v2: str) -> None:
    names = ("first_name", "last_name", "phone", "email", "company", "created_at", "updated_at")
    changes = ", ".join(f"ALTER {name} TYPE bytea USING ''::bytea" for name in names)
    await change(v2, f"ALTER TABLE app_contact {changes}")
    done = await cooee("import-v2", "--source", v2)
    named = "app_contact.company has the type bytea, expected a text (row 1); and 2 more"
    assert f"{named}. Change the type of each column, then start again\n" in done.err
    await change(v2, "ALTER TABLE app_contact " + ", ".join(f"DROP {name}" for name in names[:3]))
    await change(v2, "ALTER TABLE app_template " + ", ".join(f"DROP {name}" for name in ("name", "text", "is_active")))
    missing = (await cooee("import-v2", "--source", v2)).err
    assert missing.endswith("app_template.text or content or body, and 1 more\n"), missing


async def test_an_enumeration_is_read_as_text(cooee: Cooee, v2: str) -> None:
    await change(
        v2,
        "CREATE TYPE kind AS ENUM ('sms', 'mms', 'fax')",
        "ALTER TABLE app_schedule ALTER format TYPE kind USING format::kind",
    )
    done = await cooee("import-v2", "--source", v2, "--json")
    assert done.document["agrees"], done.err


@pytest.mark.parametrize("moment", ["20260-01-01", "0044-03-15 BC", "infinity", "-infinity"])
async def test_a_time_that_python_does_not_have_rejects_its_row(
    cooee: Cooee, v2: str, moment: str, tmp_path: Path
) -> None:
    await change(v2, f"UPDATE app_schedule SET scheduled_time = '{moment}' WHERE id = 1")
    report = tmp_path / "report.csv"
    done = await cooee("import-v2", "--source", v2, "--report", str(report), "--json")
    assert done.document["agrees"], done.err
    reasons = {row["id"]: row["reason"] for row in read_csv(report) if row["table"] == "schedule"}
    assert reasons["1"] == "Its scheduled_time is not between the years 1990 and 2100."


async def test_a_dry_run_rejects_the_configs_that_the_import_rejects(cooee: Cooee, v2: str, tmp_path: Path) -> None:
    rehearsal, real = tmp_path / "rehearsal.csv", tmp_path / "real.csv"
    await change(v2, "INSERT INTO app_config (organisation_id, name, value) VALUES (1, 'sms_limit', '5')")
    await cooee("import-v2", "--source", v2, "--dry-run", "--report", str(rehearsal))
    await cooee("import-v2", "--source", v2, "--report", str(real))
    rejected, same = ([row for row in read_csv(path) if row["table"] == "config"] for path in (rehearsal, real))
    assert (len(rejected), rejected) == (5, same)


async def test_the_end_counts_the_rows_by_reason(cooee: Cooee, v2: str, tmp_path: Path) -> None:
    report = tmp_path / "report.csv"
    document = (await cooee("import-v2", "--source", v2, "--dry-run", "--report", str(report), "--json")).document
    rows = read_csv(report)
    reasons = {(one["table"], one["outcome"], one["reason"]): one for one in document["reasons"]}
    unknown = reasons.pop(("user", "unknown", "There is no user here for it."))
    assert (unknown["rows"], unknown["first_id"]) == (1, "4")
    lines = [(row["table"], row["outcome"], row["reason"]) for row in rows if row["outcome"] != "unknown"]
    assert {key: one["rows"] for key, one in reasons.items()} == Counter(lines)
    first = next(row["id"] for row in rows if row["reason"] == "Its status is unknown.")
    assert reasons["schedule", "rejected", "Its status is unknown."]["first_id"] == first == "35"
    assert document["rows_per_second"] > 0
    shown = await cooee("import-v2", "--source", v2, "--dry-run")
    source_rows = sum(line["source_rows"] for line in document["tables"])
    assert re.search(rf"^{source_rows:,} rows of the source in [0-9.]+ s: [0-9,]+ rows/s$", shown.out, re.MULTILINE)
    assert re.search(r"^schedule +rejected +4 +35 +Its status is unknown\.$", shown.out, re.MULTILINE), shown.out
    assert "--report FILE has a line for each of these rows" in shown.out


async def test_the_progress_names_the_tables_of_the_report(cooee: Cooee, v2: str) -> None:
    done = await cooee("import-v2", "--source", v2, "--json")
    lines = re.findall(r"^(.+): [0-9,]+ of", done.err, re.MULTILINE)
    shown = {name for names in lines for name in names.split(" and ")}
    assert shown == {line["table"] for line in done.document["tables"]}


async def test_small_pages_import_the_same_and_remove_the_same_members(cooee: Cooee, sql: Sql, v2: str) -> None:
    pages = ("--page-rows", "37")
    await cooee("import-v2", "--source", v2, *pages)
    small = await compared(sql)
    again = await cooee("import-v2", "--source", v2, "--json")
    assert (again.document["added"], again.document["updated"], await compared(sql)) == (0, 0, small)
    member = (
        "SELECT 1 FROM group_members m JOIN contacts c ON c.id = m.contact_id"
        " WHERE c.organisation_id = 'org_1' AND c.phone = '+61400000001'"
    )
    # The contact is a member by two rows, one in the first page and one in the last.
    for old_ids, is_member in ((range(1, 2), True), (range(100, 200), False)):
        listed = ", ".join(map(str, old_ids))
        await change(v2, f"DELETE FROM app_contactgroupmember WHERE contact_id = 1 AND id IN ({listed})")
        done = await cooee("import-v2", "--source", v2, *pages, "--json")
        assert (bool(await sql("contacts", member)), done.document["agrees"]) == (is_member, True)
