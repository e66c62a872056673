"""Every statement on `opt_outs`, `erased_opt_outs` and `contact_opt_outs` but for the erasure of a phone."""
# ruff: noqa: S608 (the parts of the statements are constants)

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from common.events import ContactState
from delivery.opt_outs.rules import ANY_ERASED, IS_ERASED, Number, OptOutChange, OptOutRow, OptOutState

_ROW = "organisation_id, phone, opted_out, changed_at, source, message_id, version"
_NUMBERS = Columns(organisation_id="text", phone="text")
_TIMES = Columns(organisation_id="text", phone="text", at="timestamptz")
_CHANGES = Columns(organisation_id="text", phone="text", opted_out="boolean", source="text", message_id="bigint")
_CONTACTS = Columns(organisation_id="text", contact_id="bigint", phone="text", opt_out="boolean", version="bigint")

# The row is inserted before the first change is applied, so that two first changes of a number wait for each other.
# Sorted, so that two transactions lock the same rows in the same order. A number with an erased opt-out gets no row
# here, because most changes have no effect on it and must not store the phone.
_LOCK = text(
    f"""
    WITH erased AS (
        SELECT n.organisation_id, n.phone, e.changed_at
        FROM {_NUMBERS.unnest("n")} JOIN erased_opt_outs e ON {IS_ERASED.format(m="n")}
        WHERE {ANY_ERASED} ORDER BY n.phone, n.organisation_id FOR UPDATE OF e
    ), locked AS (
        INSERT INTO opt_outs AS o (organisation_id, phone, opted_out, changed_at, source, version)
        SELECT n.organisation_id, n.phone, false, to_timestamp(0), 'confirmed', nextval('opt_out_versions')
        FROM {_NUMBERS.unnest("n")} LEFT JOIN erased e USING (organisation_id, phone)
        WHERE e.phone IS NULL
        ORDER BY n.phone, n.organisation_id
        ON CONFLICT (phone, organisation_id) DO UPDATE SET version = o.version
        RETURNING o.organisation_id, o.phone, o.opted_out, o.changed_at
    )
    SELECT organisation_id, phone, opted_out, changed_at, false AS is_erased FROM locked
    UNION ALL SELECT organisation_id, phone, true, changed_at, true FROM erased
    """
)
# The number opts in: the caller then saves the change, under a newer version.
_RESTORE = text(
    f"""
    WITH restored AS (
        DELETE FROM erased_opt_outs e USING {_NUMBERS.unnest("n")} WHERE {IS_ERASED.format(m="n")}
        RETURNING n.organisation_id, n.phone, e.changed_at, e.source
    )
    INSERT INTO opt_outs AS o (organisation_id, phone, opted_out, changed_at, source, version)
    SELECT organisation_id, phone, true, changed_at, source, nextval('opt_out_versions') FROM restored
    ORDER BY phone, organisation_id
    ON CONFLICT (phone, organisation_id) DO UPDATE
        SET opted_out = true, changed_at = excluded.changed_at, source = excluded.source, version = excluded.version
    """
)
_SAVE_TIMES = text(
    f"""
    WITH erased AS (
        UPDATE erased_opt_outs e SET changed_at = n.at
        FROM {_TIMES.unnest("n")} WHERE {ANY_ERASED} AND {IS_ERASED.format(m="n")}
    )
    UPDATE opt_outs o SET changed_at = n.at
    FROM {_TIMES.unnest("n")}
    WHERE o.phone = n.phone AND o.organisation_id = n.organisation_id
    """
)
# The version is drawn under the lock of the row, so the later of two changes has the higher version.
_CHANGE = text(
    f"""
    UPDATE opt_outs o SET opted_out = n.opted_out, source = n.source, message_id = n.message_id,
                          version = nextval('opt_out_versions')
    FROM {_CHANGES.unnest("n")}
    WHERE o.phone = n.phone AND o.organisation_id = n.organisation_id
    RETURNING o.organisation_id, o.phone, o.opted_out, o.changed_at, o.source, o.message_id, o.version
    """
)
_OPTED_OUT = text(
    f"""
    SELECT o.organisation_id, o.phone
    FROM {_NUMBERS.unnest("n")} JOIN opt_outs o USING (phone, organisation_id) WHERE o.opted_out
    UNION
    SELECT n.organisation_id, n.phone
    FROM {_NUMBERS.unnest("n")} JOIN erased_opt_outs e ON {IS_ERASED.format(m="n")}
    WHERE {ANY_ERASED}
    """
)
_COUNT = text("SELECT (SELECT count(*) FROM opt_outs WHERE opted_out) + (SELECT count(*) FROM erased_opt_outs)")
_CHANGED_SINCE = text(
    f"""
    SELECT {_ROW} FROM opt_outs
    WHERE changed_at >= :since AND (phone, organisation_id) > (:phone, :organisation_id)
    ORDER BY phone, organisation_id LIMIT :batch
    """
)
_SAVE_CONTACTS = text(
    f"""
    INSERT INTO contact_opt_outs AS c ({", ".join(_CONTACTS.names)})
    SELECT * FROM {_CONTACTS.unnest("n")}
    ON CONFLICT (organisation_id, contact_id) DO UPDATE
        SET phone = EXCLUDED.phone, opt_out = EXCLUDED.opt_out, version = EXCLUDED.version
        WHERE c.version < EXCLUDED.version
    """
)


async def lock(session: AsyncSession, numbers: Collection[Number]) -> dict[Number, OptOutState]:
    """Lock the rows of these numbers and return their states. A new number is not opted out."""
    rows = await session.execute(_LOCK, _NUMBERS.bind_tuples(numbers))
    return {
        (row.organisation_id, row.phone): OptOutState(row.opted_out, row.changed_at, is_erased=row.is_erased)
        for row in rows
    }


async def restore(session: AsyncSession, numbers: Collection[Number]) -> None:
    """Store the phone of these erased opt-outs again. They must be locked."""
    await session.execute(_RESTORE, _NUMBERS.bind_tuples(numbers))


async def save_times(session: AsyncSession, states: Mapping[Number, OptOutState]) -> None:
    """Save the times of the newest changes, also of erased opt-outs."""
    values = [(organisation, phone, state.at) for (organisation, phone), state in states.items()]
    await session.execute(_SAVE_TIMES, _TIMES.bind_tuples(values))


async def change(session: AsyncSession, changes: Collection[OptOutChange]) -> list[OptOutRow]:
    """Save these changes, one for each number, under new versions, and return the rows."""
    return [OptOutRow(*row) for row in await session.execute(_CHANGE, _CHANGES.bind(changes))]


async def find_opted_out(session: AsyncSession, numbers: Collection[Number]) -> set[Number]:
    """Return those of the numbers that are opted out."""
    rows = await session.execute(_OPTED_OUT, _NUMBERS.bind_tuples(numbers))
    return {(row.organisation_id, row.phone) for row in rows}


async def changed_since_all_tenants(
    session: AsyncSession, since: datetime, after: tuple[str, str], batch: int
) -> list[OptOutRow]:
    """Return at most `batch` numbers that changed since then, in order, after (phone, organisation)."""
    phone, organisation = after
    values = {"since": since, "phone": phone, "organisation_id": organisation, "batch": batch}
    return [OptOutRow(*row) for row in await session.execute(_CHANGED_SINCE, values)]


async def count_opted_out(session: AsyncSession) -> int:
    """Return how many phones are opted out at the organisation of a tenant session."""
    return int(await session.scalar(_COUNT) or 0)


async def save_contacts(session: AsyncSession, contacts: Sequence[tuple[str, ContactState]]) -> None:
    """Save the opt-out of these (organisation, contact) where it is newer than the saved one."""
    columns = [organisation for organisation, _ in contacts]
    states = (contact for _, contact in contacts)
    await session.execute(_SAVE_CONTACTS, _CONTACTS.bind(states, organisation_id=columns))
