"""Imports as jobs: queued with their file, run by a worker, applied exactly once, and readable for seven days."""

import asyncio
import io
from typing import Any

import pytest
from sqlalchemy import text

from common.database import Database
from common.errors import Invalid
from common.retention import apply_rules
from contacts.imports import jobs
from contacts.imports.loops import run_next_import
from contacts.imports.service import MAX_OPEN
from contacts.models import ClaimedImport
from contacts.retention import RULES

from ..conftest import Client, Stage

ROWS = [f"04{n:08d},Ana{n}" for n in range(100)]
FILE = "phone,first_name\n" + "\n".join(ROWS) + "\n"
IMPORTS = "/api/contacts/imports/"


async def queue(client: Client, content: str | bytes = FILE, **params: Any) -> Any:
    """Queue an import and return it as the answer shows it."""
    body = content.encode() if isinstance(content, str) else content
    headers = {**client.headers, "Prefer": "respond-async"}
    files = {"file": ("list.csv", body, "text/csv")}
    answer = await client.http.post("/api/contacts/import/", params=params, headers=headers, files=files)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"{IMPORTS}{answer.json()['id']}/"
    assert answer.headers["Preference-Applied"] == "respond-async"
    return answer.json()


async def claim(database: Database) -> ClaimedImport | None:
    async with database.all_tenants() as session:
        return await jobs.claim_import(session)


async def expire_leases(stage: Stage) -> None:
    await stage.run_sql("UPDATE imports SET lease_until = now() - interval '1 s' WHERE status = 'running'")


async def count_contacts(client: Client) -> int:
    return int((await client.get("/api/contacts/"))["pagination"]["total"])


async def test_queued_import_is_run_by_the_worker_and_its_file_is_deleted(stage: Stage) -> None:
    await stage.mine.add_contact("0400000000")
    queued = await queue(stage.mine, FILE + "x,y\n")
    assert queued == await stage.mine.get(f"{IMPORTS}{queued['id']}/")
    shown = {name: queued[name] for name in ("status", "rows_read", "rows_total", "report", "error")}
    assert shown == {"status": "queued", "rows_read": 0, "rows_total": None, "report": None, "error": None}
    assert await count_contacts(stage.mine) == 1
    assert await run_next_import(stage.database)
    assert not await run_next_import(stage.database)
    done = await stage.mine.get(f"{IMPORTS}{queued['id']}/")
    assert (done["status"], done["rows_read"], done["rows_total"], done["error"]) == ("done", 101, 101, None)
    report = done["report"]
    assert (report["total"], report["imported"], report["failed"]) == (101, 99, 2)
    assert [error["row"] for error in report["errors"]] == [2, 102]
    assert "updated" not in report
    assert await count_contacts(stage.mine) == 100
    assert await stage.run_sql("SELECT id FROM imports WHERE file IS NOT NULL") == []
    created = await stage.run_sql("SELECT DISTINCT created_by FROM contacts")
    assert [row.created_by for row in created] == [1]


async def test_report_of_a_job_is_the_report_of_a_small_import(stage: Stage) -> None:
    await stage.mine.add_contact("0400000007")
    group = await stage.mine.add_group("A")
    file = "phone;Full Name;Notes\r\n" + "".join(f"{row.replace(',', ';')};n\r\n" for row in [*ROWS, ROWS[3], "x,\0"])
    options = {"on_duplicate": "update", "group_id": group["id"]}
    small = (await stage.mine.upload(file, **options, dry_run="true")).json()
    trial = await queue(stage.mine, file, **options, dry_run="true")
    job = await queue(stage.mine, file, **options)
    assert await run_next_import(stage.database)
    assert await count_contacts(stage.mine) == 1
    assert await run_next_import(stage.database)
    for queued in (trial, job):
        assert (await stage.mine.get(f"{IMPORTS}{queued['id']}/"))["report"] == small
    assert (small["imported"], small["updated"], small["failed"], small["ignored_columns"]) == (99, 1, 2, ["Notes"])
    assert await count_contacts(stage.mine) == (await stage.mine.get_group(group["id"]))["member_count"] == 100


async def test_small_import_leaves_its_report_in_the_list(stage: Stage) -> None:
    first = await stage.mine.upload("phone\n" + "x\n" * 30)
    await stage.mine.upload("phone\n0412345678\n", dry_run="true", name="tried.csv")
    newest, oldest = (await stage.mine.get(IMPORTS))["results"]
    assert (newest["file_name"], newest["dry_run"], newest["report"]["imported"]) == ("tried.csv", True, 1)
    assert (oldest["status"], oldest["rows_read"], oldest["rows_total"]) == ("done", 30, 30)
    assert oldest["report"] == {**first.json(), "errors": first.json()["errors"][:10]}
    assert (await stage.mine.get(f"{IMPORTS}{oldest['id']}/"))["report"] == first.json()


async def test_import_that_is_refused_leaves_no_row(stage: Stage) -> None:
    for content, params in (("first_name\nAna\n", {}), ("phone\n0412345678\n", {"group_id": 5})):
        assert (await stage.mine.upload(content, **params)).status_code in (400, 404)
    assert (await stage.mine.get(IMPORTS))["results"] == []


@pytest.mark.parametrize(("size", "status"), [(2_000_000, 200), (2_000_001, 202)])
async def test_file_above_two_million_bytes_is_a_job(stage: Stage, size: int, status: int) -> None:
    answer = await stage.mine.upload("phone\n0412345678\n".ljust(size, "\n"))
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("prefer", "status"),
    [("RESPOND-ASYNC", 202), ("wait=5, respond-async; x=1", 202), ("wait=5", 200), ("respond-asynchronously", 200)],
)
async def test_preference_is_read_as_the_standard_says(stage: Stage, prefer: str, status: int) -> None:
    headers = {**stage.mine.headers, "Prefer": prefer}
    files = {"file": ("list.csv", FILE.encode())}
    answer = await stage.mine.http.post("/api/contacts/import/", headers=headers, files=files)
    assert (answer.status_code, "Preference-Applied" in answer.headers) == (status, status == 202)


@pytest.mark.parametrize(
    ("content", "params", "status", "field"),
    [
        ("first_name\nAna\n", {}, 400, "file"),
        ("phone,Phone\n", {}, 400, "file"),
        (FILE, {"group_id": "x"}, 400, "group_id"),
        (FILE, {"group_id": 999}, 404, "detail"),
        (FILE, {"dry_run": "perhaps"}, 400, "dry_run"),
    ],
)
async def test_errors_of_the_header_and_the_options_are_answers_of_the_post(
    stage: Stage, content: str, params: dict[str, Any], status: int, field: str
) -> None:
    headers = {**stage.mine.headers, "Prefer": "respond-async", "Idempotency-Key": "k"}
    files = {"file": ("list.csv", content.encode())}
    answer = await stage.mine.http.post("/api/contacts/import/", headers=headers, files=files, params=params)
    assert (answer.status_code, next(iter(answer.json()))) == (status, field)
    assert (await stage.mine.get(IMPORTS))["results"] == []


async def test_import_of_another_organisation_does_not_exist(stage: Stage) -> None:
    queued = await queue(stage.mine)
    answer = await stage.theirs.call("GET", f"{IMPORTS}{queued['id']}/")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await stage.theirs.get(IMPORTS))["results"] == []
    for unknown in ("0", "9" * 30, "x"):
        assert (await stage.mine.call("GET", f"{IMPORTS}{unknown}/")).status_code == 404


async def test_keyed_job_is_replayed_and_runs_once(stage: Stage) -> None:
    headers = {**stage.mine.headers, "Prefer": "respond-async", "Idempotency-Key": "k"}
    answers = []
    for _ in range(2):
        files = {"file": ("list.csv", FILE.encode())}
        answers.append(await stage.mine.http.post("/api/contacts/import/", headers=headers, files=files))
        assert await run_next_import(stage.database) == (len(answers) == 1)
    first, again = answers
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert first.headers["Location"] == again.headers["Location"]
    assert (await stage.mine.get(IMPORTS))["pagination"]["total"] == 1


async def test_import_whose_worker_is_killed_is_run_again_and_applied_once(stage: Stage, eventually: Any) -> None:
    queued = await queue(stage.mine)
    async with stage.database.tenant("org_mine") as session:
        await session.execute(
            text("INSERT INTO contacts (phone) VALUES ('+61400000050')")
        )  # the worker waits in the middle of its transaction
        task = asyncio.create_task(run_next_import(stage.database))

        async def waits() -> bool:
            found = await stage.run_sql("SELECT pid FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted")
            return len(found) == 1

        await eventually(waits)
        assert await claim(stage.database) is None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await session.rollback()
    shown = await stage.mine.get(f"{IMPORTS}{queued['id']}/")
    assert (shown["status"], await count_contacts(stage.mine)) == ("running", 0)
    assert not await run_next_import(stage.database)
    await expire_leases(stage)
    assert await run_next_import(stage.database)
    shown = await stage.mine.get(f"{IMPORTS}{queued['id']}/")
    assert (shown["status"], shown["report"]["imported"]) == ("done", 100)
    assert await count_contacts(stage.mine) == 100


async def test_worker_that_lost_its_lease_writes_nothing(stage: Stage) -> None:
    await queue(stage.mine)
    slow = await claim(stage.database)
    assert slow is not None
    await expire_leases(stage)
    assert await run_next_import(stage.database)
    async with stage.database.all_tenants() as session:
        assert not await jobs.renew_lease(session, slow, 5, None)
        with pytest.raises(jobs.LeaseLost):
            await jobs.read_file(session, slow)
        await jobs.fail_import(session, slow, Invalid("late"))
    with pytest.raises(jobs.LeaseLost):
        async with stage.database.tenant("org_mine") as session:
            await jobs.run_import(session, slow, io.BytesIO(b"phone\n0491570006\n"), lambda _: None)
    assert await count_contacts(stage.mine) == 100
    (shown,) = (await stage.mine.get(IMPORTS))["results"]
    assert (shown["status"], shown["error"], shown["report"]["imported"]) == ("done", None, 100)


async def test_progress_is_shown_before_the_import_ends(stage: Stage) -> None:
    queued = await queue(stage.mine)
    claimed = await claim(stage.database)
    assert claimed is not None
    async with stage.database.all_tenants() as session:
        assert await jobs.renew_lease(session, claimed, 60, 100)
    shown = await stage.mine.get(f"{IMPORTS}{queued['id']}/")
    assert (shown["status"], shown["rows_read"], shown["rows_total"]) == ("running", 60, 100)


async def test_import_that_is_interrupted_too_often_fails(stage: Stage) -> None:
    queued = await queue(stage.mine)
    for _ in range(5):
        assert await claim(stage.database) is not None
        await expire_leases(stage)
    assert await claim(stage.database) is None
    shown = await stage.mine.get(f"{IMPORTS}{queued['id']}/")
    assert (shown["status"], shown["report"]) == ("failed", None)
    assert "interrupted" in shown["error"]


async def test_import_into_a_group_that_is_deleted_meanwhile_fails_and_says_why(stage: Stage) -> None:
    group = await stage.mine.add_group("A")
    queued = await queue(stage.mine, group_id=group["id"])
    await stage.mine.call("DELETE", f"/api/groups/{group['id']}/")
    assert await run_next_import(stage.database)
    shown = await stage.mine.get(f"{IMPORTS}{queued['id']}/")
    assert (shown["status"], shown["report"]) == ("failed", None)
    assert "group was deleted" in shown["error"]
    assert await count_contacts(stage.mine) == 0


async def test_import_of_an_organisation_that_is_closed_meanwhile_writes_nothing(stage: Stage) -> None:
    queued = await queue(stage.mine)
    await stage.run_sql("INSERT INTO organisations (organisation_id, deleted_at) VALUES ('org_mine', now())")
    await stage.run_sql("INSERT INTO organisations (organisation_id) VALUES ('org_theirs')")
    await queue(stage.theirs)
    for _ in range(2):
        assert await run_next_import(stage.database)
    shown = await stage.mine.get(f"{IMPORTS}{queued['id']}/")
    assert (shown["status"], shown["error"]) == ("failed", "The organisation was closed.")
    assert (await count_contacts(stage.mine), await count_contacts(stage.theirs)) == (0, 100)


async def test_one_import_of_an_organisation_runs_and_two_in_all(stage: Stage) -> None:
    third = stage.client_of("org_third")
    for client in (stage.mine, stage.mine, stage.mine, stage.theirs, third):
        await queue(client)
    claimed = [await claim(stage.database) for _ in range(3)]
    assert [found and found.organisation_id for found in claimed] == ["org_mine", "org_theirs", None]


async def test_organisations_take_turns(stage: Stage) -> None:
    for client in (stage.mine, stage.mine, stage.mine, stage.theirs):
        await queue(client)
    for _ in range(4):
        assert await run_next_import(stage.database)
    order = await stage.run_sql("SELECT organisation_id FROM imports ORDER BY claimed_at")
    assert [row.organisation_id for row in order] == ["org_mine", "org_theirs", "org_mine", "org_mine"]


async def test_organisation_with_many_queued_imports_is_refused(stage: Stage) -> None:
    await queue(stage.mine)
    await stage.run_sql(
        "INSERT INTO imports (organisation_id, request_id, file_name, dry_run, update_existing, status, file)"
        " SELECT organisation_id, '', '', false, false, status, file FROM imports, generate_series(2, :open)",
        open=MAX_OPEN,
    )
    headers = {**stage.mine.headers, "Prefer": "respond-async"}
    files = {"file": ("list.csv", FILE.encode())}
    answer = await stage.mine.http.post("/api/contacts/import/", headers=headers, files=files)
    assert (answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) == (503, "unavailable", "60")
    await queue(stage.theirs)


async def test_ended_imports_are_deleted_after_seven_days(stage: Stage) -> None:
    for age in ("8 days", "6 days"):
        await stage.mine.upload("phone\n")
        await stage.run_sql(
            f"UPDATE imports SET finished_at = now() - interval '{age}' WHERE finished_at > now() - interval '1 day'"
        )
    await queue(stage.mine)
    await stage.run_sql("UPDATE imports SET created_at = now() - interval '8 days' WHERE status = 'queued'")
    await apply_rules(stage.database, stage.app.state.settings, RULES)
    left = (await stage.mine.get(IMPORTS))["results"]
    assert [found["status"] for found in left] == ["queued", "done"]


async def test_large_bad_files_of_one_organisation_do_not_stop_requests_of_others(stage: Stage) -> None:
    content = b"phone,email\n" + b"x,\xe9@\n" * 100_000
    for _ in range(3):
        await queue(stage.mine, content)
    running = asyncio.create_task(run_next_import(stage.database))
    answered = 0
    while not running.done():
        await stage.theirs.get("/api/contacts/", limit=1)
        answered += 1
    assert await running
    assert answered > 20
    newest, *_, first = (await stage.mine.get(IMPORTS))["results"]
    assert (newest["status"], first["status"]) == ("queued", "done")
    assert (first["report"]["failed"], first["report"]["encoding"]) == (100_000, "windows-1252")
