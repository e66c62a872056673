"""With 200,000 contacts in an organisation every list still goes through an index."""

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url
from sqlalchemy.dialects.postgresql.asyncpg import dialect

from contacts.contacts import repository
from contacts.groups import repository as groups

ROWS = 200_000
FILL = """
    INSERT INTO contacts (phone, first_name, last_name, created_at)
    SELECT '+614' || lpad(i::text, 8, '0'), 'Ana' || i % 977, 'Nguyen' || i % 1013, now() + i * interval '1 ms'
    FROM generate_series(1, $1::int) i
"""
MEMBERS = """
    INSERT INTO group_members (group_id, contact_id)
    SELECT g, id FROM contacts, (VALUES (1, 50), (2, 2)) AS groups (g, nth) WHERE id % nth = 0
"""
OPT_OUTS = """
    INSERT INTO opt_outs (organisation_id, phone, opted_out, changed_at, source, version, received_at)
    SELECT 'org_mine', '+614' || lpad(i::text, 8, '0'), true, now(), 'reply', i,
           now() - CASE WHEN i > 600 THEN interval '1 hour' ELSE interval '0' END
    FROM generate_series(1, 20000) i
"""


@pytest.fixture
async def full(contacts_url: str, database: Any, eventually: Any) -> AsyncIterator[asyncpg.Connection]:
    """The tenant's role in an organisation of 200,000 contacts, 4,000 of them in a group, with a small neighbour."""
    url = make_url(contacts_url)
    tenant = await asyncpg.connect(url.set(username="contacts_tenant").render_as_string(hide_password=False))
    await tenant.execute("SET statement_timeout = 0")  # filling takes its time on a busy machine
    for organisation, rows in (("org_small", 1000), ("org_mine", ROWS)):
        await tenant.execute("SELECT set_config('app.organisation_id', $1, false)", organisation)
        await tenant.execute(FILL, rows)
    await tenant.execute("INSERT INTO groups (name) VALUES ('A'), ('B')")
    await tenant.execute(MEMBERS)
    owner = await asyncpg.connect(url.set(username="contacts_owner").render_as_string(hide_password=False))

    async def vacuumed() -> bool:
        """Another's snapshot may keep the first vacuum from marking the new pages as visible to all."""
        await owner.execute("VACUUM (ANALYZE) contacts")
        return await owner.fetchval("SELECT relallvisible = relpages FROM pg_class WHERE oid = 'contacts'::regclass")

    await eventually(vacuumed)
    await owner.execute("VACUUM (ANALYZE) group_members")
    await owner.close()
    yield tenant
    await tenant.close()


def scans(plan: Any) -> set[tuple[str, str]]:
    """(kind of node, table or index) of everything that reads a table."""
    found = {(plan["Node Type"], plan.get("Index Name", plan.get("Relation Name", "")))}
    return found.union(*(scans(part) for part in plan.get("Plans", [])))


async def explain(connection: asyncpg.Connection, statement: Any, **values: Any) -> set[tuple[str, str]]:
    compiled = statement.compile(dialect=dialect(), compile_kwargs={"render_postcompile": True})
    arguments = [values[name] for name in compiled.positiontup]
    plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {compiled}", *arguments))
    return scans(plan[0]["Plan"])


async def test_every_list_goes_through_an_index(contacts_url: str, full: asyncpg.Connection) -> None:
    plain = await explain(full, repository._LISTS["", False], limit=50, offset=1000)
    assert {"contacts_counted", "contacts_listed"} <= {name for _, name in plain}
    members = await explain(full, repository._MEMBERS, limit=50, offset=0, group_id=1)
    wanted = {"limit": 50, "offset": 0, "patterns": ["%ana9%"], "group_id": 1}
    indexed = [await explain(full, repository._LISTS["indexed", excluded], **wanted) for excluded in (False, True)]
    # Who of a large group is active is found faster in the whole table than contact by contact.
    assert not {("Seq Scan", "group_members")} & members
    for found in (plain, *indexed):
        assert not [node for node, _ in found if node == "Seq Scan"], found
    await check_search(contacts_url, full)


async def test_a_group_of_half_the_contacts_reads_no_contact_that_is_not_in_an_index(full: asyncpg.Connection) -> None:
    """Half of the contacts are in the group: that many members are found faster in one go than one by one."""
    wanted = {"limit": 50, "offset": 1000, "patterns": ["%ana9%"], "group_id": 2}
    statements = [repository._MEMBERS, *(repository._LISTS[search, True] for search in ("", "indexed"))]
    for statement in statements:
        found = await explain(full, statement, **wanted)
        assert ("Seq Scan", "contacts") not in found
        if statement is not repository._MEMBERS:  # the group is nearly all of the memberships there are
            assert {"group_members_pkey", "group_members_contact"} & {name for _, name in found}


async def test_what_was_heard_of_numbers_reaches_contacts_by_their_phones(
    contacts_url: str, full: asyncpg.Connection
) -> None:
    url = make_url(contacts_url).set(username="contacts_all").render_as_string(hide_password=False)
    everything = await asyncpg.connect(url)
    await everything.execute(OPT_OUTS)
    found = await explain(everything, repository._APPLY_OPT_OUTS)
    assert {("Index Scan", "contacts_phone"), ("Index Scan", "contacts_pkey")} <= found
    assert ("Seq Scan", "contacts") not in found
    changed = await everything.fetch(str(repository._APPLY_OPT_OUTS))
    assert len(changed) == 500
    await everything.close()
    rows = {name: [""] * 1000 for name in ("first_name", "last_name", "email", "company")}
    rows |= {"row": list(range(1000)), "phone": [f"+6149{n:07d}" for n in range(1000)]}
    imported = await explain(full, repository._IMPORT, **rows, user_id=None, update=False)
    assert not {("Seq Scan", "opt_outs"), ("Seq Scan", "contacts")} & imported


async def check_search(contacts_url: str, full: asyncpg.Connection) -> None:
    """The function's own statement, as its owner."""
    body = await full.fetchval("SELECT prosrc FROM pg_proc WHERE proname = 'search_contacts'")
    statement = body.split("$query$")[1].replace("$1", "'org_mine'").replace("$2", "ARRAY['%nguyen77%']")
    url = make_url(contacts_url).set(username="contacts_owner").render_as_string(hide_password=False)
    owner = await asyncpg.connect(url)
    plan = json.loads(await owner.fetchval(f"EXPLAIN (FORMAT JSON) {statement}"))
    await owner.close()
    assert ("Bitmap Index Scan", "contacts_searched") in scans(plan[0]["Plan"])
    assert await full.fetchval("SELECT count(*) FROM search_contacts(ARRAY['%nguyen77%'])") == 2168


async def test_a_group_that_was_just_imported_is_read_at_once(contacts_url: str, database: Any) -> None:
    """What the planner knows is from before the import: of this organisation nothing. Neither is a member looked for
    in all of the organisation, nor a contact in all of the group."""
    url = make_url(contacts_url)
    tenant = await asyncpg.connect(url.set(username="contacts_tenant").render_as_string(hide_password=False))
    owner = await asyncpg.connect(url.set(username="contacts_owner").render_as_string(hide_password=False))
    for organisation, rows in (("org_before", 20_000), ("org_new", 30_000)):
        await tenant.execute("SELECT set_config('app.organisation_id', $1, false)", organisation)
        await tenant.execute(FILL, rows)
        group = await tenant.fetchval("INSERT INTO groups (name) VALUES ('A') RETURNING id")
        await tenant.execute("INSERT INTO group_members (group_id, contact_id) SELECT $1, id FROM contacts", group)
        if organisation == "org_before":
            await owner.execute("ANALYZE contacts, group_members")
    await tenant.execute("SET statement_timeout = '20s'")
    page = repository._MEMBERS.bindparams(limit=50, offset=0, group_id=group)
    count = groups._COUNTED.where(groups.groups.c.id == group)
    answers = []
    for statement in (page, count):
        compiled = statement.compile(dialect=dialect(), compile_kwargs={"render_postcompile": True})
        arguments = [compiled.params[name] for name in compiled.positiontup]
        answers.append(await tenant.fetch(str(compiled), *arguments))
    await owner.close()
    await tenant.close()
    assert (len(answers[0]), answers[1][0]["member_count"]) == (50, 30_000)
