"""Two providers over real HTTP: which of them sends a message when one is unavailable, and which must not."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from common.events import MessageFailed
from common.loops import Loop
from delivery.messages.loops import expire
from delivery.providers.mobile_message import MobileMessage, MobileMessageSettings
from delivery.sending import loops
from delivery.sending.provider_worker import ProviderWorker
from delivery.sending.routing import Availability, Router
from services.delivery.tests.fake_provider import FakeProvider
from services.delivery.tests.stage import Stage

Eventually = Callable[..., Awaitable[Any]]


class Second(MobileMessage):
    """Another account with the same wire format."""

    name = "second"


class Pair:
    """Two providers with their workers, of which the first is preferred. A changed config counts at once."""

    def __init__(self, stage: Stage, second: FakeProvider) -> None:
        self.stage = stage
        self.first, self.second = stage.provider, second
        availability = Availability(stage.clock)
        self.workers = [
            self._make_worker(MobileMessage, self.first.url, availability),
            self._make_worker(Second, self.second.url, availability),
        ]
        self.router = Router({"sms": ("mobile_message", "second")}, availability, max_age_s=0)

    def _make_worker(self, provider: type[MobileMessage], url: str, availability: Availability) -> ProviderWorker:
        own = MobileMessageSettings(
            base_url=url, username="user", password="password", sender_id="Cooee", concurrency=4, batch_size=5
        )
        return ProviderWorker(provider(self.stage.make_settings(), own), ["sms"], self.stage.policy, availability)

    async def step(self, times: int = 1) -> None:
        """Let each worker claim once, wait for the answers and record them."""
        for _ in range(times):
            for worker in self.workers:
                await loops.send_queued(self.stage.database, self.router, worker)
                await loops.drain(self.stage.database, worker)

    async def run(self, stopping: asyncio.Event) -> None:
        """Run the loops of the workers until `stopping` is set."""
        running = []
        for worker in self.workers:
            running += [
                Loop("send", partial(loops.send_queued, self.stage.database, self.router, worker), 0.02),
                Loop("record", partial(loops.record_results, self.stage.database, worker), 0.02),
                Loop("resolve", partial(loops.resolve_submissions, self.stage.database, worker), 0.05),
            ]
        await asyncio.gather(*(loop.run(stopping) for loop in running))

    async def attempts(self) -> list[tuple[str, str, int]]:
        """Return status, provider and attempts of the messages, by id."""
        found = await self.stage.rows("SELECT status, provider, attempts FROM messages ORDER BY id")
        return [(row.status, row.provider, row.attempts) for row in found]

    def references(self) -> list[int]:
        """Return our references of the messages that a provider accepted."""
        return sorted(int(item["custom_ref"].rpartition("-")[2]) for item in self.first.accepted + self.second.accepted)


@pytest.fixture
async def pair(stage: Stage) -> AsyncIterator[Pair]:
    """Return two providers and their workers."""
    second = FakeProvider()
    await second.start()
    made = Pair(stage, second)
    yield made
    for worker in made.workers:
        await worker.drain()
        await worker.provider.close()
    await second.stop()


async def test_the_preferred_provider_sends_everything_while_it_is_available(stage: Stage, pair: Pair) -> None:
    await stage.add_due(*(stage.due() for _ in range(12)))
    await pair.step()
    assert set(await pair.attempts()) == {("sent", "mobile_message", 1)}
    assert not pair.second.requests


@pytest.mark.parametrize("status", [401, 403])
async def test_an_account_error_fails_over_at_once_and_one_message_tests_the_provider(
    stage: Stage, pair: Pair, status: int
) -> None:
    pair.first.script += [pair.first.answer(status, "no")] * 5
    await stage.add_due(*(stage.due(lane="bulk") for _ in range(20)))
    await pair.step(2)
    assert set(await pair.attempts()) == {("sent", "second", 1)}, "no back-off, and the failed attempt does not count"
    pair.first.script.clear()
    asked = len(pair.first.requests)
    await stage.add_due(*(stage.due() for _ in range(20)))
    stage.clock.advance(31)
    await pair.step()
    tests = pair.first.requests[asked:]
    assert len(tests) == 1
    assert len(json.loads(tests[0][1])["messages"]) == 1
    await pair.step(2)  # the first claim looks for another organisation's messages
    assert len(pair.first.accepted) == 20
    assert {status for status, _, _ in await pair.attempts()} == {"sent"}


async def test_without_a_connection_the_next_provider_sends_and_attempts_do_not_count(stage: Stage, pair: Pair) -> None:
    await pair.first.stop()
    await stage.add_due(*(stage.due() for _ in range(20)))
    await pair.step(2)
    assert set(await pair.attempts()) == {("sent", "second", 1)}
    assert pair.workers[0].circuit.state == "open"


async def test_an_unknown_outcome_stays_with_its_provider(stage: Stage, pair: Pair) -> None:
    pair.first.script.append(pair.first.accept_and_reset)
    await stage.add_due(stage.due(), stage.due())
    await pair.step(2)
    pair.workers[0].circuit.finish(pair.workers[0].circuit.start())
    assert set(await pair.attempts()) == {("unknown", "mobile_message", 1)}
    assert not pair.second.requests
    await stage.resend(pair.workers[0])
    assert set(await pair.attempts()) == {("sent", "mobile_message", 1)}
    assert len(pair.references()) == 2


async def test_ten_missing_answers_open_the_circuit(stage: Stage, pair: Pair) -> None:
    pair.first.script += [pair.first.answer(500)] * 12
    for _ in range(12):
        await stage.add_due(stage.due())
        await pair.step()
    assert len(pair.first.requests) == 10
    assert [provider for _, provider, _ in await pair.attempts()] == ["mobile_message"] * 10 + ["second"] * 2


async def test_while_all_providers_are_unavailable_messages_wait_and_attempts_do_not_count(
    stage: Stage, pair: Pair
) -> None:
    await pair.first.stop()
    await pair.second.stop()
    await stage.add_due(*(stage.due() for _ in range(10)))
    for _ in range(12):
        await pair.step()
        stage.clock.advance(61)
    found = await pair.attempts()
    assert {status for status, _, _ in found} <= {"queued", "retry_wait"}
    assert {attempts for _, _, attempts in found} == {0}
    assert not await expire(stage.database)
    await stage.execute("UPDATE messages SET deadline = now()")
    await expire(stage.database)
    found = await stage.rows("SELECT DISTINCT status, failure_category FROM messages")
    assert [(row.status, row.failure_category) for row in found] == [("failed", "expired")]
    failed = [event for event in await stage.events() if isinstance(event, MessageFailed)]
    assert [event.failure_category for event in failed] == ["expired"] * 10
    assert [row.usage for row in await stage.rows("SELECT usage FROM limit_usage")] == [0]


async def test_an_organisation_has_its_own_chain_and_sender_id(stage: Stage, pair: Pair) -> None:
    await stage.assign("+61412345678")
    await stage.set_config("sms_providers", "second, mobile_message")
    await stage.set_config("sender", "0412 345 678")
    await stage.add_due(stage.due(), stage.due(organisation_id="org_other"))
    await pair.step()
    found = await stage.rows("SELECT provider, sender_id FROM messages ORDER BY id")
    assert [(row.provider, row.sender_id) for row in found] == [("second", "+61412345678"), ("mobile_message", "Cooee")]
    pair.second.script += [pair.second.answer(401)] * 2
    await stage.add_due(stage.due(), stage.due(organisation_id="org_other"))
    await pair.step(2)
    assert [provider for _, provider, _ in await pair.attempts()][2:] == ["mobile_message"] * 2


async def test_a_sender_id_is_used_while_it_is_assigned(stage: Stage, pair: Pair) -> None:
    await stage.assign("fern", "org_other")
    await stage.set_config("sender", "Fern")
    seen = []
    for statement in (
        "UPDATE sender_ids SET organisation_id = (SELECT organisation_id FROM configs)",
        "DELETE FROM sender_ids",
        "SELECT 1",
    ):
        await stage.add_due(stage.due())
        await pair.step()
        seen.append((await stage.rows("SELECT sender_id FROM messages ORDER BY id DESC LIMIT 1"))[0].sender_id)
        await stage.execute(statement)
    assert seen == ["Cooee", "Fern", "Cooee"]
    assert [item["sender"] for item in pair.first.accepted] == ["Cooee", "Fern", "Cooee"]


async def test_a_half_open_circuit_is_tested_by_an_organisation_that_prefers_the_provider(
    stage: Stage, pair: Pair
) -> None:
    await stage.set_config("sms_providers", "second")
    pair.first.script.append(pair.first.answer(401))
    await stage.add_due(stage.due(organisation_id="org_other"))
    await pair.step(2)
    stage.clock.advance(31)
    await stage.add_due(*(stage.due() for _ in range(3)))
    await pair.step(2)
    assert len(pair.first.requests) == 1, "the organisation uses only the second"
    await stage.add_due(stage.due(organisation_id="org_other"))
    await pair.step()
    assert len(pair.first.requests) == 2


async def test_a_provider_that_fails_under_load_and_recovers_sends_every_message_once(
    stage: Stage, pair: Pair, eventually: Eventually
) -> None:
    stopping = asyncio.Event()
    running = asyncio.create_task(pair.run(stopping))
    await stage.add_due(*(stage.due(lane="bulk") for _ in range(400)))

    async def some_are_accepted() -> bool:
        return len(pair.first.accepted) >= 40

    await eventually(some_are_accepted)
    await pair.first.stop()

    async def none_waits() -> bool:
        return not set(await stage.statuses()) - {"sent", "unknown"}

    await eventually(none_waits)
    assert pair.second.accepted
    at_the_second = len(pair.second.accepted)
    await pair.first.start()
    stage.clock.advance(61)
    await stage.add_due(*(stage.due(lane="bulk") for _ in range(50)))
    await eventually(none_waits)

    async def is_available() -> bool:
        stage.clock.advance(61)
        await stage.add_due(stage.due())
        return pair.workers[0].circuit.state == "closed"

    await eventually(is_available)

    async def all_are_sent() -> bool:
        await stage.execute("UPDATE submissions SET due_at = now() WHERE state = 'unknown'")
        return set(await stage.statuses()) == {"sent"}

    await eventually(all_are_sent)
    stopping.set()
    await running
    assert at_the_second <= len(pair.second.accepted)
    assert pair.references() == [row.id for row in await stage.rows("SELECT id FROM messages ORDER BY id")]
    assert not await stage.rows("SELECT key FROM submissions")
