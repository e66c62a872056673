"""A spreadsheet's contacts: every good row goes in, every bad one is named."""

import asyncio
import io
from typing import Any

import pytest

from common.events import ContactChanged
from contacts.contacts.imports import ContactsFile

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01"


def errors(answer: Any) -> list[tuple[int, str]]:
    return [(error["row"], error["column"]) for error in answer.json()["errors"]]


async def listed(client: Any) -> list[tuple[str, str, str]]:
    found = await client.get("/api/contacts/")
    return sorted((c["first_name"], c["last_name"], c["phone"]) for c in found["results"])


async def test_a_good_file_goes_in_whole(mine: Any) -> None:
    answer = await mine.upload("first_name,last_name,phone\nAna,Bell,0412 345 678\n,,+61 491 570 006\n")
    assert (answer.status_code, answer.json()) == (200, {"total": 2, "imported": 2, "failed": 0, "errors": []})
    assert await listed(mine) == [("", "", "0491570006"), ("Ana", "Bell", "0412345678")]


@pytest.mark.parametrize(
    "content",
    [
        "\ufefffirst_name;last_name;phone\r\nAna;Bell;0412345678\r\n",
        "Mobile\tGiven Name\tSurname\n0412345678\tAna\tBell\n",
        '"Last Name","Phone Number","First-Name",Notes\rBell,"0412 345 678",Ana,"a, ""b"""\r',
        "\n\nphone,first,last,phone\n0412345678,Ana,Bell,x",
        'Mobile,PHONE,First_Name,Last_Name\nx,"=""0412345678""",Ana,Bell',
        "number,fname,lname,email,company\n'0412345678, Ana ,Bell,,",
        "phone,first_name,last_name\n4.12345678E+08,Ana,Bell\n",
    ],
)
async def test_spellings_of_headers_delimiters_and_line_ends_are_understood(mine: Any, content: str) -> None:
    answer = await mine.upload(content)
    assert answer.json() == {"total": 1, "imported": 1, "failed": 0, "errors": []}
    assert await listed(mine) == [("Ana", "Bell", "0412345678")]


async def test_bad_rows_are_told_by_the_row_of_the_spreadsheet_and_good_ones_go_in(mine: Any) -> None:
    await mine.contact("0491570110")
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
        'Bad "quotes",Fine,0491570157,,',  # 11: no quote opens the cell, so it is its text
        '"Bad"quotes,x,0491570158,,',  # 12
        '"Never closed,x,0491570159,,',  # 13
        "Last,One,0491570313,,",
    ]
    answer = await mine.upload("\n".join(lines))
    body = answer.json()
    assert answer.status_code == 207
    assert errors(answer) == [
        (6, "phone"), (6, "first_name"), (6, "email"), (7, "phone"), (8, "phone"), (9, "phone"), (10, "phone"),
        (12, ""), (13, ""),
    ]  # fmt: skip
    assert (body["total"], body["imported"], body["failed"]) == (11, 4, 7)
    told = {error["row"]: error for error in body["errors"]}
    assert "more than once" in told[7]["error"]
    assert "exists" in told[8]["error"]
    assert "spreadsheet" in told[9]["error"]
    assert told[9]["value"] == "4.12E+08"
    assert ("Two\nlines", "Bell", "0491570156") in await listed(mine)


async def test_a_phone_twice_in_far_rows_is_told_as_such(mine: Any) -> None:
    rows = [f"04{n:08d}" for n in range(2500)]
    answer = await mine.upload("phone\n" + "\n".join([*rows, rows[0]]))
    assert (answer.json()["imported"], errors(answer)) == (2500, [(2502, "phone")])
    assert "more than once" in answer.json()["errors"][0]["error"]


async def test_the_first_thousand_errors_are_told_and_all_are_counted(mine: Any) -> None:
    answer = await mine.upload("phone\n" + "x\n" * 2345 + "0412345678\n")
    body = answer.json()
    assert (body["total"], body["imported"], body["failed"], len(body["errors"])) == (2346, 1, 2345, 1000)
    assert body["errors"][999]["row"] == 1001


async def test_a_deleted_contact_comes_back_with_its_opt_out_and_is_told(
    mine: Any, database: Any, outbox_events: Any
) -> None:
    made = await mine.contact("0412345678", first_name="Ana", company="Acme")
    await mine.patch(f"/api/contacts/{made['id']}/", {"opt_out": True, "is_active": False})
    answer = await mine.upload("phone,first_name,last_name\n0412345678,,Bell\n0491570006,New,One\n")
    assert answer.json()["imported"] == 2
    back = await mine.get(f"/api/contacts/{made['id']}/")
    assert (back["first_name"], back["last_name"], back["company"], back["opt_out"]) == ("Ana", "Bell", "Acme", True)
    assert back["is_active"] is True
    event = (await outbox_events(database))[-1]
    assert isinstance(event, ContactChanged)
    assert [(c.contact_id, c.version, c.is_active) for c in event.contacts] == [(made["id"], 3, True)]


async def test_on_duplicate_update_changes_who_is_there_and_counts_them(
    mine: Any, database: Any, outbox_events: Any
) -> None:
    made = await mine.contact("0412345678", first_name="Ana", last_name="Bell")
    file = "phone,last_name\n0412345678,Kerr\n0412345678,Again\n0491570006,New\n"
    answer = await mine.upload(file, on_duplicate="update")
    body = answer.json()
    assert (body["total"], body["imported"], body["updated"], body["failed"]) == (3, 1, 1, 1)
    assert (await mine.get(f"/api/contacts/{made['id']}/"))["last_name"] == "Kerr"
    assert [event.contacts[0].fields["last_name"] for event in await outbox_events(database)] == ["Kerr"]


async def test_a_dry_run_tells_the_same_and_writes_nothing(mine: Any, database: Any, outbox_events: Any) -> None:
    gone = await mine.contact("0491570006", is_active=False)
    file = "phone,first_name\n0412345678,Ana\n0491570006,Bea\nx,y\n0412345678,Ana\n"
    group = await mine.group("A")
    tried = await mine.upload(file, dry_run="true", group_id=group["id"])
    assert await listed(mine) == []
    assert (await mine.get(f"/api/contacts/{gone['id']}/"))["first_name"] == ""
    assert await outbox_events(database) == []
    done = await mine.upload(file, group_id=group["id"])
    assert (tried.status_code, tried.json()) == (207, done.json())
    assert (await mine.get(f"/api/groups/{group['id']}/"))["member_count"] == 2


async def test_imported_and_updated_contacts_join_the_group_refused_ones_do_not(mine: Any) -> None:
    there = await mine.contact("0412345678")
    group = await mine.group("A")
    await mine.upload("phone\n0412345678\n0491570006\n", group_id=group["id"])
    members = (await mine.get(f"/api/groups/{group['id']}/"))["members"]["results"]
    assert [member["phone"] for member in members] == ["0491570006"]
    await mine.upload("phone\n0412345678\n", group_id=group["id"], on_duplicate="update")
    members = (await mine.get(f"/api/groups/{group['id']}/"))["members"]["results"]
    assert there["id"] in [member["id"] for member in members]


@pytest.mark.parametrize(
    "content",
    [
        PNG,
        b"",
        b"\n\n,,\n",
        b"first_name,last_name\nAna,Bell\n",
        "phone\n0412345678\n".encode("utf-16"),
        b"phone,first_name\n0412345678,Zo\xeb\n",
        b"phone,first_name\n" + b"0412345678,Ana\n" * 2000 + b"0491570006,Zo\xeb\n",
        b"phone\n0412345678\n\x00\n",
        b"phone," + b"x" * 200_000 + b"\n0412345678,Ana\n",  # more than the csv module takes in one cell
    ],
)
async def test_what_is_no_text_with_a_phone_column_is_refused_whole(mine: Any, content: bytes) -> None:
    answer = await mine.upload(content)
    assert (answer.status_code, list(answer.json())[0]) == (400, "file")  # noqa: RUF015
    assert await listed(mine) == []


async def test_a_header_alone_is_no_error(mine: Any) -> None:
    answer = await mine.upload("first_name,last_name,phone\n")
    assert (answer.status_code, answer.json()["total"]) == (200, 0)


async def test_an_upload_must_be_a_csv_file_of_ten_megabytes_at_most(mine: Any) -> None:
    assert "file" in (await mine.upload("phone\n", name="list.xlsx")).json()
    assert (await mine.upload("phone\n", name="LIST.CSV")).status_code == 200
    path = "/api/contacts/import/"
    assert "file" in (await mine.call("POST", path, files={"other": ("a.csv", b"phone\n")})).json()
    assert (await mine.call("POST", path, data={"file": "phone"}, files={"x": b""})).status_code == 400
    assert (await mine.call("POST", path, json={})).status_code == 415
    broken = {"content": b"--x\r\nno form", "headers": {"content-type": "multipart/form-data; boundary=x"}}
    answer = await mine._http.post(path, content=broken["content"], headers={**mine._headers, **broken["headers"]})
    assert answer.status_code == 400
    most = b"phone\n" + (b" " * 1023 + b"\n") * (10 * 1024)
    most = most[: 10 * 1024 * 1024]
    assert (await mine.upload(most)).status_code == 200
    assert (await mine.upload(most + b"\n")).status_code == 413
    assert (await mine.upload(most + b"\n" * 1_000_000)).status_code == 413


async def test_options_that_cannot_be_understood_or_are_not_there(mine: Any, theirs: Any) -> None:
    foreign = await theirs.group("B")
    gone = await mine.group("A")
    await mine.patch(f"/api/groups/{gone['id']}/", {"is_active": False})
    for params, status in (
        ({"dry_run": "perhaps"}, 400),
        ({"on_duplicate": "delete"}, 400),
        ({"group_id": "x"}, 400),
        ({"group_id": gone["id"]}, 400),
        ({"group_id": foreign["id"]}, 404),
        ({"dry_run": "", "on_duplicate": "", "group_id": ""}, 200),
    ):
        answer = await mine.upload("phone\n0412345678\n", **params)
        assert answer.status_code == status, params
        assert status != 400 or next(iter(params)) in answer.json()


async def test_imports_and_posts_at_once_never_make_a_phone_twice(mine: Any) -> None:
    phones = [f"04{n:08d}" for n in range(1500)]
    forward, backward = "phone\n" + "\n".join(phones), "phone\n" + "\n".join(reversed(phones))
    posts = [mine.call("POST", "/api/contacts/", json={"phone": phone}) for phone in phones[::300]]
    answers = await asyncio.gather(mine.upload(forward), mine.upload(backward), *posts)
    assert {a.status_code for a in answers} <= {200, 201, 207, 400}
    made = sum(a.json()["imported"] for a in answers[:2]) + sum(a.status_code == 201 for a in answers[2:])
    assert made == 1500
    assert (await mine.get("/api/contacts/"))["pagination"]["total"] == 1500


def test_a_file_of_quotes_that_never_close_ends_in_time_with_every_line_told() -> None:
    file = ContactsFile(io.BytesIO(b"phone,first_name\n" + b'"0412345678,x\ny,\n' * 20_000))
    total = failed = 0
    while (batch := file.next_batch(1000)) is not None:
        total, failed = total + batch.total, failed + batch.failed
    assert total == failed > 0
