"""Turns: one import of each organisation runs at a time, and few in all. An import without a turn is queued."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from contacts.contacts import service as contacts_service
from contacts.imports.loops import run_next_import
from contacts.imports.turns import ImportTurns, NoTurn

from ..conftest import Stage

FILE = "phone\n0412345678\n"
Eventually = Callable[..., Awaitable[Any]]


async def enter(turns: ImportTurns, organisation: str, entered: list[str], leave: asyncio.Event) -> None:
    async with turns.turn(organisation):
        entered.append(organisation)
        await leave.wait()


async def let_run() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_second_import_of_an_organisation_and_a_third_in_all_wait() -> None:
    turns, entered = ImportTurns(at_once=2), list[str]()
    leave = {name: asyncio.Event() for name in ("first", "again", "other", "third")}
    tasks = []
    for name, organisation in (("first", "a"), ("again", "a"), ("other", "b"), ("third", "c")):
        tasks.append(asyncio.create_task(enter(turns, organisation, entered, leave[name])))
        await let_run()
    assert (entered, turns.waiting) == (["a", "b"], 2)
    leave["other"].set()
    await let_run()
    assert entered == ["a", "b", "c"]
    leave["first"].set()
    await let_run()
    assert (entered, turns.waiting) == (["a", "b", "c", "a"], 0)
    for event in leave.values():
        event.set()
    await asyncio.gather(*tasks)


async def test_import_that_waits_too_long_gets_no_turn() -> None:
    turns = ImportTurns(at_once=1, max_waiting=1, max_wait_s=0.0)
    async with turns.turn("a"):
        with pytest.raises(NoTurn):
            async with turns.turn("b"):
                pytest.fail("another import is running")
    async with turns.turn("b"):
        assert turns.waiting == 0


async def test_import_gets_no_turn_at_once_when_too_many_wait() -> None:
    turns, leave, entered = ImportTurns(at_once=1, max_waiting=2), asyncio.Event(), list[str]()
    tasks = [asyncio.create_task(enter(turns, organisation, entered, leave)) for organisation in ("a", "b", "c")]
    await let_run()
    with pytest.raises(NoTurn):
        async with turns.turn("d"):
            pytest.fail("two wait already")
    tasks[1].cancel()  # its client went away while it waited
    leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert entered == ["a", "c"]


async def test_import_waits_for_that_of_another_process_without_a_connection(
    stage: Stage, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.app.state.import_turns, "max_wait_s", 60.0)
    async with stage.database.tenant("org_mine") as other_process:
        assert await contacts_service.begin_import(other_process)
        uploads = [asyncio.create_task(stage.mine.upload(FILE)) for _ in range(15)]

        async def all_wait() -> bool:
            return bool(stage.app.state.import_turns.waiting == len(uploads) - 1)

        await eventually(all_wait)
        await stage.mine.add_group("A")  # there are 10 connections, and requests get one
        assert not any(upload.done() for upload in uploads)
    answers = await asyncio.gather(*uploads)
    assert sorted(answer.status_code for answer in answers) == [200] + [207] * 14


async def test_keyed_import_is_queued_instead_of_waiting_for_another_process_with_its_connection(stage: Stage) -> None:
    headers = {**stage.mine.headers, "Idempotency-Key": "k"}
    files = {"file": ("list.csv", FILE.encode(), "text/csv")}
    async with stage.database.tenant("org_mine") as other_process:
        assert await contacts_service.begin_import(other_process)
        answer = await stage.mine.http.post("/api/contacts/import/", headers=headers, files=files)
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    again = await stage.mine.http.post("/api/contacts/import/", headers=headers, files=files)
    assert (again.status_code, again.content) == (202, answer.content)
    assert again.headers["Location"] == answer.headers["Location"] == f"/api/contacts/imports/{answer.json()['id']}/"
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (await stage.mine.get("/api/contacts/imports/"))["pagination"]["total"] == 1


async def test_import_without_a_turn_in_time_is_queued(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage.app.state.import_turns, "max_wait_s", 0.0)
    async with stage.database.tenant("org_mine") as other_process:
        assert await contacts_service.begin_import(other_process)
        answer = await stage.mine.upload(FILE)
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}])
async def test_import_that_is_not_done_at_its_deadline_is_undone_and_queued(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    monkeypatch.setattr(stage.app.state.import_turns, "max_import_s", -1.0)
    group = await stage.mine.add_group("A")
    path = f"/api/contacts/import/?group_id={group['id']}"
    files = {"file": ("list.csv", FILE.encode(), "text/csv")}
    answer = await stage.mine.http.post(path, headers={**stage.mine.headers, **headers}, files=files)
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert (await stage.mine.get("/api/contacts/"))["pagination"]["total"] == 0
    assert await run_next_import(stage.database)
    found = await stage.mine.get(answer.headers["Location"])
    assert (found["status"], found["report"]["imported"]) == ("done", 1)
    assert (await stage.mine.get_group(group["id"]))["member_count"] == 1
