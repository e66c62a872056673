"""An operator finds messages of any organisation: by organisation, by the provider's id, and page by page."""

from delivery.messages import service
from delivery.messages.rules import MessageSearch
from services.delivery.tests.stage import Stage


async def find(stage: Stage, limit: int = 50, **wanted: object) -> list[int]:
    """Return the ids of what is found."""
    async with stage.database.all_tenants() as session:
        return [row.id for row in await service.find_messages(session, MessageSearch(**wanted), limit)]  # type: ignore[arg-type]


async def test_messages_are_found_newest_first_and_page_by_page(stage: Stage) -> None:
    await stage.add_due(*(stage.due() for _ in range(3)))
    await stage.execute("UPDATE messages SET created_at = now() - id * interval '1 hour'")
    ids = [row.id for row in await stage.rows("SELECT id FROM messages ORDER BY id")]
    (row, *_) = await stage.rows("SELECT organisation_id FROM messages")
    assert await find(stage, organisation_id=row.organisation_id) == ids
    assert await find(stage, 2, organisation_id=row.organisation_id) == ids[:2]
    assert await find(stage, organisation_id=row.organisation_id, before=ids[1]) == ids[2:]
    assert await find(stage, organisation_id=row.organisation_id, before=999_999) == []
    assert await find(stage, organisation_id="org_other") == []


async def test_message_is_found_by_the_providers_id_in_any_spelling(stage: Stage) -> None:
    await stage.add_due(*(stage.due() for _ in range(2)))
    await stage.execute("UPDATE messages SET provider_message_id = '00Ab' || id")
    (first, *_) = await stage.rows("SELECT id, organisation_id FROM messages ORDER BY id")
    for spelling in (f"00Ab{first.id}", f"ab{first.id}", f"AB{first.id}"):
        assert await find(stage, provider_message_id=spelling) == [first.id]
    assert await find(stage, provider_message_id=f"ab{first.id}", organisation_id="org_other") == []
