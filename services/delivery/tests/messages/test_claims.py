"""Who is sent first: single messages before bulk, organisations in turn, no message twice."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from common.database import Database
from common.events import ScheduleDue
from delivery.messages import service
from delivery.messages.pace import Bucket
from delivery.messages.rules import Call, Order, Policy, Share
from delivery.messages.sender import Sender
from delivery.providers.log import LogProvider
from delivery.settings import Settings

Due = Callable[..., ScheduleDue]
Rows = Callable[..., Awaitable[list[Any]]]
EVERYBODY = Share((), others=True)


class Claims:
    """Claims calls of one message each, without making them."""

    def __init__(
        self,
        database: Database,
        policy: Policy,
        settings: Settings,
        share: Share = EVERYBODY,
        rate: int = 0,
    ) -> None:
        self._database = database
        self._policy = policy
        self._provider = LogProvider(settings)
        self._provider.batch_size = 1
        self._turns = {"single": "", "bulk": ""}
        self._share = share
        self._bucket = Bucket(rate, lambda: 0.0)

    async def claim(self, slots: int, message_format: str = "sms") -> list[Call]:
        async with self._database.all_tenants() as session:
            order = Order(message_format, self._share, slots, slots, self._turns, {})
            return await service.claim_calls(session, order, self._provider, self._bucket, self._policy)


async def organisations(rows: Rows, calls: list[Call]) -> list[str]:
    found = await rows(
        "SELECT organisation_id FROM messages WHERE id = ANY(:ids) ORDER BY id",
        ids=[call.message_ids[0] for call in calls],
    )
    return [row.organisation_id for row in found]


async def test_single_messages_go_first_and_bulk_fills_the_rest(
    due: Due, take_in: Any, database: Database, policy: Policy, make_settings: Any, rows: Rows
) -> None:
    await take_in(*(due(lane="bulk") for _ in range(10)), *(due() for _ in range(3)))
    calls = await Claims(database, policy, make_settings()).claim(5)
    found = await rows("SELECT lane FROM messages WHERE id = ANY(:ids)", ids=[call.message_ids[0] for call in calls])
    assert Counter(row.lane for row in found) == {"single": 3, "bulk": 2}


async def test_a_large_organisation_does_not_keep_a_small_one_waiting(
    due: Due, take_in: Any, database: Database, policy: Policy, make_settings: Any, rows: Rows
) -> None:
    big = [due(lane="bulk", organisation_id="org_a") for _ in range(100)]
    await take_in(*big, *(due(lane="bulk", organisation_id=f"org_{x}") for x in "bc" for _ in range(4)))
    claims = Claims(database, policy, make_settings())
    first = Counter(await organisations(rows, await claims.claim(12)))
    assert first == {"org_a": 4, "org_b": 4, "org_c": 4}
    assert Counter(await organisations(rows, await claims.claim(12))) == {"org_a": 12}


async def test_with_more_organisations_than_places_each_has_its_turn(
    due: Due, take_in: Any, database: Database, policy: Policy, make_settings: Any, rows: Rows
) -> None:
    await take_in(*(due(lane="bulk", organisation_id=f"org_{n}") for n in range(7) for _ in range(3)))
    claims = Claims(database, policy, make_settings())
    seen: Counter[str] = Counter()
    for _ in range(4):
        seen.update(await organisations(rows, await claims.claim(3)))
    assert set(seen) == {f"org_{n}" for n in range(7)}
    for _ in range(20):
        seen.update(await organisations(rows, await claims.claim(3)))
    assert set(seen.values()) == {3}


async def test_many_claimers_never_take_one_message_twice(
    due: Due, take_in: Any, database: Database, policy: Policy, make_settings: Any, rows: Rows
) -> None:
    await take_in(*(due(organisation_id=f"org_{n % 3}") for n in range(400)))

    async def work() -> list[int]:
        claims, mine = Claims(database, policy, make_settings()), []
        for _ in range(200):
            mine += [message for call in await claims.claim(16) for message in call.message_ids]
            if len(mine) and not await rows("SELECT 1 FROM messages WHERE status = 'queued' LIMIT 1"):
                break
        return mine

    claimed = [message for mine in await asyncio.gather(*(work() for _ in range(6))) for message in mine]
    assert len(claimed) == len(set(claimed)) == 400


async def test_a_format_is_claimed_by_its_own_sender_alone(
    due: Due, take_in: Any, database: Database, policy: Policy, make_settings: Any, rows: Rows
) -> None:
    await take_in(due(), due(format="mms", media_url="https://x.test/a.png"))
    calls = await Claims(database, policy, make_settings()).claim(5, "mms")
    (found,) = await rows("SELECT format FROM messages WHERE status = 'sending'")
    assert (len(calls), found.format) == (1, "mms")


async def test_the_state_is_committed_before_the_request_leaves(
    due: Due,
    take_in: Any,
    make_sender: Callable[..., Sender],
    database: Database,
    carrier: Any,
    rows: Rows,
    send: Any,
) -> None:
    seen: list[Any] = []

    async def look(request: Any, body: Any) -> Any:
        seen.extend(await rows("SELECT m.status, c.state FROM messages m JOIN calls c ON c.key = m.call_key"))
        return await carrier.accept(request, body)

    await take_in(due())
    carrier.script.append(look)
    await send(make_sender())
    assert seen == [("sending", "open")]
