"""The import of contacts from CSV files: valid rows are written, the others are listed."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from common.events import ContactChanged
from contacts.contacts.loops import clean_search_index
from contacts.imports.csv_file import ContactsFile

from ..conftest import Client, Stage

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01"


def errors(answer: httpx.Response) -> list[tuple[int, str]]:
    return [(error["row"], error["column"]) for error in answer.json()["errors"]]


async def listed(client: Client) -> list[tuple[str, str, str]]:
    found = await client.get("/api/contacts/")
    return sorted((c["first_name"], c["last_name"], c["phone"]) for c in found["results"])


async def test_valid_file_is_imported_whole(stage: Stage) -> None:
    answer = await stage.mine.upload("first_name,last_name,phone\nAna,Bell,0412 345 678\n,,+61 491 570 006\n")
    report = {"total": 2, "imported": 2, "failed": 0, "errors": [], "ignored_columns": [], "encoding": "utf-8"}
    assert (answer.status_code, answer.json()) == (200, report)
    assert await listed(stage.mine) == [("", "", "0491570006"), ("Ana", "Bell", "0412345678")]


@pytest.mark.parametrize(
    "content",
    [
        "\ufefffirst_name;last_name;phone\r\nAna;Bell;0412345678\r\n",
        "Mobile\tGiven Name\tSurname\n0412345678\tAna\tBell\n",
        '"Last Name","Phone Number","First-Name",Notes\rBell,"0412 345 678",Ana,"a, ""b"""\r',
        "\n\nphone,first,last,notes\n0412345678,Ana,Bell,x",
        'PHONE,First_Name,Last_Name\n"=""0412345678""",Ana,Bell',
        "name,phone\nAna Bell,0412345678",
        'Mobile,Full Name\n0412345678,"Bell, Ana"',
        "Name,phone,first name,last name\nx,0412345678,Ana,Bell",
        "number,fname,lname,email,company\n'0412345678, Ana ,Bell,,",
        "phone,first_name,last_name\n4.12345678E+08,Ana,Bell\n",
    ],
)
async def test_usual_headers_delimiters_and_line_ends_are_understood(stage: Stage, content: str) -> None:
    answer = await stage.mine.upload(content)
    body = answer.json()
    assert (body["total"], body["imported"], body["failed"], body["errors"]) == (1, 1, 0, [])
    assert await listed(stage.mine) == [("Ana", "Bell", "0412345678")]


async def test_invalid_rows_are_listed_by_spreadsheet_row_and_valid_ones_imported(stage: Stage) -> None:
    await stage.mine.add_contact("0491570110")
    lines = [
        "first_name,last_name,phone,email,company",
        "Ana,Bell,0491570006,ana@example.com,Acme",  # 2
        "",
        '"Two\nlines",Bell,0491570156,,',  # 4: one row of the spreadsheet
        ",,,,",
        f"{'x' * 101},Bell,12,not an address,",  # 6
        "Dup,Here,0491 570 006,,",  # 7
        "Dup,There,+61491570110,,",
        "Lost,Digits,4.12E+08,,",
        "No,Phone,,,",
        'Bad "quotes",Fine,0491570157,,',  # 11: no quote opens the cell, so the quotes are part of its text
        '"Bad"quotes,x,0491570158,,',  # 12
        '"Never closed,x,0491570159,,',  # 13
        "Last,One,0491570313,,",
    ]
    answer = await stage.mine.upload("\n".join(lines))
    body = answer.json()
    assert answer.status_code == 207
    assert errors(answer) == [
        (6, "phone"), (6, "first_name"), (6, "email"), (7, "phone"), (8, "phone"), (9, "phone"), (10, "phone"),
        (12, ""), (13, ""),
    ]  # fmt: skip
    assert (body["total"], body["imported"], body["failed"]) == (11, 4, 7)
    by_row = {error["row"]: error for error in body["errors"]}
    assert "more than once" in by_row[7]["error"]
    assert "exists" in by_row[8]["error"]
    assert "spreadsheet" in by_row[9]["error"]
    assert by_row[9]["value"] == "4.12E+08"
    assert ("Two\nlines", "Bell", "0491570156") in await listed(stage.mine)


async def test_phone_repeated_in_a_later_batch_is_reported_as_repeated(stage: Stage) -> None:
    rows = [f"04{n:08d}" for n in range(2500)]
    answer = await stage.mine.upload("phone\n" + "\n".join([*rows, rows[0]]))
    assert (answer.json()["imported"], errors(answer)) == (2500, [(2502, "phone")])
    assert "more than once" in answer.json()["errors"][0]["error"]


async def test_search_finds_imported_contacts_before_and_after_the_index_was_cleaned(stage: Stage) -> None:
    rows = "".join(f"04{n:08d},Ana{n}\n" for n in range(2000))
    await stage.mine.upload("phone,first_name\n" + rows)
    for _ in range(2):
        found = await stage.mine.get("/api/contacts/", search="ana1999")
        assert [contact["phone"] for contact in found["results"]] == ["0400001999"]
        await clean_search_index(stage.database)
    assert await clean_search_index(stage.database) == 0.0  # nothing is left, so the loop may pause


async def clean_and_read_the_known_number(stage: Stage) -> float:
    """Return how many contacts the planner believes to exist, -1 if they were never analysed."""
    await clean_search_index(stage.database)
    async with stage.database.all_tenants() as session:
        known = await session.scalar(text("SELECT reltuples FROM pg_class WHERE oid = 'contacts.contacts'::regclass"))
    return float(known)


async def test_planner_knows_the_number_of_a_first_import_once_the_index_was_cleaned(
    stage: Stage, eventually: Callable[..., Awaitable[Any]]
) -> None:
    await stage.mine.upload("phone\n" + "".join(f"04{n:08d}\n" for n in range(2000)))

    async def is_known() -> bool:
        return await clean_and_read_the_known_number(stage) == 2000

    # PostgreSQL counts the rows of a transaction up to 10 s after its commit.
    await eventually(is_known)


async def test_table_is_not_analysed_while_the_first_import_is_not_committed(stage: Stage) -> None:
    async with stage.database.tenant("org_mine") as session:
        await session.execute(
            text("INSERT INTO contacts (phone) SELECT '+61' || n FROM generate_series(400000000, 400002000) n")
        )
        assert await clean_and_read_the_known_number(stage) == -1


async def test_many_errors_are_all_counted_and_the_first_thousand_listed(stage: Stage) -> None:
    answer = await stage.mine.upload("phone\n" + "x\n" * 2345 + "0412345678\n")
    body = answer.json()
    assert (body["total"], body["imported"], body["failed"], len(body["errors"])) == (2346, 1, 2345, 1000)
    assert body["errors"][999]["row"] == 1001


async def test_phone_of_a_deleted_contact_restores_it_with_its_opt_out(stage: Stage) -> None:
    contact = await stage.mine.add_contact("0412345678", first_name="Ana", company="Acme")
    await stage.mine.patch(f"/api/contacts/{contact['id']}/", {"opt_out": True, "is_active": False})
    answer = await stage.mine.upload("phone,first_name,last_name\n0412345678,,Bell\n0491570006,New,One\n")
    assert answer.json()["imported"] == 2
    restored = await stage.mine.get_contact(contact["id"])
    assert (restored["first_name"], restored["last_name"], restored["company"]) == ("Ana", "Bell", "Acme")
    assert (restored["opt_out"], restored["is_active"]) == (True, True)
    event = (await stage.events())[-1]
    assert isinstance(event, ContactChanged)
    assert [(c.contact_id, c.version, c.is_active) for c in event.contacts] == [(contact["id"], 3, True)]


async def test_on_duplicate_update_changes_and_counts_existing_contacts(stage: Stage) -> None:
    contact = await stage.mine.add_contact("0412345678", first_name="Ana", last_name="Bell")
    file = "phone,last_name\n0412345678,Kerr\n0412345678,Again\n0491570006,New\n"
    answer = await stage.mine.upload(file, on_duplicate="update")
    body = answer.json()
    assert (body["total"], body["imported"], body["updated"], body["failed"]) == (3, 1, 1, 1)
    assert (await stage.mine.get_contact(contact["id"]))["last_name"] == "Kerr"
    assert [event.contacts[0].fields["last_name"] for event in await stage.events()] == ["Kerr"]


async def test_dry_run_answers_the_same_and_writes_nothing(stage: Stage) -> None:
    deleted = await stage.mine.add_contact("0491570006", is_active=False)
    file = "phone,first_name\n0412345678,Ana\n0491570006,Bea\nx,y\n0412345678,Ana\n"
    group = await stage.mine.add_group("A")
    tried = await stage.mine.upload(file, dry_run="true", group_id=group["id"])
    assert await listed(stage.mine) == []
    assert (await stage.mine.get_contact(deleted["id"]))["first_name"] == ""
    assert await stage.events() == []
    imported = await stage.mine.upload(file, group_id=group["id"])
    assert (tried.status_code, tried.json()) == (207, imported.json())
    assert (await stage.mine.get_group(group["id"]))["member_count"] == 2


async def test_imported_and_updated_contacts_join_the_group_but_refused_ones_do_not(stage: Stage) -> None:
    existing = await stage.mine.add_contact("0412345678")
    group = await stage.mine.add_group("A")
    await stage.mine.upload("phone\n0412345678\n0491570006\n", group_id=group["id"])
    members = (await stage.mine.get_group(group["id"]))["members"]["results"]
    assert [member["phone"] for member in members] == ["0491570006"]
    await stage.mine.upload("phone\n0412345678\n", group_id=group["id"], on_duplicate="update")
    members = (await stage.mine.get_group(group["id"]))["members"]["results"]
    assert existing["id"] in [member["id"] for member in members]


@pytest.mark.parametrize(
    "content",
    [
        PNG,
        b"",
        b"\n\n,,\n",
        b"first_name,last_name\nAna,Bell\n",
        "phone\n0412345678\n".encode("utf-32"),
        b"phone," + b"x" * 200_000 + b"\n0412345678,Ana\n",  # a cell larger than the csv module accepts
    ],
)
async def test_file_that_is_not_text_with_a_phone_column_is_refused_whole(stage: Stage, content: bytes) -> None:
    answer = await stage.mine.upload(content)
    assert (answer.status_code, next(iter(answer.json()))) == (400, "file")
    assert await listed(stage.mine) == []


@pytest.mark.parametrize(
    ("encoding", "shown"), [("utf-8-sig", "utf-8"), ("utf-16", "utf-16"), ("cp1252", "windows-1252")]
)
async def test_encodings_of_spreadsheets_are_read_and_named(stage: Stage, encoding: str, shown: str) -> None:
    answer = await stage.mine.upload("phone,first_name,Notes\n0412345678,Zo\xeb,x\n".encode(encoding))
    body = answer.json()
    assert (answer.status_code, body["encoding"], body["ignored_columns"]) == (200, shown, ["Notes"])
    assert await listed(stage.mine) == [("Zo\xeb", "", "0412345678")]


async def test_two_columns_with_one_meaning_are_refused_by_name(stage: Stage) -> None:
    answer = await stage.mine.upload("phone,first_name,Phone\n0412345678,Ana,0491570006\n")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert "`phone` and `Phone`" in answer.json()["file"][0]
    assert await listed(stage.mine) == []


async def test_nul_and_a_too_long_cell_are_errors_of_their_rows(stage: Stage) -> None:
    lines = ["0412345678,Ana\0", "0491570006,Bo", f"0491570110,{'x' * 200_000}", f"0491570156,{'x' * 101}", "\0,x"]
    answer = await stage.mine.upload("phone,first_name\n" + "\n".join(lines))
    assert (answer.status_code, errors(answer)) == (207, [(2, "first_name"), (4, ""), (5, "first_name"), (6, "phone")])
    assert answer.json()["errors"][0]["value"] == "Ana\0"
    assert await listed(stage.mine) == [("Bo", "", "0491570006")]


async def test_file_with_a_header_alone_is_valid(stage: Stage) -> None:
    answer = await stage.mine.upload("first_name,last_name,phone\n")
    assert (answer.status_code, answer.json()["total"]) == (200, 0)


async def test_upload_that_is_not_a_csv_file_of_at_most_ten_megabytes_is_refused(stage: Stage) -> None:
    mine, path = stage.mine, "/api/contacts/import/"
    assert "file" in (await mine.upload("phone\n", name="list.xlsx")).json()
    assert (await mine.upload("phone\n", name="LIST.CSV")).status_code == 200
    assert "file" in (await mine.call("POST", path, files={"other": ("a.csv", b"phone\n")})).json()
    assert (await mine.call("POST", path, data={"file": "phone"}, files={"x": b""})).status_code == 400
    assert (await mine.call("POST", path, json={})).status_code == 415
    headers = {**mine.headers, "content-type": "multipart/form-data; boundary=x"}
    assert (await mine.http.post(path, content=b"--x\r\nno form", headers=headers)).status_code == 400
    most = b"phone\n" + (b" " * 1023 + b"\n") * (10 * 1024)
    most = most[: 10 * 1024 * 1024]
    assert (await mine.upload(most)).status_code == 202
    assert (await mine.upload(most + b"\n")).status_code == 413
    assert (await mine.upload(most + b"\n" * 1_000_000)).status_code == 413


async def test_invalid_option_answers_400_and_unknown_group_404(stage: Stage) -> None:
    foreign = await stage.theirs.add_group("B")
    deleted = await stage.mine.add_group("A")
    await stage.mine.patch(f"/api/groups/{deleted['id']}/", {"is_active": False})
    cases: list[tuple[dict[str, Any], int]] = [
        ({"dry_run": "perhaps"}, 400),
        ({"on_duplicate": "delete"}, 400),
        ({"group_id": "x"}, 400),
        ({"group_id": deleted["id"]}, 400),
        ({"group_id": foreign["id"]}, 404),
        ({"dry_run": "", "on_duplicate": "", "group_id": ""}, 200),
    ]
    for params, status in cases:
        answer = await stage.mine.upload("phone\n0412345678\n", **params)
        assert answer.status_code == status, params
        assert status != 400 or next(iter(params)) in answer.json()


async def test_simultaneous_imports_and_posts_create_each_phone_once(stage: Stage) -> None:
    phones = [f"04{n:08d}" for n in range(1500)]
    forward, backward = "phone\n" + "\n".join(phones), "phone\n" + "\n".join(reversed(phones))
    posts = [stage.mine.call("POST", "/api/contacts/", json={"phone": phone}) for phone in phones[::300]]
    answers = await asyncio.gather(stage.mine.upload(forward), stage.mine.upload(backward), *posts)
    assert {answer.status_code for answer in answers} <= {200, 201, 207, 400}
    imported = sum(answer.json()["imported"] for answer in answers[:2])
    assert imported + sum(answer.status_code == 201 for answer in answers[2:]) == 1500
    assert (await stage.mine.get("/api/contacts/"))["pagination"]["total"] == 1500


def test_file_of_quotes_that_never_close_fails_line_by_line() -> None:
    file = ContactsFile(io.BytesIO(b"phone,first_name\n" + b'"0412345678,x\ny,\n' * 20_000))
    total = failed = 0
    while (batch := file.next_batch(1000)) is not None:
        total, failed = total + batch.total, failed + batch.failed
    assert total == failed > 0
