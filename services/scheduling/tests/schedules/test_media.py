"""Which files delivery may not delete yet."""

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import text

from scheduling.schedules.repository import _USED_MEDIA
from services.scheduling.tests.stage import Client, Stage

NAMES = [f"6a1f7f0e-5f0e-4d55-9d0d-0b6f8a5a1c{n:02d}.png" for n in range(8)]
SINCE = "2026-01-01T00:00:00+00:00"
USED = "/internal/media/used/"


async def find_used(stage: Stage, since: str = SINCE) -> list[str]:
    """Return those of the files that delivery must not delete, sorted."""
    answer = await stage.delivery_client.ok("POST", USED, {"names": NAMES, "since": since})
    return sorted(answer["used"])


def link(name: str) -> str:
    return f"https://sms.example.com/media/{'0f' * 16}/{name}"


async def test_a_file_is_used_while_a_message_may_be_sent_or_retried(stage: Stage) -> None:
    ids = {}
    for name, status in zip(NAMES, ("pending", "processing", "sent", "failed", "cancelled"), strict=False):
        ids[name] = (await stage.make_schedule(format="mms", media_url=link(name)))["id"]
        category = "'unknown'" if status == "failed" else "NULL"
        await stage.rows(
            f"UPDATE schedules SET status = :s, scheduled_time = :at, updated_at = :at, failure_category = {category},"
            " error = 'x' WHERE id = :id",
            s=status,
            at=datetime(2025, 12, 1, tzinfo=UTC),
            id=ids[name],
        )
    assert await find_used(stage) == NAMES[:2], "open schedules, however old"
    assert await find_used(stage, "2025-11-30T00:00:00+00:00") == NAMES[:5], "and those that ended since"
    await stage.rows("UPDATE schedules SET updated_at = now() WHERE id = :id", id=ids[NAMES[3]])
    assert await find_used(stage) == [NAMES[0], NAMES[1], NAMES[3]], "and those that were changed since"


async def test_a_batch_uses_its_file_until_it_finishes(stage: Stage) -> None:
    await stage.make_batch(2, format="mms", media_url=link(NAMES[0]) + "?size=small")
    assert await find_used(stage) == NAMES[:1]


async def test_only_delivery_may_ask_for_used_files(stage: Stage, client_of: Callable[..., Client]) -> None:
    body = {"names": [], "since": SINCE}
    assert (await stage.client("POST", USED, body)).status_code == 401
    contacts = client_of("", role="system", issuer="contacts", user_id=None)
    assert (await contacts("POST", USED, body)).status_code == 401


async def test_used_files_are_found_by_the_index(stage: Stage) -> None:
    await stage.make_schedule(format="mms", media_url=link(NAMES[0]))
    async with stage.database.all_tenants() as session:
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        values = {"names": NAMES, "since": datetime.fromisoformat(SINCE)}
        plan = (await session.execute(text(f"EXPLAIN {_USED_MEDIA.text}"), values)).scalars().all()
    assert any("schedules_media" in line for line in plan), "\n".join(plan)
    assert any("Index Cond" in line and "substring" in line.lower() for line in plan), "\n".join(plan)
