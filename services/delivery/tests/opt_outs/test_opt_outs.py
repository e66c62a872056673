"""Opt-outs: the newest change counts, only effective changes are published, and two first changes do not conflict."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import permutations

from common.events import OptOutChanged
from delivery.opt_outs import service
from delivery.opt_outs.rules import OptOutChange, OptOutState, apply_changes
from services.delivery.tests.stage import Stage

AT = datetime(2026, 4, 4, 16, 30, tzinfo=UTC)
PHONE = "+61453000001"
OPTED_IN = OptOutState(opted_out=False, at=datetime.fromtimestamp(0, UTC))


def change(organisation: str, minute: int, *, opted_out: bool, message_id: int | None = None) -> OptOutChange:
    return OptOutChange(
        organisation_id=organisation,
        phone=PHONE,
        opted_out=opted_out,
        at=AT + timedelta(minutes=minute),
        source="reply",
        message_id=message_id,
    )


async def apply(stage: Stage, *changes: OptOutChange) -> list[OptOutChange]:
    """Apply changes in one transaction, and return those that took effect."""
    async with stage.database.all_tenants() as session:
        return await service.apply_opt_out_changes(session, changes)


def test_the_newest_change_counts_in_every_order() -> None:
    changes = [
        change("org", 0, opted_out=True),
        change("org", 5, opted_out=False),
        change("org", 9, opted_out=True),
        change("org", 11, opted_out=False),
        change("org", 12, opted_out=True),
    ]
    for order in permutations(changes):
        state = OPTED_IN
        for one in order:
            state, _ = apply_changes(state, [one])
        assert (state.opted_out, state.at) == (True, changes[-1].at)


def test_of_two_changes_in_one_second_the_later_arrival_counts() -> None:
    stop, start = change("org", 9, opted_out=True), change("org", 9, opted_out=False)
    assert apply_changes(OPTED_IN, [stop, start]) == (OptOutState(False, start.at, start), [stop, start])
    opted_out, _ = apply_changes(OPTED_IN, [stop])
    assert apply_changes(opted_out, [start])[0] == OptOutState(False, start.at, start)
    assert apply_changes(opted_out, [stop])[1] == []


async def test_an_opt_out_and_its_end_are_published_once_with_growing_versions(stage: Stage) -> None:
    stop = change(stage.organisation, 0, opted_out=True, message_id=7)
    start = change(stage.organisation, 2, opted_out=False, message_id=8)
    assert await apply(stage, stop) == [stop]
    assert await apply(stage, stop, change(stage.organisation, 1, opted_out=True)) == []
    assert await apply(stage, start) == [start]
    assert await apply(stage, stop) == [], "older than the opt-in"
    events = [event for event in await stage.events() if isinstance(event, OptOutChanged)]
    assert [(e.opted_out, e.message_id, e.phone, e.source) for e in events] == [
        (True, 7, PHONE, "reply"),
        (False, 8, PHONE, "reply"),
    ]
    assert events[0].version < events[1].version
    assert events[0].key() == events[1].key()
    (row,) = await stage.rows("SELECT * FROM opt_outs")
    assert (row.opted_out, row.changed_at, row.version) == (False, start.at, events[1].version)


async def test_changes_of_one_batch_that_cancel_each_other_are_not_published(stage: Stage) -> None:
    stop, start = change(stage.organisation, 0, opted_out=True), change(stage.organisation, 1, opted_out=False)
    assert await apply(stage, start, stop) == [stop, start]
    assert await stage.events() == []


async def test_concurrent_first_changes_leave_the_newest_with_the_highest_version(stage: Stage) -> None:
    changes = [change(stage.organisation, minute, opted_out=minute % 2 == 0) for minute in range(9)]
    await asyncio.gather(*(apply(stage, one) for one in changes))
    (row,) = await stage.rows("SELECT opted_out, version, changed_at FROM opt_outs")
    newest = max(await stage.events(), key=lambda event: event.version)
    assert (row.opted_out, row.changed_at) == (True, changes[-1].at)
    assert (newest.version, newest.opted_out) == (row.version, True)


async def test_a_providers_opt_out_lasts_until_a_newer_confirmation(stage: Stage) -> None:
    now = datetime.now(UTC)
    mine, other = (stage.organisation, PHONE), ("org_other", PHONE)
    async with stage.database.all_tenants() as session:
        await service.add_provider_opt_outs(session, [mine, mine, other])
    async with stage.database.all_tenants() as session:
        await service.confirm_opt_ins(session, [(*mine, now - timedelta(hours=1))])
        assert await service.find_opted_out(session, {mine}) == {mine}
        await service.confirm_opt_ins(session, [(*mine, now + timedelta(hours=1))])
        assert await service.find_opted_out(session, {mine, other}) == {other}
    events = [(e.organisation_id, e.opted_out, e.source) for e in await stage.events()]
    assert sorted(events[:2]) == sorted([(stage.organisation, True, "provider"), ("org_other", True, "provider")])
    assert events[2:] == [(stage.organisation, False, "confirmed")]


async def test_opted_out_phones_of_an_organisation_are_counted(stage: Stage) -> None:
    stored = (("org_1", 1, True), ("org_1", 2, False), ("org_1", 3, True), ("org_2", 1, True))
    for organisation, phone, opted_out in stored:
        await stage.execute(
            "INSERT INTO opt_outs (organisation_id, phone, opted_out, changed_at, source, version)"
            f" VALUES ('{organisation}', '+6149157000{phone}', {opted_out}, now(), 'reply', 1)"
        )
    async with stage.database.tenant("org_1") as session:
        assert await service.count_opted_out(session) == 2
