"""Every statement that writes the contacts, groups and members of an earlier system, and the check of them."""
# ruff: noqa: S608 (the parts of the statements are constants)

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from common.moved_rows import OldId, bind_ids, to_json
from contacts.contacts.rules import ERASED, NUMBER_OPT_OUT
from contacts.models import ContactRow, OptOutSource
from contacts.moving_in.schemas import ContactIn, GroupIn, MemberIn, MovedContact

_TEXTS = ("first_name", "last_name", "email", "company")
_AUTHORSHIP = ("created_by", "updated_by", "created_at", "updated_at")
_TYPES = {
    "old_id": "bigint",
    "user_id": "bigint",
    "is_active": "boolean",
    "opt_out": "boolean",
    "opted_out_at": "timestamptz",
    "created_by": "bigint",
    "updated_by": "bigint",
    "created_at": "timestamptz",
    "updated_at": "timestamptz",
    "group_id": "bigint",
    "contact_id": "bigint",
    "month": "date",
}


def _given(row_class: type[Any], **further: str) -> str:
    """Return the rows of the parameter `rows` as a table `n`."""
    types = {name: _TYPES.get(name, "text") for name in row_class._fields} | further
    columns = ", ".join(f"{name} {kind}" for name, kind in types.items())
    return f"json_to_recordset(CAST(:rows AS json)) AS n ({columns})"


_CONTACT = ", ".join(f"c.{name}" for name in ContactRow._fields)
# A number that opted out here opts its contact out. PostgreSQL keeps the first of several rows with one phone.
_ADD_CONTACTS = text(
    f"""
    INSERT INTO contacts AS c (organisation_id, phone, {", ".join(_TEXTS)}, user_id, is_active, opt_out, opted_out_at,
                               opt_out_source, opt_out_message_id, {", ".join(_AUTHORSHIP)})
    SELECT n.organisation_id, n.phone, {", ".join(f"n.{name}" for name in _TEXTS)}, n.user_id, n.is_active,
           n.opt_out OR o.source IS NOT NULL, coalesce(o.changed_at, n.opted_out_at),
           coalesce(o.source, CASE WHEN n.opt_out THEN '{OptOutSource.MANUAL}' END), o.message_id,
           {", ".join(f"n.{name}" for name in _AUTHORSHIP)}
    FROM {_given(ContactIn)}
    LEFT JOIN LATERAL (
        {NUMBER_OPT_OUT.format(phone="n.phone", organisation="n.organisation_id")}
    ) o ON true
    ORDER BY n.old_id
    ON CONFLICT ON CONSTRAINT contacts_phone DO NOTHING
    RETURNING {_CONTACT}
    """
)
_PHONES = Columns(organisation_id="text", phone="text")
_FIND_CONTACTS = text(
    f"SELECT c.id, c.organisation_id, c.phone FROM {_PHONES.unnest('n')} JOIN contacts c USING (phone, organisation_id)"
)
_MERGED = Columns(id="bigint", opt_out="boolean", is_active="boolean", opted_out_at="timestamptz")
# Several rows with one phone become one contact, which is opted out if one of them was.
_MERGE_CONTACTS = text(
    f"""
    UPDATE contacts c
    SET is_active = c.is_active OR n.is_active, opt_out = c.opt_out OR n.opt_out,
        opted_out_at = coalesce(c.opted_out_at, CASE WHEN n.opt_out THEN n.opted_out_at END),
        opt_out_source = coalesce(c.opt_out_source, CASE WHEN n.opt_out THEN '{OptOutSource.MANUAL}' END),
        opt_in_confirmed_at = CASE WHEN NOT n.opt_out THEN c.opt_in_confirmed_at END, version = c.version + 1
    FROM {_MERGED.unnest("n")}
    WHERE c.id = n.id AND (n.is_active AND NOT c.is_active OR n.opt_out AND NOT c.opt_out)
    RETURNING {_CONTACT}
    """
)
# A contact that was erased here stays erased. The opt-out of another row with its phone, and one that did not come from
# the earlier system, stays.
_CHANGE_CONTACTS = text(
    f"""
    WITH changed AS (
        SELECT c.id AS contact_id, c.organisation_id AS owner, n.*,
               n.opt_out OR c.opt_out AND (c.opt_out_source <> '{OptOutSource.MANUAL}' OR EXISTS (
                   SELECT FROM moved_rows m WHERE m.kind = 'contact' AND m.new_id = c.id AND NOT m.is_compared))
                   AS stays_out
        FROM {_given(ContactIn, new_id="bigint")}
        JOIN contacts c ON c.id = n.new_id AND c.organisation_id = n.organisation_id
        WHERE c.phone NOT LIKE '{ERASED}%' AND NOT EXISTS (
            SELECT FROM contacts other WHERE other.phone = n.phone AND other.organisation_id = n.organisation_id
              AND other.id <> c.id)
    )
    UPDATE contacts c
    SET phone = n.phone, {", ".join(f"{name} = n.{name}" for name in _TEXTS)}, user_id = n.user_id,
        is_active = n.is_active, opt_out = n.stays_out, updated_by = n.updated_by, updated_at = n.updated_at,
        opted_out_at = CASE WHEN n.stays_out THEN coalesce(c.opted_out_at, n.opted_out_at) END,
        opt_out_source = CASE WHEN n.stays_out THEN coalesce(c.opt_out_source, '{OptOutSource.MANUAL}') END,
        opt_out_message_id = CASE WHEN n.stays_out THEN c.opt_out_message_id END,
        opt_in_confirmed_at = CASE WHEN NOT n.stays_out THEN c.opt_in_confirmed_at END, version = c.version + 1
    FROM changed n WHERE c.id = n.contact_id AND c.organisation_id = n.owner
    RETURNING {_CONTACT}
    """
)
_STATES = text(
    f"""
    SELECT m.organisation_id, m.old_id,
           {", ".join(f"c.{'id' if name == 'contact_id' else name}" for name in MovedContact._fields)}
    FROM moved_rows m JOIN contacts c ON c.id = m.new_id AND c.organisation_id = m.organisation_id
    WHERE m.kind = 'contact' AND m.system = :system AND m.old_id = ANY(CAST(:ids AS bigint[]))
      AND m.organisation_id = ANY(CAST(:organisations AS text[]))
    """
)
_GROUP = ("organisation_id", "name", "description", "is_active", *_AUTHORSHIP)
_ADD_GROUPS = text(
    f"""
    WITH given AS MATERIALIZED (
        SELECT nextval('groups_id_seq') AS id, n.* FROM {_given(GroupIn)} ORDER BY n.old_id
    ), added AS (
        INSERT INTO groups (id, {", ".join(_GROUP)}) OVERRIDING SYSTEM VALUE
        SELECT id, {", ".join(_GROUP)} FROM given
    )
    SELECT old_id, id FROM given
    """
)
_CHANGE_GROUPS = text(
    f"""
    UPDATE groups g SET name = n.name, description = n.description, is_active = n.is_active,
        updated_by = n.updated_by, updated_at = n.updated_at
    FROM {_given(GroupIn, new_id="bigint")} WHERE g.id = n.new_id AND g.organisation_id = n.organisation_id
    """
)
_ADD_MEMBERS = text(
    f"""
    INSERT INTO group_members (organisation_id, group_id, contact_id)
    SELECT DISTINCT n.organisation_id, n.group_id, n.contact_id FROM {_given(MemberIn)} ORDER BY 2, 3
    ON CONFLICT DO NOTHING
    """
)
# A membership is removed when no row of the earlier system has it any more.
_REMOVE_MEMBERS = text(
    """
    WITH gone AS (
        DELETE FROM moved_rows m
        WHERE m.kind = 'member' AND m.system = :system AND m.old_id > :after AND m.old_id <= :until
          AND NOT m.old_id = ANY(CAST(:ids AS bigint[]))
          AND m.organisation_id = ANY(CAST(:organisations AS text[]))
        RETURNING m.old_id, m.organisation_id, m.group_id, m.new_id
    )
    DELETE FROM group_members g USING gone
    WHERE g.group_id = gone.group_id AND g.contact_id = gone.new_id AND g.organisation_id = gone.organisation_id
      AND NOT EXISTS (SELECT FROM moved_rows m WHERE m.kind = 'member' AND m.new_id = gone.new_id
                      AND m.group_id = gone.group_id
                      AND NOT (m.system = :system AND m.old_id IN (SELECT old_id FROM gone)))
    """
)
_IS_COMPARED = "CASE WHEN m.is_compared THEN {} END"
CHECKS = {
    "contact": (
        ("m.old_id", "c.phone", *(_IS_COMPARED.format(f"c.{name}") for name in _TEXTS)),
        "JOIN contacts c ON c.id = m.new_id AND c.organisation_id = m.organisation_id",
    ),
    "group": (
        ("m.old_id", "g.name", "g.description", "CAST(g.is_active AS int)"),
        "JOIN groups g ON g.id = m.new_id AND g.organisation_id = m.organisation_id",
    ),
    "member": (
        ("m.old_id",),
        "JOIN group_members g ON g.group_id = m.group_id AND g.contact_id = m.new_id"
        " AND g.organisation_id = m.organisation_id",
    ),
}


class ContactOfPhone(NamedTuple):
    """The contact that has a phone."""

    id: int
    organisation_id: str
    phone: str


class Merge(NamedTuple):
    """The values that a contact gets from further rows with its phone."""

    id: int
    opt_out: bool
    is_active: bool
    opted_out_at: Any


async def add_contacts_all_tenants(session: AsyncSession, rows: Sequence[ContactIn]) -> list[ContactRow]:
    """Add contacts whose phone is new, and return them."""
    return _contacts(await session.execute(_ADD_CONTACTS, {"rows": to_json(rows)}))


async def find_contacts_all_tenants(session: AsyncSession, rows: Sequence[ContactIn]) -> list[ContactOfPhone]:
    """Return the contacts that have the phones of these rows."""
    return [ContactOfPhone(*row) for row in await session.execute(_FIND_CONTACTS, _PHONES.bind(rows))]


async def merge_contacts_all_tenants(session: AsyncSession, merges: Sequence[Merge]) -> list[ContactRow]:
    """Opt contacts out and restore them as their further rows say. Return the changed ones."""
    return _contacts(await session.execute(_MERGE_CONTACTS, _MERGED.bind(merges)))


async def change_contacts_all_tenants(
    session: AsyncSession, rows: Sequence[ContactIn], new_ids: Mapping[int, int]
) -> list[ContactRow]:
    """Change contacts whose rows changed. One that was erased, or whose phone another contact has, stays as it is."""
    return _contacts(await session.execute(_CHANGE_CONTACTS, {"rows": to_json(rows, new_ids)}))


async def contact_states_all_tenants(
    session: AsyncSession, system: str, ids: Collection[OldId]
) -> dict[OldId, MovedContact]:
    """Return the contacts that rows became, by old id."""
    rows = await session.execute(_STATES, {"system": system, **bind_ids(ids)})
    return {key: MovedContact(*row[2:]) for row in rows if (key := OldId(row[0], row[1])) in ids}


async def add_groups_all_tenants(session: AsyncSession, rows: Sequence[GroupIn]) -> dict[int, int]:
    """Add groups and return their ids by old id."""
    return {row.old_id: row.id for row in await session.execute(_ADD_GROUPS, {"rows": to_json(rows)})}


async def change_groups_all_tenants(session: AsyncSession, rows: Sequence[GroupIn], new_ids: Mapping[int, int]) -> None:
    """Change groups whose rows changed."""
    await session.execute(_CHANGE_GROUPS, {"rows": to_json(rows, new_ids)})


async def add_members_all_tenants(session: AsyncSession, rows: Sequence[MemberIn]) -> None:
    """Add contacts to groups, where they are not members."""
    await session.execute(_ADD_MEMBERS, {"rows": to_json(rows)})


async def remove_members_all_tenants(
    session: AsyncSession,
    system: str,
    organisations: Collection[str],
    *,
    after: int,
    until: int,
    old_ids: Sequence[int],
) -> None:
    """Remove memberships whose old id is in the range (`after`, `until`] and not among `old_ids`."""
    values = {"system": system, "organisations": list(organisations), "ids": list(old_ids)}
    await session.execute(_REMOVE_MEMBERS, values | {"after": after, "until": until})


def _contacts(rows: Any) -> list[ContactRow]:
    return [ContactRow._make(row) for row in rows]
