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
    return sum(row.taken for row in await rows("SELECT taken FROM limits"))


async def hold(database: Database, organisation: str, units: int, reference: UUID = HOLD) -> None:
    async with database.tenant(organisation) as session:
        wanted = HoldIn(format="sms", units=units, scheduled_time=APRIL)
        await limits.hold_places(session, organisation, reference, wanted)


async def test_the_same_event_again_changes_nothing(due: Due, take_in: TakeIn, rows: Rows) -> None:
    batch = [due(), due(parts=3)]
    await take_in(*batch)
    await take_in(*batch)
    await take_in(batch[1])
    assert len(await rows("SELECT id FROM messages")) == 2
    assert await taken(rows) == 4


async def test_another_run_of_a_schedule_is_another_message(due: Due, take_in: TakeIn, statuses: Statuses) -> None:
    first = due()
    await take_in(first)
    await take_in(due(schedule_id=first.schedule_id, run=2))
    assert await statuses() == ["queued", "queued"]


async def test_a_batch_of_500_against_300_left_sends_300(
    due: Due,
    take_in: TakeIn,
    limit: Callable[[str, str], Awaitable[None]],
    rows: Rows,
    database: Database,
    outbox_events: Events,
) -> None:
    await limit("sms_limit", "300")
    await take_in(*(due() for _ in range(500)))
    counts = {row.status: row.count for row in await rows("SELECT status, count(*) FROM messages GROUP BY 1")}
    assert counts == {"queued": 300, "failed": 200}
    assert await taken(rows) == 300
    events = await outbox_events(database)
    assert len(events) == 200
    assert all(isinstance(e, MessageFailed) and e.category == "limit_exceeded" and e.version == 1 for e in events)


async def test_a_limit_of_one_format_or_organisation_is_not_anothers(
    due: Due, take_in: TakeIn, limit: Callable[[str, str], Awaitable[None]], statuses: Statuses
) -> None:
    await limit("sms_limit", "0")
    await take_in(due(), due(format="mms", media_url="https://x.test/a.png"), due(organisation_id="org_other"))
    assert await statuses() == ["failed", "queued", "queued"]


async def test_a_limit_counts_what_went_out_before_it_was_set(
    due: Due, take_in: TakeIn, limit: Callable[[str, str], Awaitable[None]], statuses: Statuses
) -> None:
    await take_in(due(parts=2))
    await limit("sms_limit", "3")
    await take_in(due(parts=2), due(parts=1))
    assert await statuses() == ["queued", "failed", "queued"]


async def test_the_month_is_that_of_the_organisations_zone(
    due: Due, take_in: TakeIn, limit: Callable[[str, str], Awaitable[None]], rows: Rows
) -> None:
    turn = datetime(2026, 3, 31, 14, 0, tzinfo=UTC)  # 1 April in Adelaide, still 31 March in Perth
    await take_in(due(scheduled_time=turn))
    await limit("timezone", "Australia/Perth")
    await take_in(due(scheduled_time=turn))
    periods = [row.period for row in await rows("SELECT period FROM messages ORDER BY id")]
    assert periods == [date(2026, 4, 1), date(2026, 3, 1)]


async def test_a_hold_gives_its_places_to_the_messages(
    due: Due,
    take_in: TakeIn,
    database: Database,
    organisation: str,
    limit: Callable[[str, str], Awaitable[None]],
    rows: Rows,
    statuses: Statuses,
) -> None:
    await limit("sms_limit", "5")
    await hold(database, organisation, 4)
    assert await taken(rows) == 4
    children = [due(hold=HOLD, scheduled_time=APRIL, parts=parts) for parts in (1, 2, 2, 1)]
    await take_in(*children)
    # The third needs one more than the hold has left, which the limit gives; the fourth finds nothing.
    assert await statuses() == ["queued", "queued", "queued", "failed"]
    assert await taken(rows) == 5
    assert [row.units for row in await rows("SELECT units FROM holds")] == [0]
    async with database.tenant(organisation) as session:
        await limits.release_holds(session, [HOLD])
    assert await taken(rows) == 5


async def test_a_refused_child_leaves_the_hold_to_the_others(
    due: Due,
    take_in: TakeIn,
    database: Database,
    organisation: str,
    limit: Callable[[str, str], Awaitable[None]],
    statuses: Statuses,
) -> None:
    await limit("sms_limit", "2")
    await hold(database, organisation, 2)
    await take_in(*(due(hold=HOLD, scheduled_time=APRIL, parts=parts) for parts in (3, 1, 1)))
    assert await statuses() == ["failed", "queued", "queued"]


async def test_a_hold_that_is_gone_is_taken_afresh_and_a_retry_never_draws_on_it(
    due: Due, take_in: TakeIn, database: Database, organisation: str, rows: Rows
) -> None:
    await take_in(due(hold=UUID(int=9), scheduled_time=APRIL))
    await hold(database, organisation, 1)
    await take_in(due(hold=HOLD, run=2, scheduled_time=APRIL))
    assert await taken(rows) == 3
    assert [row.units for row in await rows("SELECT units FROM holds")] == [1]


async def test_an_opted_out_contact_is_refused_by_id_and_by_number(
    due: Due, take_in: TakeIn, database: Database, organisation: str, rows: Rows, outbox_events: Events
) -> None:
    state = ContactState(contact_id=7, version=3, phone="+61453000007", is_active=False, opt_out=True)
    async with database.all_tenants() as session:
        await service.hear_contacts(session, [ContactChanged(organisation_id=organisation, contacts=(state,))])
    await take_in(
        due(contact_id=7),
        due(phone="+61453000007"),
        due(contact_id=8),
        due(phone="+61453000007", organisation_id="org_other"),
    )
    found = [(row.status, row.category) for row in await rows("SELECT * FROM messages ORDER BY id")]
    assert found == [("failed", "opted_out"), ("failed", "opted_out"), ("queued", None), ("queued", None)]
    assert await taken(rows) == 2
    assert [event.category for event in await outbox_events(database)] == ["opted_out", "opted_out"]


async def test_of_a_contacts_states_the_newest_wins_in_any_order(
    due: Due, take_in: TakeIn, database: Database, organisation: str, statuses: Statuses
) -> None:
    def changed(version: int, opt_out: bool) -> ContactChanged:
        contact = ContactState(contact_id=7, version=version, phone="+61453000007", is_active=True, opt_out=opt_out)
        return ContactChanged(organisation_id=organisation, contacts=(contact,))

    async with database.all_tenants() as session:
        await service.hear_contacts(session, [changed(3, False), changed(2, True)])
        await service.hear_contacts(session, [changed(2, True), changed(1, False)])
    await take_in(due(contact_id=7))
    assert await statuses() == ["queued"]
    async with database.all_tenants() as session:
        await service.hear_contacts(session, [changed(4, True)])
    await take_in(due(contact_id=7))
    assert await statuses() == ["queued", "failed"]


async def test_a_closed_organisation_is_refused_until_it_opens_again(
    due: Due, take_in: TakeIn, database: Database, organisation: str, statuses: Statuses
) -> None:
    async def hear(version: int, closed: bool) -> None:
        async with database.all_tenants() as session:
            event = OrganisationChanged(organisation_id=organisation, closed=closed, version=version)
            await hear_organisations(session, [event])

    await hear(2, True)
    await hear(1, False)
    await take_in(due())
    await hear(3, False)
    await take_in(due())
    assert await statuses() == ["failed", "queued"]
