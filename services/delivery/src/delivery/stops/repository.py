"""Every statement on stops."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from delivery.stops.rules import Standing, Word

Number = tuple[str, str]  # organisation and phone

# The row is there before the first word counts, so that two first words wait for each other. Sorted, so that two
# transactions take the same rows in the same order.
_LOCK = text(
    """
    INSERT INTO stops (organisation_id, phone, stopped, changed_at, source, version)
    SELECT n.organisation_id, n.phone, false, to_timestamp(0), 'confirmed', nextval('stop_versions')
    FROM unnest(CAST(:organisations AS text[]), CAST(:phones AS text[])) AS n (organisation_id, phone)
    ORDER BY n.phone, n.organisation_id
    ON CONFLICT (phone, organisation_id) DO UPDATE SET version = stops.version
    RETURNING organisation_id, phone, stopped, changed_at
    """
)
_KEEP = text(
    """
    UPDATE stops s SET changed_at = n.changed_at
    FROM unnest(CAST(:organisations AS text[]), CAST(:phones AS text[]), CAST(:moments AS timestamptz[]))
        AS n (organisation_id, phone, changed_at)
    WHERE s.phone = n.phone AND s.organisation_id = n.organisation_id
    """
)
# The version is drawn under the row's lock: of two changes the later one has the higher.
_CHANGE = text(
    """
    UPDATE stops s SET stopped = n.stopped, source = n.source, message_id = n.message_id,
                       version = nextval('stop_versions')
    FROM unnest(CAST(:organisations AS text[]), CAST(:phones AS text[]), CAST(:stopped AS boolean[]),
                CAST(:sources AS text[]), CAST(:message_ids AS bigint[]))
        AS n (organisation_id, phone, stopped, source, message_id)
    WHERE s.phone = n.phone AND s.organisation_id = n.organisation_id
    RETURNING s.organisation_id, s.phone, s.stopped, s.changed_at, s.source, s.message_id, s.version
    """
)
_STOPPED = text(
    """
    SELECT s.organisation_id, s.phone
    FROM unnest(CAST(:organisations AS text[]), CAST(:phones AS text[])) AS n (organisation_id, phone)
    JOIN stops s USING (phone, organisation_id) WHERE s.stopped
    """
)
_SINCE = text(
    """
    SELECT organisation_id, phone, stopped, changed_at, source, message_id, version FROM stops
    WHERE changed_at >= :since AND (phone, organisation_id) > (:phone, :organisation)
    ORDER BY phone, organisation_id LIMIT :batch
    """
)


def _columns(numbers: Collection[Number]) -> dict[str, list[Any]]:
    return {
        "organisations": [organisation for organisation, _ in numbers],
        "phones": [phone for _, phone in numbers],
    }


async def lock(session: AsyncSession, numbers: Collection[Number]) -> dict[Number, Standing]:
    """Locks what is known of each number; of one that was never heard of, that it has not stopped."""
    rows = await session.execute(_LOCK, _columns(numbers))
    return {(row.organisation_id, row.phone): Standing(row.stopped, row.changed_at) for row in rows}


async def keep(session: AsyncSession, standings: Mapping[Number, Standing]) -> None:
    """Writes the moments of the last words."""
    moments = [standing.at for standing in standings.values()]
    await session.execute(_KEEP, {**_columns(standings), "moments": moments})


async def change(session: AsyncSession, words: Mapping[Number, Word]) -> Sequence[Row[Any]]:
    """Writes what the words say under new versions: the rows as they are then."""
    said = words.values()
    parameters = {
        "stopped": [word.stopped for word in said],
        "sources": [word.source for word in said],
        "message_ids": [word.message_id for word in said],
    }
    return (await session.execute(_CHANGE, {**_columns(words), **parameters})).all()


async def stopped(session: AsyncSession, numbers: Collection[Number]) -> set[Number]:
    """Which of the numbers have stopped."""
    rows = await session.execute(_STOPPED, _columns(numbers))
    return {(row.organisation_id, row.phone) for row in rows}


async def changed_since_all_tenants(
    session: AsyncSession, since: datetime, after: tuple[str, str], batch: int
) -> Sequence[Row[Any]]:
    """Numbers with a word since then, beyond (phone, organisation): the rows as they are."""
    phone, organisation = after
    given = {"since": since, "phone": phone, "organisation": organisation, "batch": batch}
    return (await session.execute(_SINCE, given)).all()
