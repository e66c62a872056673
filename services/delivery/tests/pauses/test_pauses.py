"""While an organisation or a provider is paused its messages wait, others leave, and nothing else changes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from common.metrics import REGISTRY
from common.readings import Readings
from delivery import metrics
from delivery.messages.loops import expire
from delivery.models import PauseKind
from delivery.pauses import service
from delivery.sending import repository
from delivery.sending.loops import update_paused_workers
from delivery.sending.routing import Share
from delivery.sending.rules import Capacity, LanePositions
from delivery.sending.throttling import Allowance
from services.delivery.tests.stage import Stage

PROVIDER, ORGANISATION = PauseKind.PROVIDER, PauseKind.ORGANISATION
NAME = "mobile_message"


async def pause(stage: Stage, kind: PauseKind, name: str, operator: str = "ana") -> bool:
    async with stage.database.all_tenants() as session:
        _, is_new = await service.pause(session, kind, name, operator=operator, reason="ticket 12")
    return is_new


async def resume(stage: Stage, kind: PauseKind, name: str) -> bool:
    async with stage.database.all_tenants() as session:
        return await service.resume(session, kind, name) is not None


async def statuses(stage: Stage, organisation: str) -> list[str]:
    rows = await stage.rows("SELECT status FROM messages WHERE organisation_id = :one ORDER BY id", one=organisation)
    return [row.status for row in rows]


async def test_messages_of_a_paused_organisation_stay_and_others_leave(stage: Stage) -> None:
    mine, theirs = stage.organisation, "org_other"
    await stage.add_due(*(stage.due(lane=lane) for lane in ("single", "bulk") for _ in range(3)))
    await stage.add_due(*(stage.due(lane=lane, organisation_id=theirs) for lane in ("single", "bulk")))
    assert await pause(stage, ORGANISATION, mine)
    worker = stage.make_worker()
    for _ in range(3):
        await stage.send(worker)
    assert (await statuses(stage, mine), await statuses(stage, theirs)) == (["queued"] * 6, ["sent"] * 2)
    assert await resume(stage, ORGANISATION, mine)
    for _ in range(3):
        await stage.send(worker)
    assert await statuses(stage, mine) == ["sent"] * 6
    assert len(stage.provider.accepted) == 8, "each was sent once"


async def test_a_paused_provider_claims_nothing_until_it_is_resumed(stage: Stage) -> None:
    await stage.add_due(stage.due(), stage.due(organisation_id="org_other"))
    await pause(stage, PROVIDER, "twilio")
    await pause(stage, PROVIDER, NAME)
    worker = stage.make_worker()
    await stage.send(worker)
    assert (await stage.statuses(), stage.provider.requests) == (["queued"] * 2, [])
    await resume(stage, PROVIDER, NAME)
    await stage.send(worker)
    assert await stage.statuses() == ["sent"] * 2


async def test_a_request_in_flight_ends_normally(stage: Stage) -> None:
    await stage.add_due(stage.due())
    await stage.claim(worker := stage.make_worker())
    await pause(stage, ORGANISATION, stage.organisation)
    await pause(stage, PROVIDER, NAME)
    await stage.send(worker)
    assert (await stage.statuses(), len(stage.provider.requests)) == (["sent"], 1)


async def test_an_unknown_submission_is_resent_after_its_provider_is_resumed(stage: Stage) -> None:
    await stage.add_due(stage.due())
    await stage.claim(worker := stage.make_worker())
    await worker.drain()
    worker.results.clear()  # as if the process had died before it recorded them
    await stage.resend(worker)  # its lease ends
    await pause(stage, PROVIDER, NAME)
    await stage.resend(worker)
    assert (await stage.statuses(), len(stage.provider.requests)) == (["unknown"], 1)
    await resume(stage, PROVIDER, NAME)
    await stage.resend(worker)
    assert (await stage.statuses(), len(stage.provider.requests)) == (["sent"], 2)


async def test_a_waiting_message_expires_by_its_deadline(stage: Stage) -> None:
    await stage.add_due(stage.due())
    await pause(stage, ORGANISATION, stage.organisation)
    await stage.execute("UPDATE messages SET deadline = now() - interval '1 minute'")
    await expire(stage.database)
    assert await stage.failures() == [("failed", "expired")]


async def test_a_second_pause_keeps_the_first_and_a_second_resume_finds_none(stage: Stage) -> None:
    assert await pause(stage, PROVIDER, NAME, "ana")
    assert not await pause(stage, PROVIDER, NAME, "ben")
    assert await pause(stage, ORGANISATION, NAME), "an organisation with the name of a provider is another pause"
    async with stage.database.all_tenants() as session:
        listed = [(one.kind, one.name, one.operator) for one in await service.list_pauses(session)]
    assert listed == [(ORGANISATION, NAME, "ana"), (PROVIDER, NAME, "ana")]
    assert await resume(stage, PROVIDER, NAME)
    assert not await resume(stage, PROVIDER, NAME)
    assert not await resume(stage, PROVIDER, "twilio")


async def test_resuming_wakes_the_workers_as_new_messages_do(stage: Stage) -> None:
    wakes, worker = stage.database.wakes, stage.make_worker()
    wakes.add("queued", worker.wake)
    await pause(stage, PROVIDER, NAME)
    assert (worker.wake.is_set(), wakes.event("pauses").is_set()) == (False, True)
    await resume(stage, PROVIDER, NAME)
    assert worker.wake.is_set()
    assert wakes.event("submissions").is_set()


async def test_health_says_paused_before_unavailable_and_available(stage: Stage) -> None:
    worker = stage.make_worker(base_url="http://127.0.0.1:1")
    for _ in range(3):
        await stage.add_due(stage.due())
        await stage.send(worker)
    assert worker.describe()["status"] == "unavailable"
    await pause(stage, PROVIDER, NAME)
    await pause(stage, ORGANISATION, stage.organisation)
    await update_paused_workers(stage.database, [worker])
    described = worker.describe()
    assert (described.keys(), described["status"]) == ({"status", "since"}, "paused")
    await resume(stage, PROVIDER, NAME)
    await update_paused_workers(stage.database, [worker])
    assert worker.describe()["status"] == "unavailable"


async def test_pauses_are_counted_and_paused_organisations_make_no_queue_old(stage: Stage) -> None:
    async def read() -> tuple[float | None, ...]:
        await Readings(stage.database, "delivery", metrics.READINGS).refresh()
        kinds = [REGISTRY.get_sample_value("cooee_pauses", {"kind": kind}) for kind in PauseKind]
        return *kinds, REGISTRY.get_sample_value("cooee_queue_messages", {"lane": "single"})

    def oldest() -> float:
        return REGISTRY.get_sample_value("cooee_queue_oldest_seconds", {"lane": "single"}) or 0.0

    await stage.add_due(stage.due())
    await stage.execute("UPDATE messages SET changed_at = now() - interval '1 hour'")
    assert (await read(), oldest() >= 3600) == ((0, 0, 1), True)
    for name in (stage.organisation, "org_other"):
        await pause(stage, ORGANISATION, name)
    await pause(stage, PROVIDER, NAME)
    assert (await read(), oldest()) == ((2, 1, 1), 0)


async def test_concurrent_pauses_leave_one(stage: Stage) -> None:
    added = await asyncio.gather(*(pause(stage, PROVIDER, NAME, f"operator {number}") for number in range(5)))
    assert sum(added) == 1


@pytest.mark.parametrize("statement", ["SELECT * FROM delivery.pauses", "DELETE FROM delivery.pauses"])
async def test_an_organisation_neither_sees_nor_ends_pauses(
    stage: Stage, delivery_url: str, organisation: str, statement: str
) -> None:
    await pause(stage, ORGANISATION, organisation)
    url = make_url(delivery_url).set(username="delivery_tenant").render_as_string(hide_password=False)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SELECT set_config('app.organisation_id', $1, false)", organisation)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_claim_reads_no_message_of_a_paused_provider(
    stage: Stage, explain: Callable[..., Awaitable[list[tuple[str, str]]]]
) -> None:
    """The pause of the provider is looked up once, before the index of the queue is read."""
    capacity = Capacity("sms", submissions=9, messages=9, allowance=Allowance(), positions=LanePositions())
    async with stage.database.all_tenants() as session:

        async def claim() -> Any:
            await repository.claim(session, NAME, capacity, Share((), others=True))

        (*_, (_, plan)) = await explain(session, claim)
    assert "One-Time Filter" in plan, plan
