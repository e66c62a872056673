"""Every statement that writes the configs of an earlier system, and the check of them."""
# ruff: noqa: S608 (the parts of the statements are constants)

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from delivery.moving_in.schemas import ConfigIn

_CONFIG = Columns(organisation_id="text", name="text", value="text")
_SAVE = text(
    f"""
    INSERT INTO configs AS c (organisation_id, name, value) SELECT * FROM {_CONFIG.unnest("n")}
    ON CONFLICT (organisation_id, name) DO UPDATE SET value = excluded.value
    RETURNING c.organisation_id, c.name, c.id
    """
)
CHECKS = {
    "config": (
        ("m.old_id", "c.name", "c.value"),
        "JOIN configs c ON c.id = m.new_id AND c.organisation_id = m.organisation_id",
    )
}


async def save_all_tenants(session: AsyncSession, rows: Sequence[ConfigIn]) -> dict[tuple[str, str], int]:
    """Add or replace configs with distinct names, and return their ids by organisation and name."""
    written = await session.execute(_SAVE, _CONFIG.bind(rows))
    return {(row.organisation_id, row.name): row.id for row in written}
