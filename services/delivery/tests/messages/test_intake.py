"""What comes off the bus: taken in once, refused at once, with its place in the limit."""

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from common.database import Database
from common.events import ContactChanged, ContactState, MessageFailed, OrganisationChanged, ScheduleDue
from delivery.limits import service as limits
from delivery.limits.schemas import HoldIn
from delivery.messages import service
from delivery.organisations.service import hear_organisations

Due = Callable[..., ScheduleDue]
Rows = Callable[..., Awaitable[list[Any]]]
TakeIn = Callable[..., Awaitable[None]]
Statuses = Callable[[], Awaitable[list[str]]]
Events = Callable[[Database], Awaitable[list[Any]]]
HOLD = UUID(int=1)
APRIL = datetime(2026, 4, 10, tzinfo=UTC)


async def taken(rows: Rows) -> int:
    return sum(row.usage for row in await stage.rows("SELECT usage FROM limit_usage"))


async def hold(database: Database, organisation: str, units: int, reference: UUID = HOLD) -> None:
    async with stage.database.tenant(stage.organisation) as session:
        wanted = HoldIn(format="sms", units=units, scheduled_time=APRIL)
        await limits.hold_places(session, stage.organisation, reference, wanted)


async def test_the_same_event_again_changes_nothing(stage: Stage) -> None:
    batch = [stage.due(), stage.due(parts=3)]
    await stage.add_due(*batch)
    await stage.add_due(*batch)
    await stage.add_due(batch[1])
    assert len(await stage.rows("SELECT id FROM messages")) == 2
    assert await stage.usage() == 4


async def test_another_run_of_a_schedule_is_another_message(stage: Stage) -> None:
    first = stage.due()
    await stage.add_due(first)
    await stage.add_due(stage.due(schedule_id=first.schedule_id, dispatch_number=2))
    assert await stage.statuses() == ["queued", "queued"]


async def test_a_batch_of_500_against_300_left_sends_300(stage: Stage) -> None:
    await stage.set_config("sms_limit", "300")
    await stage.add_due(*(stage.due() for _ in range(500)))
    counts = {row.status: row.count for row in await stage.rows("SELECT status, count(*) FROM messages GROUP BY 1")}
    assert counts == {"queued": 300, "failed": 200}
    assert await stage.usage() == 300
    events = await stage.events()
    assert len(events) == 200
    assert all(isinstance(e, MessageFailed) and e.failure_category == "limit_exceeded" and e.version == 1 for e in events)


async def test_a_limit_of_one_format_or_organisation_is_not_anothers(stage: Stage) -> None:
    await stage.set_config("sms_limit", "0")
    await stage.add_due(stage.due(), stage.due(format="mms", media_url="https://x.test/a.png"), stage.due(organisation_id="org_other"))
    assert await stage.statuses() == ["failed", "queued", "queued"]


async def test_a_limit_counts_what_went_out_before_it_was_set(stage: Stage) -> None:
    await stage.add_due(stage.due(parts=2))
    await stage.set_config("sms_limit", "3")
    await stage.add_due(stage.due(parts=2), stage.due(parts=1))
    assert await stage.statuses() == ["queued", "failed", "queued"]


async def test_the_month_is_that_of_the_organisations_zone(stage: Stage) -> None:
    turn = datetime(2026, 3, 31, 14, 0, tzinfo=UTC)  # 1 April in Adelaide, still 31 March in Perth
    await stage.add_due(stage.due(scheduled_time=turn))
    await stage.set_config("timezone", "Australia/Perth")
    await stage.add_due(stage.due(scheduled_time=turn))
    periods = [row.period for row in await stage.rows("SELECT period FROM messages ORDER BY id")]
    assert periods == [date(2026, 4, 1), date(2026, 3, 1)]


async def test_a_hold_gives_its_places_to_the_messages(stage: Stage) -> None:
    await stage.set_config("sms_limit", "5")
    await hold(stage.database, stage.organisation, 4)
    assert await stage.usage() == 4
    children = [stage.due(hold=HOLD, scheduled_time=APRIL, parts=parts) for parts in (1, 2, 2, 1)]
    await stage.add_due(*children)
    # The third needs one more than the hold has left, which the limit gives; the fourth finds nothing.
    assert await stage.statuses() == ["queued", "queued", "queued", "failed"]
    assert await stage.usage() == 5
    assert [row.units for row in await stage.rows("SELECT units FROM holds")] == [0]
    async with stage.database.tenant(stage.organisation) as session:
        await limits.release_holds(session, [HOLD])
    assert await stage.usage() == 5


async def test_a_refused_child_leaves_the_hold_to_the_others(stage: Stage) -> None:
    await stage.set_config("sms_limit", "2")
    await hold(stage.database, stage.organisation, 2)
    await stage.add_due(*(stage.due(hold=HOLD, scheduled_time=APRIL, parts=parts) for parts in (3, 1, 1)))
    assert await stage.statuses() == ["failed", "queued", "queued"]


async def test_a_hold_that_is_gone_is_taken_afresh_and_a_retry_never_draws_on_it(stage: Stage) -> None:
    await stage.add_due(stage.due(hold=UUID(int=9), scheduled_time=APRIL))
    await hold(stage.database, stage.organisation, 1)
    await stage.add_due(stage.due(hold=HOLD, dispatch_number=2, scheduled_time=APRIL))
    assert await stage.usage() == 3
    assert [row.units for row in await stage.rows("SELECT units FROM holds")] == [1]


async def test_an_opted_out_contact_is_refused_by_id_and_by_number(stage: Stage) -> None:
    state = ContactState(contact_id=7, version=3, phone="+61453000007", is_active=False, opt_out=True)
    async with stage.database.all_tenants() as session:
        await service.hear_contacts(session, [ContactChanged(organisation_id=stage.organisation, contacts=(state,))])
    await stage.add_due(
        stage.due(contact_id=7),
        stage.due(phone="+61453000007"),
        stage.due(contact_id=8),
        stage.due(phone="+61453000007", organisation_id="org_other"),
    )
    assert await stage.failures() == [("failed", "opted_out"), ("failed", "opted_out"), ("queued", None), ("queued", None)]
    assert await stage.usage() == 2
    assert [event.failure_category for event in await stage.events()] == ["opted_out", "opted_out"]


async def test_of_a_contacts_states_the_newest_wins_in_any_order(stage: Stage) -> None:
    def changed(version: int, opt_out: bool) -> ContactChanged:
        contact = ContactState(contact_id=7, version=version, phone="+61453000007", is_active=True, opt_out=opt_out)
        return ContactChanged(organisation_id=stage.organisation, contacts=(contact,))

    async with stage.database.all_tenants() as session:
        await service.hear_contacts(session, [changed(3, False), changed(2, True)])
        await service.hear_contacts(session, [changed(2, True), changed(1, False)])
    await stage.add_due(stage.due(contact_id=7))
    assert await stage.statuses() == ["queued"]
    async with stage.database.all_tenants() as session:
        await service.hear_contacts(session, [changed(4, True)])
    await stage.add_due(stage.due(contact_id=7))
    assert await stage.statuses() == ["queued", "failed"]


async def test_a_closed_organisation_is_refused_until_it_opens_again(stage: Stage) -> None:
    async def hear(version: int, closed: bool) -> None:
        async with stage.database.all_tenants() as session:
            event = OrganisationChanged(organisation_id=stage.organisation, closed=closed, version=version)
            await hear_organisations(session, [event])

    await hear(2, True)
    await hear(1, False)
    await stage.add_due(stage.due())
    await hear(3, False)
    await stage.add_due(stage.due())
    assert await stage.statuses() == ["failed", "queued"]
