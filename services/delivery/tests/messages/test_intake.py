"""The intake of due schedules: each dispatch is added once, refused at once, and counted against the limit."""

from datetime import UTC, date, datetime
from uuid import UUID

from common.events import ContactChanged, ContactState, MessageFailed, OrganisationChanged
from delivery.limits import service as limits
from delivery.limits.schemas import ReservationIn
from delivery.opt_outs.service import apply_contact_changes
from delivery.organisations.service import apply_organisation_changes
from services.delivery.tests.stage import Stage

RESERVATION = UUID(int=1)
APRIL = datetime(2026, 4, 10, tzinfo=UTC)


async def reserve(stage: Stage, parts: int, reference: UUID = RESERVATION) -> None:
    async with stage.database.tenant(stage.organisation) as session:
        wanted = ReservationIn(reference=reference, format="sms", parts=parts, scheduled_time=APRIL)
        await limits.reserve(session, stage.organisation, wanted)


async def test_a_repeated_event_changes_nothing(stage: Stage) -> None:
    batch = [stage.due(), stage.due(parts=3)]
    await stage.add_due(*batch)
    await stage.add_due(*batch)
    await stage.add_due(batch[1])
    assert len(await stage.rows("SELECT id FROM messages")) == 2
    assert await stage.usage() == 4


async def test_another_dispatch_of_a_schedule_is_another_message(stage: Stage) -> None:
    first = stage.due()
    await stage.add_due(first)
    await stage.add_due(stage.due(schedule_id=first.schedule_id, dispatch_number=2))
    assert await stage.statuses() == ["queued", "queued"]


async def test_of_500_messages_300_fit_a_limit_of_300(stage: Stage) -> None:
    await stage.set_config("sms_limit", "300")
    await stage.add_due(*(stage.due() for _ in range(500)))
    counts = {row.status: row.count for row in await stage.rows("SELECT status, count(*) FROM messages GROUP BY 1")}
    assert counts == {"queued": 300, "failed": 200}
    assert await stage.usage() == 300
    events = await stage.events()
    assert len(events) == 200
    assert all(
        isinstance(e, MessageFailed) and e.failure_category == "limit_exceeded" and e.version == 1 for e in events
    )


async def test_a_limit_counts_for_one_format_and_organisation(stage: Stage) -> None:
    await stage.set_config("sms_limit", "0")
    await stage.add_due(
        stage.due(), stage.due(format="mms", media_url="https://x.test/a.png"), stage.due(organisation_id="org_other")
    )
    assert await stage.statuses() == ["failed", "queued", "queued"]


async def test_a_new_limit_counts_earlier_messages(stage: Stage) -> None:
    await stage.add_due(stage.due(parts=2))
    await stage.set_config("sms_limit", "3")
    await stage.add_due(stage.due(parts=2), stage.due(parts=1))
    assert await stage.statuses() == ["queued", "failed", "queued"]


async def test_the_month_is_that_of_the_organisations_time_zone(stage: Stage) -> None:
    turn = datetime(2026, 3, 31, 14, 0, tzinfo=UTC)  # 1 April in Adelaide, still 31 March in Perth
    await stage.add_due(stage.due(scheduled_time=turn))
    await stage.set_config("timezone", "Australia/Perth")
    await stage.add_due(stage.due(scheduled_time=turn))
    periods = [row.period for row in await stage.rows("SELECT period FROM messages ORDER BY id")]
    assert periods == [date(2026, 4, 1), date(2026, 3, 1)]


async def test_a_reservation_gives_its_parts_to_its_messages(stage: Stage) -> None:
    await stage.set_config("sms_limit", "5")
    await reserve(stage, 4)
    assert await stage.usage() == 4
    events = [stage.due(reservation=RESERVATION, scheduled_time=APRIL, parts=parts) for parts in (1, 2, 2, 1)]
    await stage.add_due(*events)
    # The third needs one part more than the reservation has left, and the limit has it. The fourth does not fit.
    assert await stage.statuses() == ["queued", "queued", "queued", "failed"]
    assert await stage.usage() == 5
    assert [row.parts for row in await stage.rows("SELECT parts FROM reservations")] == [0]
    async with stage.database.tenant(stage.organisation) as session:
        await limits.release_reservations(session, [RESERVATION])
    assert await stage.usage() == 5


async def test_a_refused_message_leaves_the_reservation_to_the_others(stage: Stage) -> None:
    await stage.set_config("sms_limit", "2")
    await reserve(stage, 2)
    await stage.add_due(*(stage.due(reservation=RESERVATION, scheduled_time=APRIL, parts=parts) for parts in (3, 1, 1)))
    assert await stage.statuses() == ["failed", "queued", "queued"]


async def test_a_released_reservation_and_a_retry_take_parts_from_the_limit(stage: Stage) -> None:
    await stage.add_due(stage.due(reservation=UUID(int=9), scheduled_time=APRIL))
    await reserve(stage, 1)
    await stage.add_due(stage.due(reservation=RESERVATION, dispatch_number=2, scheduled_time=APRIL))
    assert await stage.usage() == 3
    assert [row.parts for row in await stage.rows("SELECT parts FROM reservations")] == [1]


async def test_a_contact_that_opted_out_is_refused_by_id_and_by_phone(stage: Stage) -> None:
    state = ContactState(contact_id=7, version=3, phone="+61453000007", is_active=False, opt_out=True)
    async with stage.database.all_tenants() as session:
        await apply_contact_changes(session, [ContactChanged(organisation_id=stage.organisation, contacts=(state,))])
    await stage.add_due(
        stage.due(contact_id=7),
        stage.due(phone="+61453000007"),
        stage.due(contact_id=8),
        stage.due(phone="+61453000007", organisation_id="org_other"),
    )
    assert await stage.failures() == [
        ("failed", "opted_out"),
        ("failed", "opted_out"),
        ("queued", None),
        ("queued", None),
    ]
    assert await stage.usage() == 2
    assert [event.failure_category for event in await stage.events()] == ["opted_out", "opted_out"]


async def test_the_newest_state_of_a_contact_counts_in_any_order(stage: Stage) -> None:
    def changed(version: int, opt_out: bool) -> ContactChanged:
        contact = ContactState(contact_id=7, version=version, phone="+61453000007", is_active=True, opt_out=opt_out)
        return ContactChanged(organisation_id=stage.organisation, contacts=(contact,))

    async with stage.database.all_tenants() as session:
        await apply_contact_changes(session, [changed(3, False), changed(2, True)])
        await apply_contact_changes(session, [changed(2, True), changed(1, False)])
    await stage.add_due(stage.due(contact_id=7))
    assert await stage.statuses() == ["queued"]
    async with stage.database.all_tenants() as session:
        await apply_contact_changes(session, [changed(4, True)])
    await stage.add_due(stage.due(contact_id=7))
    assert await stage.statuses() == ["queued", "failed"]


async def test_a_closed_organisation_is_refused_until_it_opens_again(stage: Stage) -> None:
    async def apply(version: int, closed: bool) -> None:
        async with stage.database.all_tenants() as session:
            event = OrganisationChanged(organisation_id=stage.organisation, closed=closed, version=version)
            await apply_organisation_changes(session, [event])

    await apply(2, True)
    await apply(1, False)
    await stage.add_due(stage.due())
    await apply(3, False)
    await stage.add_due(stage.due())
    assert await stage.statuses() == ["failed", "queued"]
