"""Every statement that writes contacts and the opt-outs of numbers, and those that read single contacts."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Row, case, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from common.errors import NotFound
from common.events import OptOutChanged
from common.statements import ORGANISATION, ORGANISATION_CTE, Statement, Tenant
from contacts.contacts.rules import ANY_ERASED, IMPORT_FIELDS, IS_ERASED, MAX_LENGTHS, NUMBER_OPT_OUT, SHOWN_COLUMNS
from contacts.errors import PhoneExists
from contacts.models import ContactRow, ImportedRow, NumberOptOut, OptOutSource, contacts

_CONTACT = tuple(contacts.c[name] for name in ContactRow._fields)
_CONTACT_SQL = ", ".join(f"c.{name}" for name in ContactRow._fields)
_OPT_OUT_COLUMNS = ("opted_out_at", "opt_out_source", "opt_out_message_id")

_SHOWN = ", ".join(f"c.{name}" for name in SHOWN_COLUMNS)
_READ = Statement(
    f"""
    SELECT {_SHOWN} FROM {ORGANISATION}
    CROSS JOIN LATERAL (SELECT * FROM contacts WHERE id = $2 AND organisation_id = o.id) c
    """  # noqa: S608  # constants of this file
)
# New contacts in the usual case, in one statement. A contact whose phone exists or is opted out is not added, nor the
# second of two with one phone.
_ADD_NEW = Statement(
    f"""
    WITH {ORGANISATION_CTE}, given AS MATERIALIZED (
        SELECT o.id AS organisation_id, row_number() OVER (PARTITION BY n.phone ORDER BY n.position) AS occurrence, n.*
        FROM o CROSS JOIN LATERAL jsonb_to_recordset($2::jsonb) AS n (
            position int, user_id bigint, is_active boolean, {", ".join(f"{name} text" for name in IMPORT_FIELDS)})
    ),
    added AS (
        INSERT INTO contacts AS c (organisation_id, created_by, updated_by, is_active, {", ".join(IMPORT_FIELDS)})
        SELECT g.organisation_id, g.user_id, g.user_id, g.is_active, {", ".join(f"g.{name}" for name in IMPORT_FIELDS)}
        FROM given g
        WHERE g.occurrence = 1
          AND NOT EXISTS ({NUMBER_OPT_OUT.format(phone="g.phone", organisation="g.organisation_id")})
        ORDER BY g.phone
        ON CONFLICT ON CONSTRAINT contacts_phone DO NOTHING
        RETURNING {_SHOWN}
    )
    SELECT g.position, a.* FROM given g JOIN added a ON a.phone = g.phone WHERE g.occurrence = 1
    """  # noqa: S608  # constants of this file
)

# Each column of a batch is sent as one text, because asyncpg takes ten times as long for a list. No value contains the
# separator, a control character. Such a text cannot show a single empty value, so missing values are read as empty.
_SEPARATOR = "\x1f"
_OWN = "current_setting('app.organisation_id')"  # the organisation of a tenant session
_IMPORTED = ", ".join(f"string_to_array(:{name}, chr({ord(_SEPARATOR)}))" for name in IMPORT_FIELDS)
# One batch of an import. A row adds a contact, restores a deleted one, or (with :update) changes an active one.
# Otherwise the row is refused.
IMPORT = text(
    f"""
    WITH given AS (
        SELECT row, {", ".join(f"COALESCE({name}, '') AS {name}" for name in IMPORT_FIELDS)}
        FROM unnest({_IMPORTED}) WITH ORDINALITY AS g ({", ".join(IMPORT_FIELDS)}, row)
    ), written AS (
        INSERT INTO contacts AS c ({", ".join(IMPORT_FIELDS)}, created_by, updated_by,
                                   opt_out, opted_out_at, opt_out_source, opt_out_message_id)
        SELECT {", ".join(f"g.{name}" for name in IMPORT_FIELDS)}, CAST(:user_id AS bigint), CAST(:user_id AS bigint),
               o.source IS NOT NULL, o.changed_at, o.source, o.message_id
        -- A new contact is opted out if its number is. Existing contacts already are.
        FROM given g LEFT JOIN LATERAL (
            {NUMBER_OPT_OUT.format(phone="g.phone", organisation=_OWN)}
        ) o ON true
        ORDER BY row
        -- An empty value changes nothing.
        ON CONFLICT ON CONSTRAINT contacts_phone DO UPDATE SET
            {", ".join(f"{name} = COALESCE(NULLIF(EXCLUDED.{name}, ''), c.{name})" for name in MAX_LENGTHS)},
            is_active = true, version = c.version + 1, updated_by = EXCLUDED.updated_by, updated_at = now()
        -- Deleted contacts are restored. Active ones are changed only with the option, and not if this transaction
        -- wrote them (their updated_at is now()), because then an earlier row of the file has the phone.
        WHERE NOT c.is_active OR (CAST(:update AS boolean) AND c.updated_at <> now())
        -- A refused row returns nothing, so `written` has no row for its phone.
        RETURNING id, phone, version, opt_out
    )
    SELECT given.row, written.id, written.opt_out, before.is_active, before.updated_at = now()
    FROM given LEFT JOIN written USING (phone)
    -- The contact as it was before the statement. It is read through the index, and not for new contacts, whose version
    -- is 1.
    LEFT JOIN LATERAL (
        SELECT c.is_active, c.updated_at FROM contacts c
        WHERE c.phone = given.phone AND written.version IS DISTINCT FROM 1 LIMIT 1
    ) before ON true
    -- If all rows are new and not opted out, PostgreSQL does not join them.
    WHERE CAST(:with_new AS boolean) OR (
        (SELECT count(*) FROM written WHERE version = 1 AND NOT opt_out) < (SELECT count(*) FROM given)
        AND (written.version IS DISTINCT FROM 1 OR written.opt_out))
    """  # noqa: S608  # constants of this file
)
# One import of an organisation runs at a time, because two imports with the same phones in another order would lock
# each other. Plans are made for the table as it grows, not once for an empty table.
_IMPORT_LOCK = "hashtextextended('contacts.import:' || current_setting('app.organisation_id'), 0)"
_BEGIN_IMPORT = text(
    f"SELECT pg_try_advisory_xact_lock({_IMPORT_LOCK}), set_config('plan_cache_mode', 'force_custom_plan', true)"
)
# A file of 10 MB may need 300 s. A time-out that is already running cannot be changed, but it can be ended and started
# again. A worker waits for the lock, and waiting ends with the time-out of a statement.
_BEGIN_LONG_IMPORT = text(
    f"""
    SELECT set_config('transaction_timeout', '0', true), set_config('transaction_timeout', '300s', true),
           set_config('plan_cache_mode', 'force_custom_plan', true), pg_advisory_xact_lock({_IMPORT_LOCK})
    """
)

_NUMBER = Columns(
    organisation_id="text",
    phone="text",
    opted_out="boolean",
    changed_at="timestamptz",
    source="text",
    message_id="bigint",
    version="bigint",
)
_SAVE_OPT_OUTS = text(
    f"""
    WITH removed AS (
        DELETE FROM erased_opt_outs e USING {_NUMBER.unnest("new")}
        WHERE {ANY_ERASED} AND e.version < new.version
          AND {IS_ERASED.format(organisation="new.organisation_id", phone="new.phone")}
    )
    INSERT INTO opt_outs AS o ({", ".join(_NUMBER.names)})
    SELECT * FROM {_NUMBER.unnest("new")}
    -- An event that is older than the erasure of its phone must not bring the phone back.
    WHERE NOT ({ANY_ERASED} AND EXISTS (
        SELECT FROM erased_opt_outs e
        WHERE e.version >= new.version AND {IS_ERASED.format(organisation="new.organisation_id", phone="new.phone")}))
    ON CONFLICT (phone, organisation_id) DO UPDATE
    SET opted_out = excluded.opted_out, changed_at = excluded.changed_at, source = excluded.source,
        message_id = excluded.message_id, version = excluded.version, received_at = now()
    WHERE o.version < excluded.version
    """  # noqa: S608  # constants of this file
)
# A contact that another transaction has locked is skipped, and a contact that is not committed yet is not seen. The
# loop repeats this statement and reaches both, as long as the row of the number is younger than 10 minutes, which is
# longer than any transaction lasts (300 s for an import). An opt-in does not change an opt-out that a person set.
APPLY_OPT_OUTS = text(
    f"""
    WITH outdated AS (
        SELECT c.id, o.opted_out, o.changed_at, o.source, o.message_id
        FROM opt_outs o JOIN contacts c ON c.phone = o.phone AND c.organisation_id = o.organisation_id
        WHERE o.received_at > now() - interval '10 minutes'
          AND c.opt_out_source IS DISTINCT FROM '{OptOutSource.MANUAL}'
          AND (c.opted_out_at, c.opt_out_source, c.opt_out_message_id) IS DISTINCT FROM
              (CASE WHEN o.opted_out THEN o.changed_at END, CASE WHEN o.opted_out THEN o.source END,
               CASE WHEN o.opted_out THEN o.message_id END)
        LIMIT 500 FOR UPDATE OF c SKIP LOCKED
    )
    UPDATE contacts c
    SET opt_out = o.opted_out, opted_out_at = CASE WHEN o.opted_out THEN o.changed_at END,
        opt_out_source = CASE WHEN o.opted_out THEN o.source END,
        opt_out_message_id = CASE WHEN o.opted_out THEN o.message_id END,
        opt_in_confirmed_at = CASE WHEN NOT o.opted_out THEN c.opt_in_confirmed_at END,
        version = c.version + 1, updated_by = NULL, updated_at = now()
    FROM outdated o WHERE c.id = o.id AND c.id = ANY(ARRAY(SELECT id FROM outdated))
    RETURNING {_CONTACT_SQL}
    """  # noqa: S608  # constants of this file
)
_CLEAN_SEARCH_INDEX = text("SELECT clean_search_index()")
_FIND_OPT_OUT = text(NUMBER_OPT_OUT.format(phone="CAST(:phone AS text)", organisation=_OWN))
_WITHDRAW_OPT_OUT = text(
    f"""
    WITH removed AS (
        DELETE FROM erased_opt_outs e WHERE {IS_ERASED.format(organisation=_OWN, phone="CAST(:phone AS text)")}
    )
    UPDATE opt_outs
    SET opted_out = false, changed_at = :now, source = '{OptOutSource.CONFIRMED}', message_id = NULL,
        received_at = now()
    WHERE phone = :phone AND opted_out
    """  # noqa: S608  # a constant
)


def _contacts(rows: Iterable[Row[Any]]) -> list[ContactRow]:
    return [ContactRow._make(row) for row in rows]


async def read(tenant: Tenant, contact_id: int) -> Mapping[str, Any]:
    """Return the shown columns of a contact, active or deleted. Raises NotFound."""
    row: Mapping[str, Any] | None = await tenant.fetch_row(_READ, contact_id)
    if row is None:
        raise NotFound
    return row


async def add_new(
    tenant: Tenant, new: Sequence[tuple[Mapping[str, Any], int | None]]
) -> list[Mapping[str, Any] | None]:
    """Add contacts, given by their values and their user, in the usual case: the phone is new and not opted out.

    Return the shown columns of each, or None otherwise.
    """
    given = [
        {
            **{name: values.get(name, "") for name in IMPORT_FIELDS},
            "is_active": values.get("is_active", True),
            "user_id": user_id,
            "position": position,
        }
        for position, (values, user_id) in enumerate(new)
    ]
    added: list[Mapping[str, Any] | None] = [None] * len(given)
    for row in await tenant.fetch(_ADD_NEW, orjson.dumps(given).decode()):
        added[row["position"]] = row
    return added


async def lock(session: AsyncSession, contact_id: int) -> ContactRow:
    """Return the contact and lock it until this transaction ends. Raises NotFound."""
    row = (await session.execute(select(*_CONTACT).where(contacts.c.id == contact_id).with_for_update())).first()
    if row is None:
        raise NotFound
    return ContactRow._make(row)


async def add(session: AsyncSession, values: Mapping[str, Any], user_id: int | None) -> ContactRow:
    """Add a contact, or restore the deleted contact with this phone and change it. Raises PhoneExists.

    A new contact has version 1. A restored contact keeps its opt-out, whatever the values say.
    """
    adding = insert(contacts).values(**values, created_by=user_id, updated_by=user_id)
    new = adding.excluded
    restored: dict[str, Any] = {
        **{name: new[name] for name in values},
        "is_active": new.is_active,
        "opt_out": contacts.c.opt_out | new.opt_out,
        **{name: case((contacts.c.opt_out, contacts.c[name]), else_=new[name]) for name in _OPT_OUT_COLUMNS},
        "version": contacts.c.version + 1,
        "updated_by": user_id,
        "updated_at": func.now(),
    }
    statement = adding.on_conflict_do_update(
        constraint="contacts_phone",
        set_=restored,
        where=~contacts.c.is_active,
    ).returning(*_CONTACT)
    row = (await session.execute(statement)).first()
    if row is None:
        raise PhoneExists
    return ContactRow._make(row)


async def change(session: AsyncSession, contact_id: int, values: Mapping[str, Any], user_id: int | None) -> ContactRow:
    """Change a contact and return it. Raises PhoneExists; then the transaction can only be rolled back."""
    statement = (
        update(contacts)
        .where(contacts.c.id == contact_id)
        .values(**values, updated_by=user_id, updated_at=func.now())
        .returning(*_CONTACT)
    )
    try:
        return ContactRow._make((await session.execute(statement)).one())
    except IntegrityError as error:
        if "contacts_phone" in str(error.orig):
            raise PhoneExists from None
        raise


async def find_membership(session: AsyncSession, user_id: int) -> bool | None:
    """Return whether a user is an active member of the organisation, or None if the user never was a member."""
    statement = text(
        "SELECT m.is_active AND u.is_active FROM memberships m JOIN users u ON u.id = m.user_id"
        " WHERE m.user_id = :user_id"
    )
    found: bool | None = await session.scalar(statement, {"user_id": user_id})
    return found


async def list_activity(session: AsyncSession, contact_ids: Sequence[int]) -> dict[int, bool]:
    """Return whether each contact is active. Contacts that do not exist are missing."""
    statement = select(contacts.c.id, contacts.c.is_active).where(contacts.c.id == func.any(list(contact_ids)))
    return {row.id: row.is_active for row in await session.execute(statement)}


async def list_by_ids(session: AsyncSession, contact_ids: Sequence[int]) -> list[ContactRow]:
    """Return the contacts with these ids, by id."""
    statement = select(*_CONTACT).where(contacts.c.id == func.any(list(contact_ids))).order_by(contacts.c.id)
    return _contacts(await session.execute(statement))


async def list_changed_since_all_tenants(
    session: AsyncSession, since: datetime, after_id: int, limit: int
) -> list[ContactRow]:
    """Return contacts that changed after `since` or were created opted out after it, by id, from `after_id` on."""
    statement = (
        select(*_CONTACT)
        .where(contacts.c.id > after_id, contacts.c.updated_at >= since)
        .where((contacts.c.version > 1) | contacts.c.opt_out)
        .order_by(contacts.c.id)
        .limit(limit)
    )
    return _contacts(await session.execute(statement))


async def save_opt_outs_all_tenants(session: AsyncSession, states: Sequence[OptOutChanged]) -> None:
    """Save the states of numbers that are newer than the saved ones. Each number occurs once, in order of the keys."""
    await session.execute(_SAVE_OPT_OUTS, _NUMBER.bind(states))


async def apply_opt_outs_all_tenants(session: AsyncSession) -> list[ContactRow]:
    """Opt up to 500 contacts out or in by the opt-outs of the last 10 minutes. Return the changed contacts by id."""
    return sorted(_contacts(await session.execute(APPLY_OPT_OUTS)), key=lambda contact: contact.id)


async def find_opt_out(session: AsyncSession, phone: str) -> NumberOptOut | None:
    """Return the opt-out of a number, or None if the number is not opted out."""
    row = (await session.execute(_FIND_OPT_OUT, {"phone": phone})).one_or_none()
    return None if row is None else NumberOptOut._make(row)


async def withdraw_opt_out(session: AsyncSession, phone: str, now: datetime) -> None:
    """Opt a number in by a confirmed consent. Its version stays, so newer states of delivery still apply."""
    await session.execute(_WITHDRAW_OPT_OUT, {"phone": phone, "now": now})


async def begin_import(session: AsyncSession) -> bool:
    """Lock the imports of the organisation. Return False while another import of the organisation runs."""
    return bool(await session.scalar(_BEGIN_IMPORT))


async def begin_long_import(session: AsyncSession) -> None:
    """Set the time-out of the transaction to 300 s, and wait for the lock on the organisation's imports."""
    await session.execute(_BEGIN_LONG_IMPORT)


async def import_rows(
    session: AsyncSession,
    columns: Mapping[str, Sequence[str]],
    user_id: int | None,
    *,
    update_existing: bool,
    with_new: bool,
) -> list[ImportedRow]:
    """Write a batch of rows with distinct phones and return their results, those of new contacts only `with_new`.

    `columns` has the cleaned values of IMPORT_FIELDS.
    """
    values = {
        **{name: _SEPARATOR.join(column) if any(column) else "" for name, column in columns.items()},
        "user_id": user_id,
        "update": update_existing,
        "with_new": with_new,
    }
    return [ImportedRow._make(row) for row in await session.execute(IMPORT, values)]


async def clean_search_index_all_tenants(session: AsyncSession) -> int:
    """Move the pending entries of the search index into it. Return the number of pages that they had."""
    return int(await session.scalar(_CLEAN_SEARCH_INDEX) or 0)


async def delete_of_organisation_all_tenants(session: AsyncSession, organisation_id: str) -> None:
    """Delete every contact of an organisation softly."""
    await session.execute(
        text(
            "UPDATE contacts SET is_active = false, version = version + 1, updated_by = NULL, updated_at = now()"
            " WHERE organisation_id = :organisation_id AND is_active"
        ),
        {"organisation_id": organisation_id},
    )
