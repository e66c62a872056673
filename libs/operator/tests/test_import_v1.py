"""`cooee import-v1` imports a database of v1 into one organisation, and no other one sees or loses a row."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cooee.errors import WrongUsage
from cooee.moving_in.users import read_users
from cooee.moving_in.v1 import V1

from .conftest import Cooee, Sql
from .moving_in import ReadState, change, kill_in_the_middle, of_kind, read_csv, state_reader
from .v1_database import build_v1

USERS = "v1_id,clerk_id\n1,user_1\n2,user_2\n"


@pytest.fixture
async def v1(postgres_url: str) -> str:
    """Return the URL of a database of v1 with about 600 rows."""
    return await build_v1(postgres_url, "v1_small", customers=200, singles=200, messages=20)


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """Return a file that names two of the three users of v1."""
    path = tmp_path / "users.csv"
    path.write_text(USERS)
    return path


@pytest.fixture
async def organisations(sql: Sql) -> None:
    """Add org_1 with the member user_1 and the former member user_2, org_2 with user_3, and the closed org_3."""
    for statement in (
        "INSERT INTO organisations (organisation_id, name) VALUES ('org_1', 'One'), ('org_2', 'Two')",
        "INSERT INTO organisations (organisation_id, name, deleted_at) VALUES ('org_3', 'Closed', now())",
        "INSERT INTO users (clerk_id) VALUES ('user_1'), ('user_2'), ('user_3')",
        "INSERT INTO memberships (organisation_id, user_id, role, deleted_at)"
        " SELECT CASE clerk_id WHEN 'user_3' THEN 'org_2' ELSE 'org_1' END, id, 'member',"
        " CASE clerk_id WHEN 'user_2' THEN now() END FROM users",
    ):
        await sql("contacts", statement)


@pytest.fixture
def state(sql: Sql) -> ReadState:
    """`await state()` returns every row of the tables that an import writes."""
    return state_reader(sql)


def into(organisation: str, source: str, users: Path) -> tuple[str, ...]:
    return ("import-v1", "--source", source, "--organisation", organisation, "--users", str(users))


@pytest.mark.usefixtures("organisations")
async def test_rows_are_imported_and_every_other_one_is_reported(
    cooee: Cooee, sql: Sql, v1: str, users: Path, tmp_path: Path
) -> None:
    report, ids = tmp_path / "report.csv", tmp_path / "ids.csv"
    done = await cooee(*into("org_1", v1, users), "--report", str(report), "--map-out", str(ids), "--json")
    document = done.document
    assert (done.code, document["agrees"], document["organisation_id"]) == (1, True, "org_1"), "rows were rejected"
    found = {
        kind: tuple(of_kind(document, kind).values())
        for kind in ("contact", "group", "member", "template", "config", "schedule", "batch", "batch_message")
    }
    assert found == {  # rows, imported, merged, pending_cut_over, rejected
        "contact": (200, 196, 2, 0, 2),
        "group": (3, 3, 0, 0, 0),
        "member": (103, 100, 0, 0, 3),
        "template": (3, 2, 0, 0, 1),
        "config": (3, 2, 0, 0, 1),
        "schedule": (220, 201, 0, 5, 14),
        "batch": (5, 2, 0, 1, 2),
        "batch_message": (54, 18, 0, 36, 0),
    }
    problems = read_csv(report)
    reasons = {(row["table"], row["id"], row["outcome"]): row["reason"] for row in problems}
    assert reasons["schedule", "31", "rejected"] == "Its status is unknown.", "v1 has no PROCESSING"
    assert reasons["schedule", "44", "rejected"] == "Its scheduled_time is not between the years 1990 and 2100."
    assert reasons["batch", "5", "rejected"] == "Its status is unknown."
    assert document["problems"]["unknown"] == 2
    assert reasons["user", "3", "unknown"] == "There is no user here for it: 2 references to it became null."
    assert reasons["user", "99", "unknown"] == "There is no user here for it: 3 references to it became null."
    assert not re.search("04[0-9]{8}|x[.]test", report.read_text()), "the report has no values of rows"
    new_ids = {(row["kind"], row["old_id"]): int(row["new_id"]) for row in read_csv(ids)}
    people = {row.id: row for row in await sql("contacts", "SELECT * FROM contacts")}
    [first, second, nameless, merged] = [people[new_ids["contact", old_id]] for old_id in ("1", "2", "3", "6")]
    clerk_ids = {row.id: row.clerk_id for row in await sql("contacts", "SELECT id, clerk_id FROM users")}
    assert (first.organisation_id, first.phone, first.first_name) == ("org_1", "+61400000001", "First 1")
    assert first.created_at == datetime(2026, 1, 6, 12, 30, 15, 123000, tzinfo=UTC)
    assert [clerk_ids[user] for user in (first.user_id, first.created_by, first.updated_by)] == [
        "user_1",
        "user_1",
        "user_2",
    ]
    assert (second.user_id, nameless.first_name) == (None, ""), "user_2 is no member any more"
    assert people[new_ids["contact", "11"]].created_by is None
    assert (merged.id, merged.phone, merged.opt_out) == (new_ids["contact", "5"], "+61400000005", True)
    [template] = await sql("scheduling", "SELECT text, version FROM templates WHERE name = 'Hello'")
    assert tuple(template) == ("Hello {{first_name}}", 1)
    statuses = await sql("scheduling", "SELECT DISTINCT status FROM schedules")
    assert {row.status for row in statuses} == {"sent", "failed", "cancelled"}, "nothing that v1 may send"


@pytest.mark.usefixtures("organisations")
async def test_a_killed_import_continues_and_a_second_run_changes_nothing(
    cooee: Cooee, sql: Sql, urls: dict[str, str], v1: str, users: Path, state: ReadState
) -> None:
    arguments = (*into("org_1", v1, users), "--cut-over")
    await kill_in_the_middle(urls, *arguments, phone="+61400000130", page_rows=50)
    assert len(await sql("contacts", "SELECT 1 FROM moved_rows WHERE kind = 'contact'")) == 99, "two pages"
    done = await cooee(*arguments, "--json")
    assert (done.document["agrees"], done.document["pending_cut_over"]) == (True, 0)
    before = await state()
    again = await cooee(*arguments, "--allow-rejected", "--json")
    assert (again.code, again.document["added"], again.document["updated"]) == (0, 0, 0)
    assert await state() == before
    rows = await sql(
        "scheduling",
        "SELECT m.kind AS moved, m.old_id, v.*, s.message_parts AS parts FROM moved_rows m"
        " JOIN schedules s ON s.id = m.new_id JOIN shown_schedules v ON v.id = s.id WHERE m.kind <> 'template'",
    )
    found = {(row.moved, row.old_id): row for row in rows}
    assert len(found) == 182 + 2 * 2 + 18 + 1 + 3 + 54, "singles, two of them pending, of no batch, an orphan, batches"
    outcomes = {old_id: (row.status, row.failure_category) for (kind, old_id), row in found.items() if kind != "batch"}
    assert (outcomes[26], outcomes[27]) == (("failed", "unknown"), ("cancelled", None))
    assert (outcomes[32], outcomes[33], outcomes[37]) == (("pending", None), ("failed", "expired"), ("sent", None))
    assert outcomes[1400001] == ("cancelled", None), "its batch was deleted"
    assert [found["schedule", old_id].parts for old_id in (25, 30, 130, 41)] == [1, 2, 2, 1], "as v1 counted"
    assert found["batch_message", 1100001].phone == "+61400000001", "that of its contact"
    assert found["batch_message", 1100003].text == "For you"
    assert [found["schedule", old_id].scheduled_time for old_id in (51, 52, 53, 54)] == [
        datetime(2026, 10, 3, 16, 29, 59, 999000, tzinfo=UTC),
        datetime(2026, 10, 3, 16, 30, tzinfo=UTC),
        datetime(2026, 4, 4, 15, 45, tzinfo=UTC),
        datetime(2026, 4, 4, 16, 45, tzinfo=UTC),
    ], "local times that are missing or there twice"
    batches = await sql(
        "scheduling",
        "SELECT b.name, b.status, b.message_count, b.fanned_out_at IS NOT NULL, count(m.id) FROM schedules b"
        " JOIN schedules m ON m.batch_id = b.id WHERE b.kind = 'batch' GROUP BY b.id, b.organisation_id",
    )
    assert sorted(map(tuple, batches)) == [
        ("Batch 2", "pending", 18, True, 18),
        ("Deleted", "cancelled", 18, True, 18),
        ("Sale", "sent", 18, True, 18),
    ]


@pytest.mark.usefixtures("organisations")
async def test_no_other_organisation_sees_or_loses_a_row(cooee: Cooee, sql: Sql, v1: str, tmp_path: Path) -> None:
    users = tmp_path / "nobody.csv"
    users.write_text("v1_id,clerk_id\n")

    async def of_org_2() -> list[str]:
        found = []
        for service, tables in {
            "contacts": ("contacts", "groups", "group_members", "moved_rows"),
            "scheduling": ("templates", "schedules", "moved_rows"),
            "delivery": ("configs", "limit_usage", "moved_rows"),
        }.items():
            for table in tables:
                selected = f"SELECT CAST(t AS text) FROM {table} t WHERE organisation_id = 'org_2' ORDER BY 1"
                found += [row[0] for row in await sql(service, selected)]
        return found

    await cooee(*into("org_2", v1, users), "--cut-over")
    before = await of_org_2()
    await change(
        v1,
        """UPDATE "Customer" SET "firstName" = 'Changed', "optOut" = true WHERE id = 1""",
        """UPDATE "Schedule" SET text = 'Changed' WHERE id = 1""",
        """UPDATE "Template" SET text = 'Changed' WHERE id = 1""",
        """UPDATE "Config" SET value = '1' WHERE id = 1""",
        """DELETE FROM "CustomerGroupMember" WHERE "customerId" < 50""",
    )
    for added in (True, False):
        done = await cooee(*into("org_1", v1, users), "--cut-over", "--json")
        assert (done.document["agrees"], done.document["added"] > 0, done.document["updated"]) == (True, added, 0)
    assert before == await of_org_2()
    owners = await sql("contacts", "SELECT organisation_id, count(*) FROM contacts GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in owners] == [("org_1", 196), ("org_2", 196)]
    mixed = "SELECT 1 FROM schedules s JOIN schedules b ON b.id = s.batch_id AND b.organisation_id <> s.organisation_id"
    assert not await sql("scheduling", mixed)
    again = await cooee(*into("org_2", v1, users), "--cut-over", "--json")
    assert (again.document["agrees"], again.document["updated"]) == (True, 4), "the four changed rows"


@pytest.mark.usefixtures("organisations")
async def test_a_dry_run_reads_a_schema_of_prisma_and_writes_nothing(
    cooee: Cooee, v1: str, tmp_path: Path, state: ReadState
) -> None:
    before, users = await state(), tmp_path / "emails.csv"
    users.write_text("clerk_id;email\n".replace(";", ",") + "user_1, ANA@x.test \n\nuser_2,ben@x.test\n", "utf-8-sig")
    done = await cooee(*into("org_1", f"{v1}?schema=public&connection_limit=5", users), "--dry-run", "--json")
    assert (of_kind(done.document, "contact")["rejected"], done.document["problems"]["unknown"]) == (2, 2), done.err
    await change(
        v1,
        """DELETE FROM "CustomerGroupMember" WHERE id = 103""",  # the second of two equal ones
        """ALTER TABLE "CustomerGroupMember" DROP COLUMN id, ADD PRIMARY KEY ("groupId", "customerId")""",
    )
    keyed = await cooee(*into("org_1", v1, users), "--dry-run", "--json", "--page-rows", "30")
    assert tuple(of_kind(keyed.document, "member").values()) == (102, 100, 0, 0, 2)
    elsewhere = await cooee(*into("org_1", f"{v1}?schema=other", users), "--dry-run")
    assert (elsewhere.code, "no database of v1. Missing: User.id" in elsewhere.err) == (2, True), elsewhere.err
    assert await state() == before


@pytest.mark.usefixtures("organisations")
async def test_organisations_and_users_that_are_not_here_are_named(
    cooee: Cooee, v1: str, users: Path, state: ReadState
) -> None:
    before = await state()
    unknown = await cooee(*into("org_9", v1, users))
    assert (unknown.code, "there is no organisation org_9" in unknown.err) == (4, True)
    closed = await cooee(*into("org_3", v1, users))
    assert (closed.code, "org_3 is closed" in closed.err) == (5, True)
    users.write_text("azure_id,clerk_id\nAZ-1,user_9\nAZ-2,user_3\nAZ-7,user_1\n")
    wrong = await cooee(*into("org_1", v1, users))
    assert wrong.code == 2
    for reason in (
        "line 2: no user with this clerk_id is or was a member of the organisation",
        "line 3: no user with this clerk_id is or was a member of the organisation",
        "line 4: v1 has no user with this azure_id",
    ):
        assert reason in wrong.err
    await change(v1, """UPDATE "User" SET "azureId" = 'az-1'""")
    users.write_text("azure_id,clerk_id\nAZ-1,user_1\n")
    twice = await cooee(*into("org_1", v1, users))
    assert (twice.code, "line 2: v1 has 3 users with this azure_id" in twice.err) == (2, True)
    assert await state() == before


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "line 1 of .* must name the columns: clerk_id, and one of v1_id, azure_id, email"),
        (b"v1_id\n1\n", "must name the columns"),
        (b"v1_id;clerk_id\n1;user_1\n", "must name the columns"),
        (b"v1_id,email,clerk_id\n", "must name the columns"),
        (b"v1_id,clerk_id,clerk_id\n", "once each"),
        (b"v1_id,clerk_id\n1,user_1\n2,user_1\n1,user_2\n", "line 4: its v1_id is in line 2, too$"),
        (b"email,clerk_id\na@x.test,user_1\nA@x.test ,user_2\n", "line 3: its email is in line 2, too"),
        (b"v1_id,clerk_id\n1,\n,user_1\n", "line 2: clerk_id is empty; line 3: v1_id is empty"),
        (b"v1_id,clerk_id\n1,user_1,x\n2\n", "line 2: it has 3 cells, and the heading 2; line 3: it has 1 cells"),
        (b"v1_id,clerk_id\n" + b",x\n" * 30, "line 21: v1_id is empty; and 10 more"),
        (b"v1_id,clerk_id\n" + b"\n".join(b"%d,u" % number for number in range(10_001)), "more than 10,000 lines"),
        (b"v1_id,clerk_id\n" + b"x" * 1_000_000, "more than 1,000,000 bytes"),
        (b"v1_id,clerk_id\n1,\xff\n", "no CSV file in UTF-8"),
        (b'v1_id,clerk_id\n1,"user_1\n', "no CSV file in UTF-8"),
    ],
)
def test_a_wrong_file_of_users_is_refused_with_its_lines(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "users.csv"
    path.write_bytes(content)
    with pytest.raises(WrongUsage, match=reason):
        read_users(path)


def test_a_file_of_users_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="nonsuch.csv cannot be read: No such file"):
        read_users(tmp_path / "nonsuch.csv")


@pytest.mark.slow
@pytest.mark.usefixtures("organisations")
async def test_fifty_thousand_rows_move_in_twice_with_a_kill(
    cooee: Cooee, urls: dict[str, str], postgres_url: str, users: Path, state: ReadState
) -> None:
    url = await build_v1(postgres_url, "v1_large", customers=16_000, singles=16_000, messages=3_000)
    arguments = (*into("org_1", url, users), "--cut-over")
    await kill_in_the_middle(urls, *arguments, phone="+61400009000", page_rows=2000)
    first = await cooee(*arguments, "--json")
    assert first.document["agrees"]
    before = await state()
    second = await cooee(*arguments, "--json")
    assert (second.document["agrees"], second.document["added"], second.document["updated"]) == (True, 0, 0)
    assert await state() == before


def test_the_page_has_the_columns_and_statuses_of_the_code(repository_root: Path) -> None:
    page = (repository_root / "docs" / "moving-in.md").read_text()
    for table in V1.tables:
        for column in table.columns:
            names = " or ".join(f"`{name}`" for name in column.names) or "–"
            target = column.target if column.target == "–" else f"`{column.target}`"
            assert f"| `{table.name}` | {names} | {target} | {column.rule} |" in page
    for old, new in V1.statuses.items():
        assert re.search(rf"^\| `{old.upper()}` \| [^|]*`{new}`", page, re.MULTILINE), old
