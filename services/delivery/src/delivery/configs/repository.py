"""Every statement on configs."""
# ruff: noqa: S608 (the parts of the statements are constants)

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from common.paging import Page
from delivery.configs.rules import CHAINS, DEFAULT_ZONE, SENDER, TIMEZONE
from delivery.models import ConfigRow, columns, read_rows

_COLUMNS = columns(ConfigRow)
_ROUTING_NAMES = ", ".join(f"'{spec.name}'" for spec in (*CHAINS.values(), SENDER))
_VALUES = text(
    """
    SELECT organisation_id, name, value FROM configs
    WHERE organisation_id = ANY(CAST(:organisations AS text[])) AND name = ANY(CAST(:names AS text[]))
    """
)
_ROUTING = text(
    f"""
    SELECT c.organisation_id, c.name, c.value,
           ARRAY(SELECT s.sender_id FROM sender_ids s
                 WHERE c.name = '{SENDER.name}' AND s.organisation_id = c.organisation_id) AS assigned
    FROM configs c WHERE c.name IN ({_ROUTING_NAMES}) AND c.value <> ''
    """
)
_PAGE = text(f"SELECT {_COLUMNS} FROM configs ORDER BY lower(name), id LIMIT :limit OFFSET :offset")
_FIND = text(f"SELECT {_COLUMNS} FROM configs WHERE id = :id")
_LOCK = text(f"SELECT {_COLUMNS} FROM configs WHERE id = :id FOR UPDATE")
_ADD = text(
    f"""
    INSERT INTO configs (organisation_id, name, value) VALUES (:organisation, :name, :value)
    ON CONFLICT (organisation_id, name) DO NOTHING RETURNING {_COLUMNS}
    """
)
_CHANGE = text(f"UPDATE configs SET name = :name, value = :value WHERE id = :id RETURNING {_COLUMNS}")
# A change that is still uncommitted may have drawn a lower version than the republished one, yet commit after it was
# read. The lock makes every such change wait, or be seen.
_LOCK_TABLE = text("LOCK TABLE configs IN SHARE MODE")
_ZONES = text(
    """
    SELECT known.organisation_id, coalesce(z.value, :default) AS zone, nextval('settings_versions') AS version
    FROM (SELECT organisation_id FROM configs WHERE organisation_id > :after
          UNION SELECT organisation_id FROM limit_usage WHERE organisation_id > :after
          ORDER BY 1 LIMIT :batch) AS known
    LEFT JOIN configs z ON z.organisation_id = known.organisation_id AND z.name = :name
    ORDER BY 1
    """
)


async def values(
    session: AsyncSession, organisations: Collection[str], names: Collection[str]
) -> dict[tuple[str, str], str]:
    """Return (organisation, name) → value, for the configs that exist."""
    rows = await session.execute(_VALUES, {"organisations": list(organisations), "names": list(names)})
    return {(row.organisation_id, row.name): row.value for row in rows}


async def routing_all_tenants(session: AsyncSession) -> Sequence[Row[Any]]:
    """Return the configs about routing: `organisation_id`, `name`, `value`.

    `assigned` has the sender IDs of the organisation, in the row of its config `sender`.
    """
    return (await session.execute(_ROUTING)).all()


async def page(session: AsyncSession, wanted: Page) -> tuple[list[ConfigRow], int]:
    """Return a page of the organisation's configs by name (in any case) and id, and the number of all."""
    rows = await session.execute(_PAGE, {"limit": wanted.limit, "offset": wanted.offset})
    return read_rows(ConfigRow, rows), await session.scalar(text("SELECT count(*) FROM configs")) or 0


async def find(session: AsyncSession, config_id: int) -> ConfigRow | None:
    """Return a config of the session's organisation."""
    return _first(await session.execute(_FIND, {"id": config_id}))


async def find_and_lock(session: AsyncSession, config_id: int) -> ConfigRow | None:
    """Lock and return a config of the session's organisation."""
    return _first(await session.execute(_LOCK, {"id": config_id}))


async def add(session: AsyncSession, organisation_id: str, name: str, value: str) -> ConfigRow | None:
    """Insert a config. Return None when the organisation has one of that name."""
    return _first(await session.execute(_ADD, {"organisation": organisation_id, "name": name, "value": value}))


async def has_name(session: AsyncSession, name: str) -> bool:
    """Return whether the session's organisation has a config of that name."""
    return bool(await session.scalar(text("SELECT EXISTS (SELECT FROM configs WHERE name = :name)"), {"name": name}))


async def change(session: AsyncSession, config: ConfigRow) -> ConfigRow:
    """Write the name and the value of a config. Raises IntegrityError when the name exists by now."""
    (changed,) = read_rows(ConfigRow, await session.execute(_CHANGE, config._asdict()))
    return changed


async def next_settings_version(session: AsyncSession) -> int:
    """Return a new version for SettingsChanged.

    It is drawn under the lock of the changed config: the later of two changes has the higher version.
    """
    return int(await session.scalar(text("SELECT nextval('settings_versions')")) or 0)


async def zones_all_tenants(session: AsyncSession, after: str, batch: int) -> Sequence[Row[Any]]:
    """Return `organisation_id`, `zone` and a new `version` of the organisations after `after`.

    No config changes until the transaction ends.
    """
    await session.execute(_LOCK_TABLE)
    parameters = {"after": after, "batch": batch, "name": TIMEZONE.name, "default": DEFAULT_ZONE}
    return (await session.execute(_ZONES, parameters)).all()


def _first(rows: Any) -> ConfigRow | None:
    return next(iter(read_rows(ConfigRow, rows)), None)
