"""The plans of statements: with 200,000 contacts in an organisation every list uses an index."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url
from sqlalchemy.dialects.postgresql.asyncpg import dialect

from common.database import Database
from common.statements import Statement
from contacts.contacts import lists, repository
from contacts.contacts.lists import Search
from contacts.contacts.rules import MAX_LENGTHS
from contacts.groups import repository as groups_repository
from contacts.models import groups
from contacts.recipients import repository as recipients

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
ERASED = """
    INSERT INTO erased_opt_outs (organisation_id, phone_hash, changed_at, source, version)
    SELECT 'org_' || i % 300, sha256(convert_to(i::text, 'UTF8')), now(), 'reply', i FROM generate_series(1, 20000) i
"""
Node = tuple[str, str]
Connect = Callable[[str], Awaitable[asyncpg.Connection]]


@pytest.fixture(scope="module")
async def connect(contacts_url: str) -> AsyncIterator[Connect]:
    """`await connect("tenant")`: a connection as one of the service's roles."""
    opened: list[asyncpg.Connection] = []

    async def open_as(role: str) -> asyncpg.Connection:
        url = make_url(contacts_url).set(username=f"contacts_{role}").render_as_string(hide_password=False)
        opened.append(await asyncpg.connect(url))
        return opened[-1]

    yield open_as
    for connection in opened:
        await connection.close()


@pytest.fixture(scope="module")
async def tenant(
    contacts_url: str,
    connect: Connect,
    open_database: Callable[[str, str], Awaitable[Database]],
    eventually: Callable[..., Awaitable[Any]],
) -> asyncpg.Connection:
    """A connection as the tenant role in an organisation of 200,000 contacts, beside a small organisation.

    2 % of the contacts are in the first group, half of them in the second.
    """
    await (await open_database(contacts_url, "contacts")).close()  # this empties the tables
    tenant = await connect("tenant")
    await tenant.execute("SET statement_timeout = 0")  # filling takes its time on a busy machine
    for organisation, rows in (("org_small", 1000), ("org_mine", ROWS)):
        await tenant.execute("SELECT set_config('app.organisation_id', $1, false)", organisation)
        await tenant.execute(FILL, rows)
    await tenant.execute("INSERT INTO groups (name) VALUES ('A'), ('B')")
    await tenant.execute(MEMBERS)
    owner = await connect("owner")

    async def vacuumed() -> bool:
        # An older snapshot of another transaction can keep a vacuum from marking the new pages as visible to all.
        await owner.execute("VACUUM (ANALYZE) contacts")
        done: bool = await owner.fetchval(
            "SELECT relallvisible = relpages FROM pg_class WHERE oid = 'contacts'::regclass"
        )
        return done

    await eventually(vacuumed)
    await owner.execute("VACUUM (ANALYZE) group_members")
    return tenant


def nodes(plan: Any) -> set[Node]:
    """Return (kind of node, table or index) of everything in a plan."""
    found = {(plan["Node Type"], plan.get("Index Name", plan.get("Relation Name", "")))}
    return found.union(*(nodes(part) for part in plan.get("Plans", [])))


async def explain(connection: asyncpg.Connection, statement: Any, **values: Any) -> set[Node]:
    compiled = statement.compile(dialect=dialect(), compile_kwargs={"render_postcompile": True})
    arguments = [values[name] for name in compiled.positiontup]
    plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {compiled}", *arguments))
    return nodes(plan[0]["Plan"])


async def explain_statement(connection: asyncpg.Connection, statement: Statement, *values: Any) -> set[Node]:
    plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement.sql}", "org_mine", *values))
    return nodes(plan[0]["Plan"])


async def test_lists_of_a_large_organisation_use_indexes(tenant: asyncpg.Connection) -> None:
    for plain in (
        await explain_statement(tenant, lists.ALL.first_page, 50),
        await explain_statement(tenant, lists.ALL.statement, 50, 1000, 0, None, None, -1),
    ):  # the few rows of the counter may be read without an index
        assert "contacts_listed" in {name for _, name in plain}
        assert not {"Seq Scan", "Sort"} & {node for node, name in plain if name == "contacts"}
    members = await explain(tenant, lists.MEMBERS, limit=50, offset=0, group_id=1)
    # For a large group, a scan of all contacts is faster than reading its members contact by contact.
    assert not {("Seq Scan", "group_members")} & members
    for limited in (False, True):
        values = [50, 0, ["%ana9%"], *([1] if limited else [])]
        found = await explain_statement(tenant, lists.FOUND[Search.INDEXED, limited], *values)
        assert ("Seq Scan", "contacts") not in found


async def test_plans_of_frequent_statements_are_kept(tenant: asyncpg.Connection) -> None:
    """After five executions PostgreSQL decides whether it keeps a plan that does not depend on the values."""
    for statement, values in (
        (lists.ALL.first_page, [50]),
        (recipients._RECIPIENTS, [[1, 2], [None, "+61400000003"]]),
    ):
        for _ in range(7):
            await tenant.fetch(statement.sql, "org_mine", *values)
        kept = "SELECT generic_plans FROM pg_prepared_statements WHERE statement = $1"
        assert await tenant.fetchval(kept, statement.sql) == 2, statement.sql


async def test_remembered_contacts_are_read_by_their_ids(tenant: asyncpg.Connection) -> None:
    found = await explain_statement(tenant, lists.REMEMBERED, 1, [3, 2, 1])
    assert not [node for node, name in found if node == "Seq Scan" and name == "contacts"], found


async def test_search_function_uses_the_trigram_index(tenant: asyncpg.Connection, connect: Connect) -> None:
    body = await tenant.fetchval("SELECT prosrc FROM pg_proc WHERE proname = 'search_contacts'")
    statement = body.split("$query$")[1].replace("$1", "'org_mine'").replace("$2", "ARRAY['%nguyen77%']")
    owner = await connect("owner")
    plan = json.loads(await owner.fetchval(f"EXPLAIN (FORMAT JSON) {statement}"))
    assert ("Bitmap Index Scan", "contacts_searched") in nodes(plan[0]["Plan"])
    count = "SELECT count(*) FROM search_contacts($1, ARRAY['%nguyen77%'])"
    assert await tenant.fetchval(count, "org_mine") == 2168
    # The argument orders the statement. The organisation is that of the session, whatever the argument says.
    assert await tenant.fetchval(count, "org_small") == 2168


async def test_fold_is_inlined(connect: Connect) -> None:
    """A call of the function for each row takes 15 times as long."""
    tenant = await connect("tenant")
    plan = await tenant.fetch("EXPLAIN (VERBOSE) SELECT fold(first_name) FROM contacts")
    assert any("lower" in line[0] for line in plan)
    assert not any("fold(" in line[0] for line in plan)


async def test_group_with_half_of_the_contacts_uses_indexes_of_contacts(tenant: asyncpg.Connection) -> None:
    members = await explain(tenant, lists.MEMBERS, limit=50, offset=1000, group_id=2)
    outside = await explain_statement(tenant, lists.FOUND[Search.NONE, True], 50, 1000, 2)
    searched = await explain_statement(tenant, lists.FOUND[Search.INDEXED, True], 50, 1000, ["%ana9%"], 2)
    for found in (members, outside, searched):
        assert ("Seq Scan", "contacts") not in found
    for found in (outside, searched):
        assert {"group_members_pkey", "group_members_contact"} & {name for _, name in found}


async def test_opt_outs_find_contacts_by_phone(tenant: asyncpg.Connection, connect: Connect) -> None:
    everything = await connect("all")
    await everything.execute(OPT_OUTS)
    await everything.execute(ERASED)
    found = await explain(everything, repository.APPLY_OPT_OUTS)
    assert {("Index Scan", "contacts_phone"), ("Index Scan", "contacts_pkey")} <= found
    assert ("Seq Scan", "contacts") not in found
    changed = await everything.fetch(str(repository.APPLY_OPT_OUTS))
    assert len(changed) == 500
    columns = {"phone": "\x1f".join(f"+6149{n:07d}" for n in range(1000)), **dict.fromkeys(MAX_LENGTHS, "")}
    imported = await explain(tenant, repository.IMPORT, **columns, user_id=None, update=False, with_new=False)
    assert not {("Seq Scan", "opt_outs"), ("Seq Scan", "contacts"), ("Seq Scan", "erased_opt_outs")} & imported
    assert {name for _, name in imported} >= {"erased_opt_outs_pkey"}


@pytest.mark.usefixtures("database")  # the tables are emptied
async def test_group_imported_after_the_last_statistics_is_read_fast(connect: Connect) -> None:
    """PostgreSQL knows nothing of the new organisation. It must read neither all contacts nor all members per row."""
    tenant, owner = await connect("tenant"), await connect("owner")
    for organisation, rows in (("org_before", 20_000), ("org_new", 30_000)):
        await tenant.execute("SELECT set_config('app.organisation_id', $1, false)", organisation)
        await tenant.execute(FILL, rows)
        group = await tenant.fetchval("INSERT INTO groups (name) VALUES ('A') RETURNING id")
        await tenant.execute("INSERT INTO group_members (group_id, contact_id) SELECT $1, id FROM contacts", group)
        if organisation == "org_before":
            await owner.execute("ANALYZE contacts, group_members")
    await tenant.execute("SET statement_timeout = '20s'")
    page = lists.MEMBERS.bindparams(limit=50, offset=0, group_id=group)
    count = groups_repository.COUNTED.where(groups.c.id == group)
    answers = []
    for statement in (page, count):
        compiled = statement.compile(dialect=dialect(), compile_kwargs={"render_postcompile": True})
        arguments = [compiled.params[name] for name in compiled.positiontup or ()]
        answers.append(await tenant.fetch(str(compiled), *arguments))
    assert (len(answers[0]), answers[1][0]["member_count"]) == (50, 30_000)
