"""Reservations over HTTP, and many at once: the limit is kept exactly."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from common.clients import ServiceClient
from common.errors import Unavailable
from delivery.limits import service
from delivery.limits.loops import check_reservations, report_drift
from services.delivery.tests.stage import Stage

APRIL = "2026-04-10T00:00:00Z"
SECRET = "test-secret-test-secret-test-secret-0"
Bearer = Callable[..., dict[str, str]]
Put = Callable[..., Awaitable[dict[str, Any]]]


def wanted(reference: UUID, parts: int, **changes: Any) -> dict[str, Any]:
    return {"reference": str(reference), "format": "sms", "parts": parts, "scheduled_time": APRIL} | changes


@pytest.fixture
def put(client: httpx.AsyncClient, bearer: Bearer, organisation: str) -> Put:
    """`await put(reference, parts)` reserves parts, as scheduling does, and returns the answer to that reservation."""
    headers = bearer("delivery", organisation, issuer="scheduling")

    async def reserve(reference: UUID, parts: int, **changes: Any) -> dict[str, Any]:
        one = wanted(reference, parts, **changes)
        answer = await client.post("/internal/reservations/", json={"reservations": [one]}, headers=headers)
        assert answer.status_code == 200
        (result,) = answer.json()["reservations"]
        return result

    return reserve


async def test_a_reservation_counts_once_and_answers_what_remains(stage: Stage, put: Put) -> None:
    await stage.set_config("sms_limit", "10")
    reference = uuid4()
    for _ in range(2):
        assert await put(reference, 4) == {"code": None, "remaining": 6, "limit": 10}
    assert await stage.usage() == 4
    assert (await put(uuid4(), 6))["remaining"] == 0


async def test_a_reservation_that_does_not_fit_is_refused_as_a_whole(stage: Stage, put: Put) -> None:
    await stage.set_config("sms_limit", "10")
    await put(uuid4(), 8)
    assert await put(uuid4(), 3) == {"code": "limit_exceeded", "remaining": 2, "limit": 10}
    assert await stage.usage() == 8


async def test_without_a_limit_a_reservation_is_counted_and_remaining_is_null(stage: Stage, put: Put) -> None:
    await stage.set_config("mms_limit", "unlimited")
    assert (await put(uuid4(), 4))["remaining"] is None
    assert (await put(uuid4(), 4, format="mms"))["remaining"] is None
    assert await stage.usage() == 8


async def test_reservations_of_one_call_are_decided_one_by_one_when_they_do_not_all_fit(
    stage: Stage, client: httpx.AsyncClient, bearer: Bearer, put: Put
) -> None:
    await stage.set_config("sms_limit", "10")
    repeated = uuid4()
    await put(repeated, 2)
    given = [wanted(uuid4(), 5), wanted(uuid4(), 9), wanted(uuid4(), 9, format="mms"), wanted(repeated, 2)]
    given += [wanted(uuid4(), 3), wanted(uuid4(), 1)]
    headers = bearer("delivery", stage.organisation, issuer="scheduling")
    answer = await client.post("/internal/reservations/", json={"reservations": given}, headers=headers)
    results = [(one["code"], one["remaining"]) for one in answer.json()["reservations"]]
    assert results == [(None, 3), ("limit_exceeded", 3), (None, None), (None, 3), (None, 0), ("limit_exceeded", 0)]
    assert await stage.rows("SELECT format, usage FROM limit_usage ORDER BY format") == [("mms", 9), ("sms", 10)]


async def test_reservations_of_one_call_that_fit_count_in_their_own_months(
    stage: Stage, client: httpx.AsyncClient, bearer: Bearer
) -> None:
    await stage.set_config("sms_limit", "10")
    given = [wanted(uuid4(), 6), wanted(uuid4(), 4), wanted(uuid4(), 10, scheduled_time="2026-05-10T00:00:00Z")]
    headers = bearer("delivery", stage.organisation, issuer="scheduling")
    answer = await client.post("/internal/reservations/", json={"reservations": given}, headers=headers)
    assert [one["code"] for one in answer.json()["reservations"]] == [None, None, None]
    assert await stage.rows("SELECT usage FROM limit_usage ORDER BY period") == [(10,), (10,)]


async def test_a_released_reservation_returns_what_is_left(
    stage: Stage, put: Put, client: httpx.AsyncClient, bearer: Bearer
) -> None:
    reference = uuid4()
    await put(reference, 4)
    url = f"/internal/reservations/{reference}/"
    other = bearer("delivery", "org_other", issuer="scheduling")
    assert (await client.delete(url, headers=other)).status_code == 204
    assert await stage.usage() == 4
    for _ in range(2):
        mine = bearer("delivery", stage.organisation, issuer="scheduling")
        assert (await client.delete(url, headers=mine)).status_code == 204
    assert await stage.usage() == 0


async def test_the_internal_routes_are_only_for_scheduling(
    stage: Stage, client: httpx.AsyncClient, bearer: Bearer
) -> None:
    for headers in (
        {},
        bearer("delivery", stage.organisation),
        bearer("scheduling", stage.organisation, issuer="scheduling"),
    ):
        answer = await client.post("/internal/reservations/", json={}, headers=headers)
        assert answer.status_code == 401


async def test_many_at_once_use_exactly_the_limit(stage: Stage, put: Put) -> None:
    await stage.set_config("sms_limit", "60")

    async def send_now() -> int:
        return sum([(await put(uuid4(), 1))["code"] is None for _ in range(5)])

    async def add_due() -> None:
        moment = datetime(2026, 4, 10, tzinfo=UTC)
        await stage.add_due(*(stage.due(scheduled_time=moment) for _ in range(10)))

    answers = await asyncio.gather(*(send_now() for _ in range(8)), *(add_due() for _ in range(8)))
    reserved = sum(answer for answer in answers if answer is not None)
    (queued,) = await stage.rows("SELECT count(*) FROM messages WHERE status = 'queued'")
    assert reserved + queued.count == 60
    assert await stage.usage() == 60


async def test_usage_is_what_messages_and_reservations_add_up_to(stage: Stage, put: Put) -> None:
    async def drift() -> list[tuple[str, int, int]]:
        async with stage.database.all_tenants() as session:
            found = await service.find_drift(session, datetime(2026, 5, 10, tzinfo=UTC).date())
        return [(row.organisation_id, row.usage, row.counted) for row in found]

    moment = datetime(2026, 4, 10, tzinfo=UTC)
    await stage.add_due(*(stage.due(scheduled_time=moment, parts=2) for _ in range(4)))
    await put(uuid4(), 3)
    await stage.execute(
        "UPDATE messages SET status = 'failed',"
        " failure_category = CASE id % 2 WHEN 0 THEN 'unknown' ELSE 'outcome_unknown' END"
        " WHERE id IN (SELECT id FROM messages ORDER BY id LIMIT 2)"
    )
    await stage.execute("UPDATE limit_usage SET usage = usage - 2")
    assert await drift() == []
    await stage.execute("UPDATE limit_usage SET usage = usage + 1")
    assert await drift() == [(stage.organisation, 10, 9)]


async def test_usage_that_drifts_is_logged(stage: Stage) -> None:
    await stage.add_due(stage.due(parts=2))
    with capture_logs() as logs:
        assert not await report_drift(stage.database)
        await stage.execute("UPDATE limit_usage SET usage = 5")
        assert not await report_drift(stage.database)
    (entry,) = logs
    assert (entry["event"], entry["usage"], entry["counted"]) == ("limit usage differs", 5, 2)


async def test_scheduling_reads_limits_and_time_zone(stage: Stage, client: httpx.AsyncClient, bearer: Bearer) -> None:
    await stage.set_config("sms_limit", "10")
    await stage.set_config("timezone", "Australia/Perth")
    answer = await client.get("/internal/limits/", headers=bearer("delivery", stage.organisation, issuer="scheduling"))
    assert answer.json() == {"sms_limit": 10, "mms_limit": None, "timezone": "Australia/Perth"}


@pytest.fixture
async def scheduling() -> AsyncIterator[tuple[ServiceClient, set[str]]]:
    """Return a client of scheduling, and the references that scheduling knows."""
    known: set[str] = set()

    async def answer(request: web.Request) -> web.Response:
        asked = (await request.json())["references"]
        return web.json_response({"known": [reference for reference in asked if reference in known]})

    app = web.Application()
    app.router.add_post("/internal/reservations/known/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    client = ServiceClient(url, issuer="delivery", audience="scheduling", secret=SECRET)
    yield client, known
    await client.close()
    await runner.cleanup()


async def test_a_reservation_without_a_schedule_is_released(stage: Stage, put: Put, scheduling: Any) -> None:
    client, known = scheduling
    lost, waiting = uuid4(), uuid4()
    known.add(str(waiting))
    await put(lost, 3)
    await put(waiting, 2)
    assert not await check_reservations(stage.database, client)
    assert await stage.usage() == 5, "a reservation is not checked before 90 s"
    await stage.execute("UPDATE reservations SET check_at = now()")
    await check_reservations(stage.database, client)
    assert await stage.usage() == 2
    assert [row.reference for row in await stage.rows("SELECT reference FROM reservations")] == [waiting]


async def test_while_scheduling_is_unavailable_reservations_stay(stage: Stage, put: Put) -> None:
    await put(uuid4(), 3)
    await stage.execute("UPDATE reservations SET check_at = now()")
    client = ServiceClient("http://127.0.0.1:9", issuer="delivery", audience="scheduling", secret=SECRET)
    with pytest.raises(Unavailable):
        await check_reservations(stage.database, client)
    await client.close()
    assert await stage.usage() == 3
