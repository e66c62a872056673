"""Record the row that each row of an earlier system became, with a hash of what was imported."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Generic, NamedTuple, TypeVar

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns

Row = TypeVar("Row")
_MOVED = Columns(
    kind="text",
    old_id="bigint",
    system="text",
    organisation_id="text",
    new_id="bigint",
    group_id="bigint",
    month="date",
    hash="text",
    is_compared="boolean",
)
_FIND = text(
    """
    SELECT organisation_id, old_id, new_id, hash, is_compared FROM moved_rows
    WHERE kind = :kind AND system = :system AND old_id = ANY(CAST(:ids AS bigint[]))
      AND organisation_id = ANY(CAST(:organisations AS text[]))
    """
)
_SAVE = text(
    f"""
    INSERT INTO moved_rows ({", ".join(_MOVED.names)}) SELECT * FROM {_MOVED.unnest("new")}
    ON CONFLICT (kind, old_id, system, organisation_id) DO UPDATE
    SET new_id = excluded.new_id, group_id = excluded.group_id, month = excluded.month, hash = excluded.hash,
        is_compared = excluded.is_compared
    """  # noqa: S608  # constants of this file
)
_PAGE = text(
    """
    SELECT kind, old_id, organisation_id, new_id FROM moved_rows
    WHERE system = :system AND (kind, old_id, organisation_id) > (:kind, :old_id, :organisation_id)
      AND kind <> 'member' AND organisation_id = ANY(CAST(:organisations AS text[]))
    ORDER BY kind, old_id, organisation_id LIMIT :size
    """
)
_PAGE_ROWS = 5000
# The check reads all rows of a kind, which takes longer than a request may.
_ALLOW_LONG_CHECK = text(
    """
    SELECT set_config('statement_timeout', '900s', true), set_config('transaction_timeout', '0', true),
           set_config('transaction_timeout', '900s', true)
    """
)


class MovedRow(NamedTuple):
    """A row of an earlier system and the row that it became. `month` is that of its time, for the check.

    `is_compared` is false in two cases: a contact was merged, so that it has the values of another row, or the status
    of a schedule may change here. The check leaves these values out.
    """

    kind: str
    old_id: int
    system: str
    organisation_id: str
    new_id: int
    hash: str
    month: date | None = None
    group_id: int | None = None
    is_compared: bool = True


class OldId(NamedTuple):
    """The id of a row in the earlier system of an organisation. Another organisation's system may have the same id."""

    organisation_id: str
    old_id: int


class KnownRow(NamedTuple):
    """The row that a row of an earlier system became, and the hash of what was imported."""

    new_id: int
    hash: str
    is_compared: bool


class PageRows(NamedTuple, Generic[Row]):
    """The rows of a page that are new, those that changed since they were imported, and what is known of the page."""

    new: list[Row]
    changed: list[Row]
    known: dict[int, KnownRow]

    @property
    def changed_ids(self) -> dict[int, int]:
        """The ids here of the changed rows, by old id."""
        return {row.old_id: self.known[row.old_id].new_id for row in self.changed}  # type: ignore[attr-defined]  # each row has it


class MovedId(NamedTuple):
    """The old id of a row and its new one."""

    kind: str
    old_id: int
    organisation_id: str
    new_id: int


class CheckedMonth(NamedTuple):
    """The rows of a kind and a month that exist here, and the sum of the checksums of their values."""

    kind: str
    month: date | None
    rows: int
    checksum: int


class Written(NamedTuple):
    """The changes of a page: rows added, rows updated, and (old id, reason) of those that were rejected."""

    added: int = 0
    updated: int = 0
    merged: tuple[int, ...] = ()
    rejected: tuple[tuple[int, str], ...] = ()


def to_json(rows: Iterable[Any], new_ids: Mapping[int, int] | None = None) -> str:
    """Return named tuples as a JSON array for `json_to_recordset`, with `new_id` by the rows' `old_id`."""
    if new_ids is None:
        return orjson.dumps([row._asdict() for row in rows]).decode()
    return orjson.dumps([row._asdict() | {"new_id": new_ids[row.old_id]} for row in rows]).decode()


def hash_row(row: Any) -> str:
    """Return the hash of what is imported of a row: of its `source_values()` if it has them, else of all values."""
    values = row.source_values() if hasattr(row, "source_values") else tuple(row)
    return hashlib.blake2b(orjson.dumps(values), digest_size=16).hexdigest()


def moved_row(system: str, kind: str, row: Any, new_id: int, **further: Any) -> MovedRow:
    """Return the record of a row and the row that it became. `further` has fields of `MovedRow`."""
    return MovedRow(
        kind=kind,
        old_id=row.old_id,
        system=system,
        organisation_id=row.organisation_id,
        new_id=new_id,
        hash=hash_row(row),
        month=getattr(row, "month", None),
        **further,
    )


def checksum_sql(*expressions: str) -> str:
    """Return the SQL of a sum of row checksums. Null values are left out, as `checksum` leaves out None."""
    digits = f"left(md5(concat_ws('|', {', '.join(expressions)})), 15)"
    return f"coalesce(sum(CAST(CAST('x' || {digits} AS bit(60)) AS bigint)), 0)"


def checksum(*values: Any) -> int:
    """Return the checksum of a row's values, which the database computes in the same way."""
    joined = "|".join(str(value) for value in values if value is not None)
    return int(hashlib.md5(joined.encode(), usedforsecurity=False).hexdigest()[:15], 16)


async def split_rows(session: AsyncSession, system: str, kind: str, rows: Sequence[Row]) -> PageRows[Row]:
    """Find out which rows of a page are new and which changed since they were imported."""
    given: Sequence[Any] = rows
    owners = {row.old_id: row.organisation_id for row in given}
    found = await session.execute(_FIND, {"kind": kind, "system": system, **bind_ids(given)})
    known = {row.old_id: KnownRow(*row[2:]) for row in found if owners[row.old_id] == row.organisation_id}
    return PageRows(
        new=[row for row in given if row.old_id not in known],
        changed=[row for row in given if row.old_id in known and known[row.old_id].hash != hash_row(row)],
        known=known,
    )


async def find_new_ids(session: AsyncSession, system: str, kind: str, ids: Collection[OldId]) -> dict[OldId, int]:
    """Return the ids that rows have here. Rows that were not imported are missing."""
    rows = await session.execute(_FIND, {"kind": kind, "system": system, **bind_ids(ids)}) if ids else ()
    return {key: row.new_id for row in rows if (key := OldId(row.organisation_id, row.old_id)) in ids}


def bind_ids(ids: Collection[Any]) -> dict[str, list[Any]]:
    """Return the bind values `ids` and `organisations` for a condition that compares each of them with its own array.

    Such a condition also finds an old id of one pair with the organisation of another, so the caller must drop rows
    whose pair is not among `ids`.
    """
    return {"ids": sorted({key.old_id for key in ids}), "organisations": sorted({key.organisation_id for key in ids})}


async def save(session: AsyncSession, rows: Sequence[MovedRow]) -> None:
    """Save what rows became, in the transaction that writes them."""
    if rows:
        await session.execute(_SAVE, _MOVED.bind(rows))


async def page_ids(
    session: AsyncSession, system: str, organisations: Collection[str], after: MovedId | None
) -> list[MovedId]:
    """Return old and new ids of organisations after `after`, or the first page."""
    start = after or MovedId("", 0, "", 0)
    values = {"system": system, "organisations": list(organisations), "size": _PAGE_ROWS, **start._asdict()}
    return [MovedId(*row) for row in await session.execute(_PAGE, values)]


async def check(
    session: AsyncSession, system: str, organisations: Collection[str], checks: Mapping[str, tuple[Sequence[str], str]]
) -> list[CheckedMonth]:
    """Return the number and the checksums of the rows that exist here, by kind and month.

    `checks` has the compared SQL values and the joins of each kind. `m` is the moved row.
    """
    await allow_long_check(session)
    found = []
    for kind, (values, joins) in checks.items():
        statement = f"""
            SELECT m.month, count(*), {checksum_sql(*values)} FROM moved_rows m {joins}
            WHERE m.kind = :kind AND m.system = :system AND m.organisation_id = ANY(CAST(:organisations AS text[]))
            GROUP BY m.month
        """  # noqa: S608  # constants of the services
        bound = {"kind": kind, "system": system, "organisations": list(organisations)}
        found += [
            CheckedMonth(kind, row[0], row[1], int(row[2])) for row in await session.execute(text(statement), bound)
        ]
    return found


async def allow_long_check(session: AsyncSession) -> None:
    """Give the transaction 900 s."""
    await session.execute(_ALLOW_LONG_CHECK)
