"""Stops: the newest word counts, only a change is told, and two first words wait for each other."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from common.database import Database
from common.events import OptOutChanged
from delivery.opt_outs import service
from delivery.opt_outs.rules import AccountStatus, Word, follow

AT = datetime(2026, 4, 4, 16, 30, tzinfo=UTC)
PHONE = "+61453000001"
NEVER = AccountStatus(False, datetime.fromtimestamp(0, UTC))


def word(organisation: str, minute: int, *, stopped: bool, message_id: int | None = None) -> Word:
    return Word(organisation, PHONE, stopped, AT + timedelta(minutes=minute), "reply", message_id)


@pytest.fixture
def hear(database: Database) -> Callable[..., Awaitable[list[Word]]]:
    """`await hear(word, …)`: one committed batch; the words that changed something."""

    async def run(*words: Word) -> list[Word]:
        async with database.all_tenants() as session:
            return await service.hear_words(session, words)

    return run


def test_the_newest_word_counts_in_every_order() -> None:
    words = [
        word("org", 0, stopped=True),
        word("org", 5, stopped=False),
        word("org", 9, stopped=True),
        word("org", 11, stopped=False),
        word("org", 12, stopped=True),
    ]
    for order in permutations(words):
        standing = NEVER
        for said in order:
            standing, _ = follow(standing, [said])
        assert (standing.stopped, standing.at) == (True, words[-1].at)


def test_of_two_words_in_one_second_the_one_that_was_told_later_counts() -> None:
    stop, start = word("org", 9, stopped=True), word("org", 9, stopped=False)
    assert follow(NEVER, [stop, start]) == (AccountStatus(False, start.at, start), [stop, start])
    stopped, _ = follow(NEVER, [stop])
    assert follow(stopped, [start])[0] == AccountStatus(False, start.at, start)
    assert follow(stopped, [stop])[1] == []


async def test_a_stop_and_its_end_are_told_once_each_with_growing_versions(
    hear: Any, organisation: str, database: Database, outbox_events: Any, rows: Any
) -> None:
    stop, start = word(organisation, 0, stopped=True, message_id=7), word(organisation, 2, stopped=False, message_id=8)
    assert await hear(stop) == [stop]
    assert await hear(stop, word(organisation, 1, stopped=True)) == []
    assert await hear(start) == [start]
    assert await hear(stop) == [], "late"
    told = [event for event in await outbox_events(database) if isinstance(event, OptOutChanged)]
    assert [(e.stopped, e.message_id, e.phone, e.source) for e in told] == [
        (True, 7, PHONE, "reply"),
        (False, 8, PHONE, "reply"),
    ]
    assert told[0].version < told[1].version
    assert told[0].key() == told[1].key()
    (row,) = await rows("SELECT * FROM stops")
    assert (row.stopped, row.changed_at, row.version) == (False, start.at, told[1].version)


async def test_words_of_one_batch_that_come_to_nothing_are_not_told(
    hear: Any, organisation: str, database: Database, outbox_events: Any
) -> None:
    stop, start = word(organisation, 0, stopped=True), word(organisation, 1, stopped=False)
    assert await hear(start, stop) == [stop, start]
    assert await outbox_events(database) == []


async def test_two_first_words_at_once_leave_the_newest_under_the_highest_version(
    hear: Any, organisation: str, database: Database, outbox_events: Any, rows: Any
) -> None:
    words = [word(organisation, minute, stopped=minute % 2 == 0) for minute in range(9)]
    await asyncio.gather(*(hear(said) for said in words))
    (row,) = await rows("SELECT stopped, version, changed_at FROM stops")
    told = await outbox_events(database)
    assert (row.stopped, row.changed_at) == (True, words[-1].at)
    assert max(told, key=lambda event: event.version).version == row.version
    assert max(told, key=lambda event: event.version).stopped


async def test_a_providers_refusal_is_learned_and_a_later_confirmation_lifts_it(
    database: Database, organisation: str, outbox_events: Any
) -> None:
    now = datetime.now(UTC)
    async with database.all_tenants() as session:
        await service.learn_stops(session, [(organisation, PHONE), (organisation, PHONE), ("org_other", PHONE)])
    async with database.all_tenants() as session:
        await service.confirm_opt_ins(session, [(organisation, PHONE, now - timedelta(hours=1))])
        assert await service.find_stopped(session, {(organisation, PHONE)}) == {(organisation, PHONE)}
        await service.confirm_opt_ins(session, [(organisation, PHONE, now + timedelta(hours=1))])
        assert await service.find_stopped(session, {(organisation, PHONE), ("org_other", PHONE)}) == {
            ("org_other", PHONE)
        }
    told = [(e.organisation_id, e.stopped, e.source) for e in await outbox_events(database)]
    assert sorted(told[:2]) == sorted([(organisation, True, "provider"), ("org_other", True, "provider")])
    assert told[2:] == [(organisation, False, "confirmed")]
