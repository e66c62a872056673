"""Which files delivery may not remove yet."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from scheduling.schedules.repository import _USED_MEDIA

UUIDS = [f"6a1f7f0e-5f0e-4d55-9d0d-0b6f8a5a1c{n:02d}.png" for n in range(8)]
SINCE = "2026-01-01T00:00:00+00:00"
_USED = "/internal/media/used/"


@pytest.fixture
def used(client, bearer):
    """`await used(names, since)`: those of the names that delivery is told to keep."""

    async def ask(names, since=SINCE):
        headers = bearer("scheduling", "", role="system", issuer="delivery", user_id=None)
        answer = await client.http.post(_USED, json={"names": names, "since": since}, headers=headers)
        assert answer.status_code == 200
        return answer.json()["used"]

    return ask


def link(name):
    return f"https://sms.example.com/media/{'0f' * 16}/{name}"


async def test_a_file_is_used_by_what_may_still_be_sent_and_by_what_may_be_retried(make_schedule, used, run_sql):
    made = {}
    for name, status in zip(UUIDS, ("pending", "processing", "sent", "failed", "cancelled"), strict=False):
        made[name] = (await make_schedule(format="mms", media_url=link(name)))["id"]
        category = "'unknown'" if status == "failed" else "NULL"
        await run_sql(
            f"UPDATE schedules SET status = :s, scheduled_time = :at, updated_at = :at, failure_category = {category},"
            " error = 'x' WHERE id = :id",
            s=status,
            at=datetime(2025, 12, 1, tzinfo=UTC),
            id=made[name],
        )
    assert sorted(await used(UUIDS)) == UUIDS[:2], "open ones, however old; the others ended before"
    assert sorted(await used(UUIDS, "2025-11-30T00:00:00+00:00")) == UUIDS[:5], "and what ended since"
    await run_sql("UPDATE schedules SET updated_at = now() WHERE id = :id", id=made[UUIDS[3]])
    assert sorted(await used(UUIDS)) == [UUIDS[0], UUIDS[1], UUIDS[3]], "and what was changed since"


async def test_a_batch_uses_its_file_until_it_ends(make_batch, used):
    await make_batch(2, format="mms", media_url=link(UUIDS[0]) + "?size=small")
    assert await used(UUIDS) == UUIDS[:1]


async def test_only_delivery_may_ask(client, bearer):
    body = {"names": [], "since": SINCE}
    assert (await client("POST", _USED, body)).status_code == 401
    headers = bearer("scheduling", "", role="system", issuer="contacts", user_id=None)
    assert (await client.http.post(_USED, json=body, headers=headers)).status_code == 401


async def test_the_question_is_answered_by_the_index(make_schedule, run_sql, database):
    await make_schedule(format="mms", media_url=link(UUIDS[0]))
    async with database.all_tenants() as session:
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        given = {"names": UUIDS, "since": datetime.fromisoformat(SINCE)}
        plan = (await session.execute(text(f"EXPLAIN {_USED_MEDIA.text}"), given)).scalars().all()
    assert any("schedules_media" in bounded_text for bounded_text in plan), "\n".join(plan)
    assert any("Index Cond" in bounded_text and "substring" in bounded_text.lower() for bounded_text in plan), (
        "\n".join(plan)
    )
