"""Every statement on pauses."""

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from delivery.models import PauseKind, PauseRow, columns, read_rows

_COLUMNS = columns(PauseRow)
_ADD = text(
    "INSERT INTO pauses (kind, name, operator, reason) VALUES (:kind, :name, :operator, :reason) ON CONFLICT DO NOTHING"
)
_GET = text(f"SELECT {_COLUMNS} FROM pauses WHERE kind = :kind AND name = :name")  # noqa: S608  # constants
_REMOVE = text(
    f"DELETE FROM pauses WHERE kind = :kind AND name = :name RETURNING {_COLUMNS}"  # noqa: S608  # constants
)
_LIST = text(f"SELECT {_COLUMNS} FROM pauses ORDER BY kind, name")  # noqa: S608  # constants
_PROVIDERS = text("SELECT name, since FROM pauses WHERE kind = 'provider'")


async def add_all_tenants(session: AsyncSession, kind: PauseKind, name: str, *, operator: str, reason: str) -> bool:
    """Add a pause, unless there is one. Return whether it was added."""
    values = {"kind": kind, "name": name, "operator": operator, "reason": reason}
    return bool((await session.execute(_ADD, values)).rowcount)  # type: ignore[attr-defined]


async def get_all_tenants(session: AsyncSession, kind: PauseKind, name: str) -> PauseRow:
    """Return the pause that `add_all_tenants` added or found."""
    (row,) = read_rows(PauseRow, await session.execute(_GET, {"kind": kind, "name": name}))
    return row


async def remove_all_tenants(session: AsyncSession, kind: PauseKind, name: str) -> PauseRow | None:
    """Remove a pause and return it, or None when there is none."""
    rows = read_rows(PauseRow, await session.execute(_REMOVE, {"kind": kind, "name": name}))
    return rows[0] if rows else None


async def list_all_tenants(session: AsyncSession) -> list[PauseRow]:
    """Return every pause, organisations before providers, by name."""
    return read_rows(PauseRow, await session.execute(_LIST))


async def providers(session: AsyncSession) -> dict[str, datetime]:
    """Return paused provider → since when."""
    return {row.name: row.since for row in await session.execute(_PROVIDERS)}
