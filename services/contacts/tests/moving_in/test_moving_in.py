"""Contacts of an earlier system: one for each phone, never with less opt-out, written again only when they changed."""

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import text

from common import moved_rows
from common.database import Database
from common.moved_rows import OldId
from contacts.moving_in import service
from contacts.moving_in.schemas import ContactIn, GroupIn, MemberIn

TIME = datetime(2026, 11, 1, tzinfo=UTC)
MONTH = date(2026, 11, 1)
ONE = OldId("org_1", 1)


def contact(old_id: int, phone: str, **changes: Any) -> ContactIn:
    values = {
        **dict.fromkeys(("first_name", "last_name", "email", "company"), ""),
        **dict.fromkeys(("user_id", "opted_out_at", "created_by", "updated_by")),
        "organisation_id": "org_1",
        "month": MONTH,
        "is_active": True,
        "opt_out": False,
        "created_at": TIME,
        "updated_at": TIME,
    }
    return ContactIn(old_id=old_id, phone=phone, **(values | changes))


def group(old_id: int, **changes: Any) -> GroupIn:
    values = {
        "organisation_id": "org_1",
        "month": MONTH,
        "name": "Group",
        "description": "",
        "is_active": True,
        "created_by": None,
        "updated_by": None,
        "created_at": TIME,
        "updated_at": TIME,
    }
    return GroupIn(old_id=old_id, **(values | changes))


async def test_rows_with_one_phone_become_a_contact_that_is_opted_out_if_one_is(database: Database) -> None:
    phone = "+61491570006"
    rows = [
        contact(1, phone, first_name="Ana", is_active=False),
        contact(2, phone, first_name="Anna"),
        contact(3, phone, opt_out=True, opted_out_at=TIME),
        contact(4, phone, organisation_id="org_2"),
    ]
    async with database.all_tenants() as session:
        written = await service.import_contacts(session, "v2", rows)
        assert (written.added, written.merged) == (2, (2, 3))
        found = await session.execute(
            text("SELECT organisation_id, first_name, is_active, opt_out, opted_out_at FROM contacts ORDER BY 1")
        )
        assert [tuple(row) for row in found] == [("org_1", "Ana", True, True, TIME), ("org_2", "", True, False, None)]
        again = await service.import_contacts(session, "v2", rows)
        assert (again.added, again.updated, again.merged) == (0, 0, (2, 3))
        opted_in = [rows[0]._replace(first_name="New")]
        assert (await service.import_contacts(session, "v2", opted_in)).updated == 1
        assert await session.scalar(text("SELECT opt_out FROM contacts WHERE first_name = 'New'")), "row 3 opted out"


async def test_a_contact_that_was_here_keeps_its_values_and_learns_the_opt_out(database: Database) -> None:
    async with database.all_tenants() as session:
        await session.execute(
            text("INSERT INTO contacts (organisation_id, phone, first_name) VALUES ('org_1', '+61491570006', 'Here')")
        )
        row = contact(1, "+61491570006", first_name="There", opt_out=True, opted_out_at=TIME)
        assert (await service.import_contacts(session, "v2", [row])).merged == (1,)
        [found] = await session.execute(text("SELECT first_name, opt_out, opt_out_source, version FROM contacts"))
        assert tuple(found) == ("Here", True, "manual", 2)


async def test_a_member_is_removed_when_no_row_has_it_any_more(database: Database) -> None:
    async with database.all_tenants() as session:
        await service.import_contacts(session, "v2", [contact(1, "+61491570006")])
        await service.import_groups(session, "v2", [group(1)])
        groups = await moved_rows.find_new_ids(session, "v2", service.GROUP, [ONE])
        people = await service.find_contacts(session, "v2", [ONE])
        twice = [MemberIn(old_id, "org_1", groups[ONE], people[ONE].contact_id) for old_id in (5, 6)]
        assert (await service.import_members(session, "v2", twice)).added == 2
        for old_ids, members in (([6], 1), ([], 0)):
            await service.remove_members(session, "v2", ["org_1"], after=0, until=9, old_ids=old_ids)
            assert await session.scalar(text("SELECT count(*) FROM group_members")) == members


async def test_two_organisations_may_have_moved_in_with_the_same_old_ids(database: Database) -> None:
    two = OldId("org_2", 1)
    async with database.all_tenants() as session:
        for organisation, phone in (("org_1", "+61491570006"), ("org_2", "+61491570156")):
            rows = [contact(1, phone, organisation_id=organisation)]
            groups = [group(1, organisation_id=organisation, name=organisation)]
            assert (await service.import_contacts(session, "v1", rows)).added == 1
            assert (await service.import_groups(session, "v1", groups)).added == 1
            again = (
                await service.import_contacts(session, "v1", rows),
                await service.import_groups(session, "v1", groups),
            )
            assert [(written.added, written.updated) for written in again] == [(0, 0), (0, 0)]
        people = await service.find_contacts(session, "v1", {ONE, two})
        ids = await moved_rows.find_new_ids(session, "v1", service.GROUP, {ONE, two})
        assert (people[ONE].phone, people[two].phone) == ("+61491570006", "+61491570156")
        members = [MemberIn(1, key.organisation_id, ids[key], people[key].contact_id) for key in (ONE, two)]
        for member in members:
            assert (await service.import_members(session, "v1", [member])).added == 1
        await service.remove_members(session, "v1", ["org_1"], after=0, until=9, old_ids=[])
        left = await session.scalars(text("SELECT organisation_id FROM group_members"))
        assert left.all() == ["org_2"]
        assert [row.kind for row in await service.check(session, "v1", ["org_1"])] == ["contact", "group"]
        assert {row.organisation_id for row in await moved_rows.page_ids(session, "v1", ["org_2"], None)} == {"org_2"}


async def test_a_member_of_two_systems_stays_until_both_have_removed_it(database: Database) -> None:
    async with database.all_tenants() as session:
        for system in ("v1", "v2"):
            await service.import_contacts(session, system, [contact(1, "+61491570006")])
        await service.import_groups(session, "v1", [group(1)])
        group_id = (await moved_rows.find_new_ids(session, "v1", service.GROUP, {ONE}))[ONE]
        contact_id = (await service.find_contacts(session, "v2", {ONE}))[ONE].contact_id
        for system in ("v1", "v2"):
            await service.import_members(session, system, [MemberIn(5, "org_1", group_id, contact_id)])
        for system, members in (("v1", 1), ("v2", 0)):
            await service.remove_members(session, system, ["org_1"], after=0, until=9, old_ids=[])
            assert await session.scalar(text("SELECT count(*) FROM group_members")) == members
