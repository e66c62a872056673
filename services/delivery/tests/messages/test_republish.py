"""Outcomes that are published again, for consumers that lost them."""

from datetime import UTC, datetime, timedelta

from common.events import MessageSent
from delivery.messages import service
from services.delivery.tests.stage import Stage


async def test_outcomes_since_a_time_are_published_again_in_batches(stage: Stage) -> None:
    since = datetime.now(UTC) - timedelta(minutes=1)
    await stage.add_due(*(stage.due() for _ in range(3)))
    await stage.send(stage.make_worker())
    await stage.add_due(stage.due())
    await stage.execute("DELETE FROM outbox")
    after: int | None = 0
    while after is not None:
        async with stage.database.all_tenants() as session:
            after = await service.republish_outcomes(session, since, after, 2)
    events = await stage.events()
    assert [(type(event), event.message_id, event.version) for event in events] == [
        (MessageSent, row.id, 1) for row in await stage.rows("SELECT id FROM messages ORDER BY id LIMIT 3")
    ]
    async with stage.database.all_tenants() as session:
        assert await service.republish_outcomes(session, datetime.now(UTC), 0, 2) is None
    assert len(await stage.events()) == 3
