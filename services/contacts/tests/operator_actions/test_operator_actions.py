"""The actions of operators are listed in pages, and no role can change, delete or empty what is recorded."""

import asyncpg
import pytest
from sqlalchemy import make_url

from common.database import Database
from contacts.operator_actions import service
from contacts.operator_actions.rules import ActionOutcome, InvalidActionText, check_operator, check_reason, mask_phones

from ..conftest import Stage

CHANGES = (
    "UPDATE contacts.operator_actions SET reason = 'another'",
    "UPDATE contacts.operator_actions SET outcome = outcome WHERE false",
    "DELETE FROM contacts.operator_actions",
    "TRUNCATE contacts.operator_actions",
    "TRUNCATE contacts.operator_actions, contacts.erasures CASCADE",
)


async def add(database: Database, operator: str = "ana", organisation: str | None = None, *, ends: bool = True) -> None:
    async with database.all_tenants() as session:
        values = {"operator": operator, "reason": "ticket 12", "organisation_id": organisation}
        action_id = await service.begin_action(session, "test", arguments={"days": 2}, **values)
    if ends:
        async with database.all_tenants() as session:
            await service.end_action(session, action_id, ActionOutcome.REFUSED, 5)


@pytest.mark.parametrize("role", ["owner", "tenant", "all"])
async def test_no_role_can_change_what_is_recorded(stage: Stage, contacts_url: str, role: str) -> None:
    await add(stage.database)
    before = await stage.run_sql("SELECT * FROM operator_actions ORDER BY id")
    url = make_url(contacts_url).set(username=f"contacts_{role}").render_as_string(hide_password=False)
    connection = await asyncpg.connect(url)
    try:
        for change in CHANGES:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(change)
    finally:
        await connection.close()
    assert await stage.run_sql("SELECT * FROM operator_actions ORDER BY id") == before


async def test_the_administrator_cannot_change_what_is_recorded(stage: Stage, postgres_url: str) -> None:
    await add(stage.database)
    connection = await asyncpg.connect(postgres_url)
    try:
        for change in CHANGES:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(change)
    finally:
        await connection.close()


async def test_an_organisation_neither_reads_nor_adds_actions(stage: Stage, contacts_url: str) -> None:
    await add(stage.database, organisation="org_mine")
    url = make_url(contacts_url).set(username="contacts_tenant").render_as_string(hide_password=False)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SELECT set_config('app.organisation_id', 'org_mine', false)")
        for statement in (
            "SELECT * FROM contacts.operator_actions",
            "INSERT INTO contacts.operator_actions (action_id, step, action, operator, reason, arguments)"
            " VALUES (gen_random_uuid(), 'begin', 'a', 'b', 'reason', '{}')",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_an_action_ends_once_and_only_after_it_began(stage: Stage) -> None:
    await add(stage.database)
    (row, _) = await stage.run_sql("SELECT * FROM operator_actions ORDER BY id")
    with pytest.raises(Exception, match="operator_actions_action_id_step_key"):
        async with stage.database.all_tenants() as session:
            await service.end_action(session, row.action_id, ActionOutcome.DONE, 0)


async def test_actions_are_listed_in_pages_by_organisation_and_operator(stage: Stage) -> None:
    for number in range(5):
        organisation = "org_theirs" if number % 2 else "org_mine"
        await add(stage.database, "ben" if number > 2 else "ana", organisation, ends=number != 4)
    async with stage.database.all_tenants() as session:
        first = await service.list_actions(session, 2)
        rest = await service.list_actions(session, 9, before=first[-1].id)
        mine = await service.list_actions(session, 9, organisation_id="org_mine")
        theirs = await service.list_actions(session, 9, organisation_id="org_theirs", operator="ben")
    ids = [row.id for row in first + rest]
    assert (len(ids), ids) == (5, sorted(ids, reverse=True))
    assert [(row.outcome, row.exit_code) for row in first] == [(None, None), ("refused", 5)]
    assert [row.operator for row in mine] == ["ben", "ana", "ana"]
    assert [(row.operator, row.arguments) for row in theirs] == [("ben", {"days": 2})]
    assert first[1].ended_at is not None
    assert first[1].ended_at >= first[1].begun_at


def test_a_reason_is_bounded_and_names_no_phone() -> None:
    assert check_reason("  ticket 4711,\n day 2026-11-29  ") == "ticket 4711, day 2026-11-29"
    assert check_operator("ana") == "ana"
    for wrong in ("", "1234", "x" * 501, "for 0491 570 006", "+61 491-570-006", "bell\x07 rings"):
        with pytest.raises(InvalidActionText, match="enter a reason"):
            check_reason(wrong)
    with pytest.raises(InvalidActionText, match="of 1 to 100"):
        check_operator(" ")
    assert mask_phones("call 0491 570 006 now") == "call 0491…06 now"
