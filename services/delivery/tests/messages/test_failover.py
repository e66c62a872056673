"""Two carriers over real HTTP: who takes a message when one of them is away, and who must not."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from common.database import Database
from common.events import MessageFailed, ScheduleDue
from common.loops import Loop
from delivery.messages import loops
from delivery.messages.routes import Router
from delivery.messages.rules import Policy
from delivery.messages.sender import Sender
from delivery.providers.mobile_message import MobileMessage
from services.delivery.tests.conftest import Carrier, Clock

Due = Callable[..., ScheduleDue]
Rows = Callable[..., Awaitable[list[Any]]]


class Second(MobileMessage):
    """Another account with the same wire format."""

    name = "second"


class Pair:
    """Two carriers with their senders, and the routes between them: the first is preferred."""

    def __init__(self, database: Database, carriers: list[Carrier], senders: list[Sender], clock: Clock) -> None:
        self.database = database
        self.first, self.second = carriers
        self.senders = senders
        self.clock = clock
        self.router = Router({"sms": ("mobile_message", "second")}, senders)

    async def step(self, times: int = 1) -> None:
        """Each sender claims once, is answered, and writes."""
        for _ in range(times):
            for sender in self.senders:
                self.router._read_at = 0.0  # what a test wrote counts at once
                await loops.send_queued(self.database, self.router, sender)
                await loops.drain(self.database, sender)

    async def run(self, stopping: asyncio.Event) -> None:
        """The loops of the worker, until `stopping`."""
        running = []
        for sender in self.senders:
            running += [
                Loop("send", partial(loops.send_queued, self.database, self.router, sender), 0.02),
                Loop("record", partial(loops.record_results, self.database, sender), 0.02),
                Loop("settle", partial(loops.settle_calls, self.database, sender), 0.05),
            ]
        await asyncio.gather(*(loop.run(stopping) for loop in running))

    def references(self) -> list[int]:
        """Our references of all that either carrier took."""
        return sorted(int(item["custom_ref"].rpartition("-")[2]) for item in self.first.taken + self.second.taken)


@pytest.fixture
async def pair(
    carrier: Carrier, database: Database, policy: Policy, make_settings: Any, clock: Clock
) -> AsyncIterator[Pair]:
    other = Carrier()
    await other.start()

    def make(provider: type[MobileMessage], address: str) -> Sender:
        settings = make_settings(
            mobile_message_base_url=address, mobile_message_concurrency=4, mobile_message_batch_size=5
        )
        return Sender(provider(settings), ["sms"], policy, clock)

    made = Pair(database, [carrier, other], [make(MobileMessage, carrier.url), make(Second, other.url)], clock)
    yield made
    for sender in made.senders:
        await sender.drain()
        await sender.provider.close()
    await other.stop()


async def providers(rows: Rows) -> list[tuple[str, str, int]]:
    found = await rows("SELECT status, provider, attempts FROM messages ORDER BY id")
    return [(row.status, row.provider, row.attempts) for row in found]


async def test_the_preferred_provider_takes_everything_while_it_is_healthy(
    due: Due, take_in: Any, pair: Pair, rows: Rows
) -> None:
    await take_in(*(due() for _ in range(12)))
    await pair.step()
    assert set(await providers(rows)) == {("sent", "mobile_message", 1)}
    assert not pair.second.requests


@pytest.mark.parametrize("status", [401, 403])
async def test_a_fault_of_the_account_hands_over_at_once_and_a_canary_comes_back(
    due: Due, take_in: Any, pair: Pair, rows: Rows, status: int
) -> None:
    pair.first.script += [pair.first.answer(status, "no")] * 5
    await take_in(*(due(lane="bulk") for _ in range(20)))
    await pair.step(2)
    assert set(await providers(rows)) == {("sent", "second", 1)}, "no back-off, no attempt lost"
    pair.first.script.clear()
    asked = len(pair.first.requests)
    await take_in(*(due() for _ in range(20)))
    pair.clock.advance(31)
    await pair.step()
    canary = pair.first.requests[asked:]
    assert len(canary) == 1
    assert len(json.loads(canary[0][1])["messages"]) == 1
    await pair.step(2)  # the first looks for another organisation's message: canaries take turns
    assert len(pair.first.taken) == 20
    assert {status for status, _, _ in await providers(rows)} == {"sent"}


async def test_without_a_connection_the_next_one_takes_over_and_attempts_are_given_back(
    due: Due, take_in: Any, pair: Pair, rows: Rows
) -> None:
    await pair.first.stop()
    await take_in(*(due() for _ in range(20)))
    await pair.step(2)
    assert set(await providers(rows)) == {("sent", "second", 1)}
    assert pair.senders[0].breaker.state == "open"


async def test_an_unknown_outcome_stays_with_its_provider(
    due: Due, take_in: Any, pair: Pair, rows: Rows, repeat: Any
) -> None:
    pair.first.script.append(pair.first.take_and_reset)
    await take_in(due(), due())
    await pair.step(2)
    pair.senders[0].breaker.end(pair.senders[0].breaker.begin())
    assert set(await providers(rows)) == {("unknown", "mobile_message", 1)}
    assert not pair.second.requests
    await repeat(pair.senders[0])
    assert set(await providers(rows)) == {("sent", "mobile_message", 1)}
    assert len(pair.references()) == 2


async def test_nobody_answering_opens_the_breaker_after_ten_calls(
    due: Due, take_in: Any, pair: Pair, rows: Rows
) -> None:
    pair.first.script += [pair.first.answer(500)] * 12
    for _ in range(12):
        await take_in(due())
        await pair.step()
    assert len(pair.first.requests) == 10
    assert [provider for _, provider, _ in await providers(rows)] == ["mobile_message"] * 10 + ["second"] * 2


async def test_while_all_are_away_messages_wait_and_lose_no_attempt(
    due: Due, take_in: Any, pair: Pair, rows: Rows, database: Database, execute: Any, outbox_events: Any
) -> None:
    await pair.first.stop()
    await pair.second.stop()
    await take_in(*(due() for _ in range(10)))
    for _ in range(12):
        await pair.step()
        pair.clock.advance(61)
    found = await providers(rows)
    assert {status for status, _, _ in found} <= {"queued", "retry_wait"}
    assert {attempts for _, _, attempts in found} == {0}
    assert not await loops.expire(database)
    await execute("UPDATE messages SET deadline = now()")
    await loops.expire(database)
    found = await rows("SELECT DISTINCT status, category FROM messages")
    assert [(row.status, row.category) for row in found] == [("failed", "expired")]
    failed = [event for event in await outbox_events(database) if isinstance(event, MessageFailed)]
    assert [event.category for event in failed] == ["expired"] * 10
    assert [row.taken for row in await rows("SELECT taken FROM limits")] == [0]


async def test_an_organisation_has_its_own_order_and_its_own_sender(
    due: Due, take_in: Any, pair: Pair, rows: Rows, limit: Any, assign: Any
) -> None:
    await assign("+61412345678")
    await limit("sms_providers", "second, mobile_message")
    await limit("sender", "0412 345 678")
    await take_in(due(), due(organisation_id="org_other"))
    await pair.step()
    found = await rows("SELECT provider, sender FROM messages ORDER BY id")
    assert [(row.provider, row.sender) for row in found] == [("second", "+61412345678"), ("mobile_message", None)]
    pair.second.script += [pair.second.answer(401)] * 2
    await take_in(due(), due(organisation_id="org_other"))
    await pair.step(2)
    assert [provider for _, provider, _ in await providers(rows)][2:] == ["mobile_message"] * 2


async def test_a_sender_counts_while_it_is_assigned(
    due: Due, take_in: Any, pair: Pair, rows: Rows, limit: Any, assign: Any, execute: Any
) -> None:
    await assign("fern", "org_other")
    await limit("sender", "Fern")
    seen = []
    for statement in (
        "UPDATE senders SET organisation_id = (SELECT organisation_id FROM configs)",
        "DELETE FROM senders",
        "SELECT 1",
    ):
        await take_in(due())
        await pair.step()
        seen.append((await rows("SELECT sender FROM messages ORDER BY id DESC LIMIT 1"))[0].sender)
        await execute(statement)
    assert seen == [None, "Fern", None]
    assert [item["sender"] for item in pair.first.taken] == ["Cooee", "Fern", "Cooee"]


async def test_a_canary_is_of_an_organisation_that_prefers_the_provider(
    due: Due, take_in: Any, pair: Pair, rows: Rows, limit: Any
) -> None:
    await limit("sms_providers", "second")
    pair.first.script.append(pair.first.answer(401))
    await take_in(due(organisation_id="org_other"))
    await pair.step(2)
    pair.clock.advance(31)
    await take_in(*(due() for _ in range(3)))
    await pair.step(2)
    assert len(pair.first.requests) == 1, "the override names the second alone"
    await take_in(due(organisation_id="org_other"))
    await pair.step()
    assert len(pair.first.requests) == 2


async def test_a_carrier_that_dies_under_load_and_comes_back_loses_and_doubles_nothing(
    due: Due, take_in: Any, pair: Pair, rows: Rows, eventually: Any, execute: Any, statuses: Any
) -> None:
    stopping = asyncio.Event()
    running = asyncio.create_task(pair.run(stopping))
    await take_in(*(due(lane="bulk") for _ in range(400)))

    async def some_are_taken() -> bool:
        return len(pair.first.taken) >= 40

    await eventually(some_are_taken)
    await pair.first.stop()

    async def none_waits() -> bool:
        return not set(await statuses()) - {"sent", "unknown"}

    await eventually(none_waits)
    assert pair.second.taken
    at_the_second = len(pair.second.taken)
    await pair.first.start()
    pair.clock.advance(61)
    await take_in(*(due(lane="bulk") for _ in range(50)))
    await eventually(none_waits)

    async def is_back() -> bool:
        pair.clock.advance(61)
        await take_in(due())
        return pair.senders[0].breaker.state == "closed"

    await eventually(is_back)

    async def all_are_sent() -> bool:
        await execute("UPDATE calls SET due_at = now() WHERE state = 'unknown'")
        return set(await statuses()) == {"sent"}

    await eventually(all_are_sent)
    stopping.set()
    await running
    assert at_the_second <= len(pair.second.taken)
    assert pair.references() == [row.id for row in await rows("SELECT id FROM messages ORDER BY id")]
    assert not await rows("SELECT key FROM calls")
