"""The statements that erase a person's schedules. No index has the phones of all schedules, so they read in pages."""
# ruff: noqa: S608 (the parts of the statements are constants)

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from common.bulk import Columns
from scheduling.retention import REMOVE_CONTENT

_CONTACT = Columns(organisation_id="text", contact_id="bigint")
# The window is materialised, so that PostgreSQL reads it by the primary key and then compares.
_FIND = text(
    f"""
    WITH page AS MATERIALIZED (
        SELECT id, organisation_id, contact_id, phone, kind, status FROM schedules
        WHERE id > :after ORDER BY id LIMIT :size
    ), found AS (
        SELECT p.id, p.status FROM page p
        WHERE p.kind <> 'batch' AND p.phone <> 'erased'
          AND (CAST(:organisation AS text) IS NULL OR p.organisation_id = :organisation)
          AND (p.phone = :phone OR (p.organisation_id, p.contact_id) IN (SELECT * FROM {_CONTACT.unnest("c")}))
    )
    SELECT (SELECT max(id) FROM page) AS last, (SELECT count(*) FROM page) AS size,
           (SELECT coalesce(array_agg(id) FILTER (WHERE status <> 'processing'), '{{}}') FROM found) AS ids,
           (SELECT count(*) FROM found WHERE status = 'pending') AS pending,
           (SELECT count(*) FROM found WHERE status = 'processing') AS processing
    """
)
# The text of a message of a batch is set, too, so that it does not show its batch's.
_ERASE = text(
    f"""
    UPDATE schedules SET {REMOVE_CONTENT.replace("CASE WHEN text IS NOT NULL THEN '' END", "''")},
        phone = 'erased', name = NULL, template_id = NULL, template_version = NULL,
        status = CASE WHEN status = 'pending' THEN 'cancelled' ELSE status END,
        updated_at = CASE WHEN status = 'pending' THEN now() ELSE updated_at END
    WHERE id = ANY(CAST(:ids AS bigint[])) AND status <> 'processing' AND kind <> 'batch'
    RETURNING id
    """
)


class FoundPage(NamedTuple):
    """A page of schedules by id: its last id, its size, and the person's schedules in it."""

    last: int | None
    size: int
    ids: list[int]
    pending: int
    processing: int


async def find_all_tenants(
    session: AsyncSession,
    phone: str,
    organisation: str | None,
    contacts: Collection[tuple[str, int]],
    *,
    after: int,
    size: int,
) -> FoundPage:
    """Return the schedules of a phone, or of these (organisation, contact), among `size` ones from the id `after` on.

    Those in processing are only counted.
    """
    values = {"phone": phone, "organisation": organisation, "after": after, "size": size}
    row = (await session.execute(_FIND, {**values, **_CONTACT.bind_tuples(list(contacts))})).one()
    return FoundPage(*row)


async def erase_all_tenants(session: AsyncSession, ids: Collection[int]) -> int:
    """Remove the content and the phone of these schedules, and cancel pending ones. Return how many."""
    return len((await session.scalars(_ERASE, {"ids": list(ids)})).all()) if ids else 0
