"""Every statement about contacts."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, Text, TextClause, bindparam, case, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from common.errors import NotFound
from common.events import ContactState, OptOutChanged
from common.paging import Page
from common.placeholders import PLACEHOLDERS
from contacts.errors import PhoneTaken
from contacts.models import contacts, group_members, groups

_KEPT = ("version", "phone", *PLACEHOLDERS, "is_active", "opt_out", "opt_out_source")
_OPT_OUT = ("opted_out_at", "opt_out_source", "opt_out_message_id")
_STATE = select(
    contacts.c.id.label("contact_id"),
    *(contacts.c[name] for name in (*_KEPT, "opted_out_at", "opt_in_confirmed_at")),
)
_STATE_ALL_TENANTS = _STATE.add_columns(contacts.c.organisation_id).order_by(contacts.c.id)
# Where a list comes from: all active contacts; those that a search finds; a group's. A search whose patterns are long
# enough for trigrams asks `search_contacts` (see the migration); a shorter one finds a page soon anywhere.
_ALL = "FROM contacts f WHERE f.is_active"
_FOUND = "FROM found f WHERE true"
_MATCHING = """FROM contacts f WHERE f.is_active AND
    lower((f.first_name || ' ' || f.last_name || ' 0' || substr(f.phone, 4)) COLLATE pg_c_utf8) LIKE ANY (:patterns)"""
# LATERAL with OFFSET, here too: of an organisation that was just imported the planner knows nothing, and would look for
# each member in all of its contacts.
_OF_GROUP = """FROM group_members m CROSS JOIN LATERAL (SELECT * FROM contacts WHERE id = m.contact_id OFFSET 0) f
    WHERE m.group_id = :group_id AND f.is_active"""
_SEARCH = "WITH found AS MATERIALIZED (SELECT id, created_at FROM search_contacts(:patterns))"
_NOT_IN_GROUP = """ AND NOT EXISTS (
    SELECT FROM group_members m WHERE m.group_id = :group_id AND m.contact_id = f.id)"""
_SHORTEST_INDEXED = len("%abc%")


def _list(source: str, order: Sequence[str], search: str = "") -> TextClause:
    """Rows and count in one round trip: the count is there even when the page is past the end."""
    statement = f"""
        {search}
        SELECT counted.total, c.*
        FROM (SELECT count(*) AS total {source}) counted
        LEFT JOIN ({_chosen(source, order)}) chosen ON true
        LEFT JOIN {_ROW} ON true
        ORDER BY {_by(order, "c")}
    """  # noqa: S608 (made of the constants above)
    patterns = [bindparam("patterns", type_=ARRAY(Text))] if ":patterns" in statement else []
    return text(statement).bindparams(*patterns)


# LATERAL with OFFSET: the page's rows are fetched one by one, however little the planner knows of a table that has
# just grown.
_ROW = "LATERAL (SELECT * FROM contacts WHERE id = chosen.id OFFSET 0) c"


def _chosen(source: str, order: Sequence[str]) -> str:
    return f"SELECT f.id {source} ORDER BY {_by(order, 'f')} LIMIT :limit OFFSET :offset"


def _by(order: Sequence[str], table: str) -> str:
    return ", ".join(f"{table}.{column}" for column in order)


_NEWEST_FIRST = ("created_at DESC", "id DESC")
_LISTS = {
    ("", False): _list(_ALL, _NEWEST_FIRST),
    ("", True): _list(_ALL + _NOT_IN_GROUP, _NEWEST_FIRST),
    ("short", False): _list(_MATCHING, _NEWEST_FIRST),
    ("short", True): _list(_MATCHING + _NOT_IN_GROUP, _NEWEST_FIRST),
    ("indexed", False): _list(_FOUND, _NEWEST_FIRST, _SEARCH),
    ("indexed", True): _list(_FOUND + _NOT_IN_GROUP, _NEWEST_FIRST, _SEARCH),
}
_BY_NAME = ("last_name", "first_name", "id")
_MEMBERS = text(
    f"SELECT c.* FROM ({_chosen(_OF_GROUP, _BY_NAME)}) chosen"  # noqa: S608 (made of the constants above)
    f" CROSS JOIN {_ROW} ORDER BY {_by(_BY_NAME, 'c')}"
)

# One row at least: a number may have opted_out that no contact has.
_RECIPIENT = text(
    f"""
    SELECT s.opted_out, c.id AS contact_id, {", ".join(f"c.{name}" for name in _KEPT)}, c.opted_out_at,
           c.opt_in_confirmed_at
    FROM (SELECT EXISTS (SELECT FROM opt_outs WHERE phone = CAST(:phone AS text) AND opted_out) AS opted_out) s
    LEFT JOIN contacts c ON c.id = CAST(:contact_id AS bigint) OR c.phone = CAST(:phone AS text)
    """  # noqa: S608 (a constant)
)

# The statement of an import, a batch of rows each time. A row is new, or brings a deleted contact back, or changes
# one that is there (when that is wanted); otherwise it is refused: `written` has no row for it. For all but the new
# ones the row as it was before the statement is read, one by one through the index. What this very transaction wrote
# has its time in `updated_at`: such a phone was in the file before. Empty cells change nothing. A new contact whose
# number opted_out is born opted out; one that is there had it since then.
_IMPORT = text(
    """
    WITH given AS (
        SELECT * FROM unnest(CAST(:row AS int[]), CAST(:phone AS text[]), CAST(:first_name AS text[]),
                             CAST(:last_name AS text[]), CAST(:email AS text[]), CAST(:company AS text[]))
                      AS g (row, phone, first_name, last_name, email, company)
    ), written AS (
        INSERT INTO contacts AS c (phone, first_name, last_name, email, company, created_by, updated_by,
                                   opt_out, opted_out_at, opt_out_source, opt_out_message_id)
        SELECT g.phone, first_name, last_name, email, company, CAST(:user_id AS bigint), CAST(:user_id AS bigint),
               s.source IS NOT NULL, s.changed_at, s.source, s.message_id
        FROM given g LEFT JOIN LATERAL (
            SELECT source, changed_at, message_id FROM opt_outs WHERE opt_outs.phone = g.phone AND opted_out LIMIT 1
        ) s ON true
        ORDER BY row
        ON CONFLICT ON CONSTRAINT contacts_phone DO UPDATE SET
            first_name = COALESCE(NULLIF(EXCLUDED.first_name, ''), c.first_name),
            last_name = COALESCE(NULLIF(EXCLUDED.last_name, ''), c.last_name),
            email = COALESCE(NULLIF(EXCLUDED.email, ''), c.email),
            company = COALESCE(NULLIF(EXCLUDED.company, ''), c.company),
            is_active = true, version = c.version + 1, updated_by = EXCLUDED.updated_by, updated_at = now()
        WHERE NOT c.is_active OR (CAST(:update AS boolean) AND c.updated_at <> now())
        RETURNING id, phone, version, opt_out
    )
    SELECT given.row, written.id, written.opt_out, before.is_active AS was_active, before.updated_at = now() AS in_file
    FROM given LEFT JOIN written USING (phone)
    LEFT JOIN LATERAL (
        SELECT c.is_active, c.updated_at FROM contacts c
        WHERE c.phone = given.phone AND written.version IS DISTINCT FROM 1 LIMIT 1
    ) before ON true
    """
)

# One import at a time in an organisation: two that have phones in common, in another order, would block each other.
# Plans are made for the table as it grows, not once for the one that was empty; a file of 10 MB has its time (a
# running time-out is not changed, only ended and begun).
_BEGIN_IMPORT = text(
    """
    SELECT pg_advisory_xact_lock(hashtextextended('contacts.import:' || current_setting('app.organisation_id'), 0)),
           set_config('plan_cache_mode', 'force_custom_plan', true),
           set_config('transaction_timeout', '0', true), set_config('transaction_timeout', '300s', true)
    """
)

_SAVE_OPT_OUTS = text(
    """
    INSERT INTO opt_outs AS s (organisation_id, phone, opted_out, changed_at, source, message_id, version)
    SELECT * FROM unnest(CAST(:organisations AS text[]), CAST(:phones AS text[]), CAST(:opted_out AS boolean[]),
                         CAST(:times AS timestamptz[]), CAST(:sources AS text[]), CAST(:messages AS bigint[]),
                         CAST(:versions AS bigint[]))
    ON CONFLICT (phone, organisation_id) DO UPDATE
    SET opted_out = excluded.opted_out, changed_at = excluded.changed_at, source = excluded.source,
        message_id = excluded.message_id, version = excluded.version, received_at = now()
    WHERE s.version < excluded.version
    """
)
# Contacts follow what was heard of their numbers in the last minutes, longer than any transaction lasts (an import
# has 300 s): one that is being written meanwhile is not seen, or is locked, and has its turn in the loop. So this
# waits for nobody. What a person set by hand is left alone by a START.
_APPLY_OPT_OUTS = text(
    """
    WITH behind AS (
        SELECT c.id, s.opted_out, s.changed_at, s.source, s.message_id
        FROM opt_outs s JOIN contacts c ON c.phone = s.phone AND c.organisation_id = s.organisation_id
        WHERE s.received_at > now() - interval '10 minutes'
          AND c.opt_out_source IS DISTINCT FROM 'manual'
          AND (c.opted_out_at, c.opt_out_source, c.opt_out_message_id) IS DISTINCT FROM
              (CASE WHEN s.opted_out THEN s.changed_at END, CASE WHEN s.opted_out THEN s.source END,
               CASE WHEN s.opted_out THEN s.message_id END)
        LIMIT 500 FOR UPDATE OF c SKIP LOCKED
    )
    UPDATE contacts c
    SET opt_out = b.opted_out, opted_out_at = CASE WHEN b.opted_out THEN b.changed_at END,
        opt_out_source = CASE WHEN b.opted_out THEN b.source END,
        opt_out_message_id = CASE WHEN b.opted_out THEN b.message_id END,
        opt_in_confirmed_at = CASE WHEN NOT b.opted_out THEN c.opt_in_confirmed_at END,
        version = c.version + 1, updated_by = NULL, updated_at = now()
    FROM behind b WHERE c.id = b.id AND c.id = ANY(ARRAY(SELECT id FROM behind))
    RETURNING c.id
    """
)
_FIND_OPT_OUT = text("SELECT changed_at, source, message_id FROM opt_outs WHERE phone = :phone AND opted_out")
_WITHDRAW_OPT_OUT = text(
    """
    UPDATE opt_outs SET opted_out = false, changed_at = :now, source = 'confirmed', message_id = NULL, received_at = now()
    WHERE phone = :phone AND opted_out
    """
)


async def page(
    session: AsyncSession, wanted: Page, *, patterns: Sequence[str], exclude_group_id: int | None
) -> tuple[Sequence[Any], int]:
    """A page of the active contacts, newest first, and how many there are. Patterns: see rules.search_patterns."""
    search = "" if not patterns else "indexed" if min(map(len, patterns)) >= _SHORTEST_INDEXED else "short"
    values: dict[str, Any] = {"patterns": list(patterns)} if patterns else {}
    if exclude_group_id is not None:
        values["group_id"] = exclude_group_id
    values |= {"limit": wanted.limit, "offset": wanted.offset}
    rows = (await session.execute(_LISTS[search, exclude_group_id is not None], values)).all()
    return [row for row in rows if row.id is not None], rows[0].total


async def page_of_group(session: AsyncSession, wanted: Page, group_id: int) -> Sequence[Any]:
    """A page of a group's active members by name."""
    values = {"group_id": group_id, "limit": wanted.limit, "offset": wanted.offset}
    return (await session.execute(_MEMBERS, values)).all()


async def find_group(session: AsyncSession, group_id: int) -> bool | None:
    """Whether a group is active; None when there is none."""
    return await session.scalar(select(groups.c.is_active).where(groups.c.id == group_id))


async def get(session: AsyncSession, contact_id: int, *, lock: bool = False) -> Any:
    """The contact, active or not; with `lock` no other transaction changes it before this one ends."""
    statement = select(contacts).where(contacts.c.id == contact_id)
    row = (await session.execute(statement.with_for_update() if lock else statement)).first()
    if row is None:
        raise NotFound
    return row


async def add(session: AsyncSession, values: Mapping[str, Any], user_id: int | None) -> Any:
    """A new contact, or the deleted one with this phone, back with what was given. Raises PhoneTaken.

    Its version is 1 when it is new. An opt-out stays, whatever was given.
    """
    adding = insert(contacts).values(**values, created_by=user_id, updated_by=user_id)
    new = adding.excluded
    back: dict[str, Any] = {
        **{name: new[name] for name in values},
        "is_active": new.is_active,
        "opt_out": contacts.c.opt_out | new.opt_out,
        **{name: case((contacts.c.opt_out, contacts.c[name]), else_=new[name]) for name in _OPT_OUT},
        "version": contacts.c.version + 1,
        "updated_by": user_id,
        "updated_at": func.now(),
    }
    statement = adding.on_conflict_do_update(
        constraint="contacts_phone",
        set_=back,
        where=~contacts.c.is_active,
    ).returning(contacts)
    row = (await session.execute(statement)).first()
    if row is None:
        raise PhoneTaken
    return row


async def change(session: AsyncSession, contact_id: int, values: Mapping[str, Any], user_id: int | None) -> Any:
    """The contact with its new values. Raises PhoneTaken; the transaction is lost then."""
    statement = (
        update(contacts)
        .where(contacts.c.id == contact_id)
        .values(**values, updated_by=user_id, updated_at=func.now())
        .returning(contacts)
    )
    try:
        return (await session.execute(statement)).one()
    except IntegrityError as error:
        if "contacts_phone" in str(error.orig):
            raise PhoneTaken from None
        raise


async def find_membership(session: AsyncSession, user_id: int) -> bool | None:
    """Whether a user is an active member here; None when never one."""
    statement = text(
        "SELECT m.is_active AND u.is_active FROM memberships m JOIN users u ON u.id = m.user_id"
        " WHERE m.user_id = :user_id"
    )
    found: bool | None = await session.scalar(statement, {"user_id": user_id})
    return found


async def activity(session: AsyncSession, contact_ids: Sequence[int]) -> dict[int, bool]:
    """Which of the contacts there are, and whether they are active."""
    statement = select(contacts.c.id, contacts.c.is_active).where(contacts.c.id == func.any(list(contact_ids)))
    return {row.id: row.is_active for row in await session.execute(statement)}


async def states(session: AsyncSession, contact_ids: Sequence[int]) -> list[tuple[str, ContactState]]:
    """The contacts as others keep them, each with its organisation."""
    statement = _STATE_ALL_TENANTS.where(contacts.c.id == func.any(list(contact_ids)))
    return [(row.organisation_id, _state(row)) for row in await session.execute(statement)]


async def list_changed_since_all_tenants(
    session: AsyncSession, since: datetime, after_id: int, limit: int
) -> list[tuple[str, ContactState]]:
    """The same of contacts that changed since then, or were born opted out, by id, beyond the id `after_id`."""
    statement = _STATE_ALL_TENANTS.where(contacts.c.id > after_id, contacts.c.updated_at >= since)
    statement = statement.where((contacts.c.version > 1) | contacts.c.opt_out).limit(limit)
    return [(row.organisation_id, _state(row)) for row in await session.execute(statement)]


async def recipients(
    session: AsyncSession, contact_id: int | None, phone: str | None
) -> tuple[list[ContactState], bool]:
    """The contact with this id and the one with this phone, active or not; and whether that phone has stopped."""
    rows = (await session.execute(_RECIPIENT, {"contact_id": contact_id, "phone": phone})).all()
    return [_state(row) for row in rows if row.contact_id is not None], rows[0].opted_out


async def save_opt_outs_all_tenants(session: AsyncSession, opt_outs: Sequence[OptOutChanged]) -> None:
    """Keeps what is newer than what is known; each number is there once, in order of the keys."""
    await session.execute(
        _SAVE_OPT_OUTS,
        {
            "organisations": [stop.organisation_id for stop in opt_outs],
            "phones": [stop.phone for stop in opt_outs],
            "opted_out": [stop.opted_out for stop in opt_outs],
            "times": [stop.changed_at for stop in opt_outs],
            "sources": [stop.source for stop in opt_outs],
            "messages": [stop.message_id for stop in opt_outs],
            "versions": [stop.version for stop in opt_outs],
        },
    )


async def apply_opt_outs_all_tenants(session: AsyncSession) -> list[int]:
    """Opts contacts out and in as their numbers were heard to stop or start; the ids of some that changed."""
    return list((await session.scalars(_APPLY_OPT_OUTS)).all())


async def find_opt_out(session: AsyncSession, phone: str) -> Any:
    """When, how and by which message a number opted_out: `changed_at, source, message_id`; None when it has not."""
    return (await session.execute(_FIND_OPT_OUT, {"phone": phone})).one_or_none()


async def withdraw_opt_out(session: AsyncSession, phone: str, now: datetime) -> None:
    """The number may be written to again, until delivery says something newer."""
    await session.execute(_WITHDRAW_OPT_OUT, {"phone": phone, "now": now})


async def eligible_members(
    session: AsyncSession, group_id: int, after: int, limit: int, joined_before: Any
) -> list[ContactState]:
    """Members who may be written to, by id, beyond the id `after`; at most `limit`."""
    statement = (
        _STATE.join(group_members, group_members.c.contact_id == contacts.c.id)
        .where(group_members.c.group_id == group_id, group_members.c.contact_id > after)
        .where(contacts.c.is_active, ~contacts.c.opt_out)
        .order_by(group_members.c.contact_id)
        .limit(limit)
    )
    if joined_before is not None:
        statement = statement.where(group_members.c.joined_at <= joined_before)
    return [_state(row) for row in await session.execute(statement)]


def _state(row: Any) -> ContactState:
    columns = row._mapping
    return ContactState.model_validate({**columns, "fields": {name: columns[name] for name in PLACEHOLDERS}})


async def begin_import(session: AsyncSession) -> None:
    """Waits until this is the organisation's only import."""
    await session.execute(_BEGIN_IMPORT)


async def import_rows(
    session: AsyncSession, columns: Mapping[str, Sequence[Any]], user_id: int | None, *, update_existing: bool
) -> Sequence[Any]:
    """Writes a batch whose phones are distinct. Per row: `id` (null: refused), `was_active` (null: new), `opt_out`,
    `in_file`."""
    values = {**columns, "user_id": user_id, "update": update_existing}
    return (await session.execute(_IMPORT, values)).all()


async def join_group(session: AsyncSession, group_id: int, contact_ids: Sequence[int]) -> None:
    """Makes imported contacts members of a group; those who are stay it."""
    await session.execute(
        text(
            "INSERT INTO group_members (group_id, contact_id)"
            " SELECT :group_id, id FROM unnest(CAST(:contact_ids AS bigint[])) AS c (id) ON CONFLICT DO NOTHING"
        ),
        {"group_id": group_id, "contact_ids": contact_ids},
    )


async def deactivate_all(session: AsyncSession, organisation_id: str) -> None:
    """Soft-deletes every contact of an organisation (across tenants, so it names it)."""
    await session.execute(
        text(
            "UPDATE contacts SET is_active = false, version = version + 1, updated_by = NULL, updated_at = now()"
            " WHERE organisation_id = :organisation_id AND is_active"
        ),
        {"organisation_id": organisation_id},
    )
