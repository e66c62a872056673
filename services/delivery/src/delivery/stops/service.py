"""Use cases of stops: numbers that an organisation may not write to, and those that may be written to again."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from common.events import StopChanged
from common.outbox import publish
from delivery.stops import repository
from delivery.stops.rules import Word, follow

__all__ = ["Word", "confirm_opt_ins", "find_stopped", "hear_words", "learn_stops", "republish_stops"]


async def hear_words(session: AsyncSession, words: Sequence[Word]) -> list[Word]:
    """Applies what was said of numbers, tells what it changed (StopChanged), and returns the words that changed it."""
    said: dict[tuple[str, str], list[Word]] = {}
    for word in words:
        said.setdefault((word.organisation_id, word.phone), []).append(word)
    if not said:
        return []
    known = await repository.lock(session, said)
    changing: list[Word] = []
    changed: dict[tuple[str, str], Word] = {}
    newer = {}
    for number, of_number in said.items():
        standing, changes = follow(known[number], of_number)
        changing += changes
        if standing.at != known[number].at:
            newer[number] = standing
        if standing.stopped != known[number].stopped and standing.said_by is not None:
            changed[number] = standing.said_by
    if newer:
        await repository.keep(session, newer)
    await _change(session, changed)
    return changing


async def _change(session: AsyncSession, changed: dict[tuple[str, str], Word]) -> None:
    if not changed:
        return
    rows = await repository.change(session, changed)
    await publish(session, [_event(row, changed[row.organisation_id, row.phone].request_id) for row in rows])


def _event(row: Row[Any], request_id: str) -> StopChanged:
    return StopChanged(
        organisation_id=row.organisation_id,
        request_id=request_id,
        phone=row.phone,
        stopped=row.stopped,
        changed_at=row.changed_at,
        source=row.source,
        message_id=row.message_id,
        version=row.version,
    )


async def republish_stops(
    session: AsyncSession, since: datetime, after: tuple[str, str], batch: int
) -> tuple[str, str] | None:
    """Publishes again a batch of the stops, and of their ends, that somebody said since then.

    `after` (phone, organisation) is where the last batch ended, two "" at first; returns where this one did, None when
    there is no more.
    """
    rows = await repository.changed_since_all_tenants(session, since, after, batch)
    await publish(session, [_event(row, "") for row in rows])
    return (rows[-1].phone, rows[-1].organisation_id) if len(rows) == batch else None


async def learn_stops(session: AsyncSession, numbers: Sequence[tuple[str, str]]) -> None:
    """A provider refused these (organisation, phone), as somebody has stopped there."""
    now = datetime.now(UTC)
    await hear_words(session, [Word(organisation, phone, True, now, "provider") for organisation, phone in numbers])


async def confirm_opt_ins(session: AsyncSession, numbers: Sequence[tuple[str, str, datetime]]) -> None:
    """Somebody confirmed at a time that a phone may be written to again: (organisation, phone, time).

    A confirmation that is older than the stop lifts nothing.
    """
    await hear_words(
        session, [Word(organisation, phone, False, at, "confirmed") for organisation, phone, at in numbers]
    )


async def find_stopped(session: AsyncSession, numbers: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of these (organisation, phone) have stopped."""
    return await repository.stopped(session, numbers) if numbers else set()
