"""Which messages are claimed first: single before bulk, each organisation its share, no message twice."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from delivery.providers.log import LogProvider
from delivery.sending import loops, service
from delivery.sending.routing import Availability, Router
from delivery.sending.rules import Capacity, LanePositions, Submission
from delivery.sending.throttling import Allowance
from services.delivery.tests.stage import Stage


class Claims:
    """Claims submissions of one message each, without sending them."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._provider = LogProvider(stage.make_settings())
        self._provider.batch_size = 1
        self._positions = LanePositions()
        self._router = Router({"sms": ["log"], "mms": ["log"]}, Availability())

    async def claim(self, slots: int, message_format: str = "sms") -> list[Submission]:
        capacity = Capacity(
            message_format=message_format,
            submissions=slots,
            messages=slots,
            allowance=Allowance(),
            positions=self._positions,
        )
        async with self._stage.database.all_tenants() as session:
            claim = await service.claim_submissions(
                session, self._provider, router=self._router, capacity=capacity, policy=self._stage.policy
            )
        self._positions = claim.positions
        return list(claim.submissions)


async def organisations(stage: Stage, submissions: list[Submission]) -> list[str]:
    found = await stage.rows(
        "SELECT organisation_id FROM messages WHERE id = ANY(:ids) ORDER BY id",
        ids=[submission.message_ids[0] for submission in submissions],
    )
    return [row.organisation_id for row in found]


async def test_single_messages_are_claimed_first_and_bulk_fills_the_rest(stage: Stage) -> None:
    await stage.add_due(*(stage.due(lane="bulk") for _ in range(10)), *(stage.due() for _ in range(3)))
    submissions = await Claims(stage).claim(5)
    found = await stage.rows(
        "SELECT lane FROM messages WHERE id = ANY(:ids)", ids=[one.message_ids[0] for one in submissions]
    )
    assert Counter(row.lane for row in found) == {"single": 3, "bulk": 2}


async def test_organisations_get_equal_shares_of_a_claim(stage: Stage) -> None:
    big = [stage.due(lane="bulk", organisation_id="org_a") for _ in range(100)]
    await stage.add_due(*big, *(stage.due(lane="bulk", organisation_id=f"org_{x}") for x in "bc" for _ in range(4)))
    claims = Claims(stage)
    first = Counter(await organisations(stage, await claims.claim(12)))
    assert first == {"org_a": 4, "org_b": 4, "org_c": 4}
    assert Counter(await organisations(stage, await claims.claim(12))) == {"org_a": 12}


async def test_more_organisations_than_requests_are_claimed_in_rounds(stage: Stage) -> None:
    await stage.add_due(*(stage.due(lane="bulk", organisation_id=f"org_{n}") for n in range(7) for _ in range(3)))
    claims = Claims(stage)
    seen: Counter[str] = Counter()
    for _ in range(4):
        seen.update(await organisations(stage, await claims.claim(3)))
    assert set(seen) == {f"org_{n}" for n in range(7)}
    for _ in range(20):
        seen.update(await organisations(stage, await claims.claim(3)))
    assert set(seen.values()) == {3}


async def test_organisation_gets_what_others_leave_of_their_shares_before_campaigns(stage: Stage) -> None:
    await stage.add_due(
        *(stage.due(organisation_id="org_a") for _ in range(20)),
        stage.due(organisation_id="org_b"),
        *(stage.due(lane="bulk", organisation_id="org_a") for _ in range(20)),
    )
    submissions = await Claims(stage).claim(10)
    found = await stage.rows(
        "SELECT organisation_id, lane FROM messages WHERE id = ANY(:ids)",
        ids=[one.message_ids[0] for one in submissions],
    )
    claimed = Counter((row.organisation_id, row.lane) for row in found)
    assert claimed == {("org_a", "single"): 9, ("org_b", "single"): 1}


async def test_campaigns_wait_until_the_round_over_single_messages_is_complete(stage: Stage) -> None:
    await stage.add_due(*(stage.due(organisation_id=f"org_{n}") for n in range(3)))
    await stage.add_due(*(stage.due(lane="bulk") for _ in range(5)))
    claims = Claims(stage)
    assert await organisations(stage, await claims.claim(2)) == ["org_0", "org_1"]
    await stage.add_due(stage.due(organisation_id="org_0"))
    assert await organisations(stage, await claims.claim(4)) == ["org_2"]
    lanes = await stage.rows(
        "SELECT lane FROM messages WHERE id = ANY(:ids)",
        ids=[one.message_ids[0] for one in await claims.claim(3)],
    )
    assert Counter(row.lane for row in lanes) == {"single": 1, "bulk": 2}


async def test_concurrent_claims_never_have_a_message_twice(stage: Stage) -> None:
    await stage.add_due(*(stage.due(organisation_id=f"org_{n % 3}") for n in range(400)))

    async def work() -> list[int]:
        claims, mine = Claims(stage), []
        for _ in range(200):
            mine += [message for one in await claims.claim(16) for message in one.message_ids]
            if len(mine) and not await stage.rows("SELECT 1 FROM messages WHERE status = 'queued' LIMIT 1"):
                break
        return mine

    claimed = [message for mine in await asyncio.gather(*(work() for _ in range(6))) for message in mine]
    assert len(claimed) == len(set(claimed)) == 400


async def test_a_claim_of_one_format_leaves_the_other(stage: Stage) -> None:
    await stage.add_due(stage.due(), stage.due(format="mms", media_url="https://x.test/a.png"))
    submissions = await Claims(stage).claim(5, "mms")
    (found,) = await stage.rows("SELECT format FROM messages WHERE status = 'sending'")
    assert (len(submissions), found.format) == (1, "mms")


async def test_the_claim_is_committed_before_the_request_is_sent(stage: Stage) -> None:
    seen: list[Any] = []

    async def look(request: Any, body: Any) -> Any:
        statement = "SELECT m.status, s.state FROM messages m JOIN submissions s ON s.key = m.submission_key"
        seen.extend(await stage.rows(statement))
        return await stage.provider.accept(request, body)

    await stage.add_due(stage.due())
    stage.provider.script.append(look)
    await stage.send(stage.make_worker())
    assert seen == [("sending", "open")]


async def test_a_claim_that_fails_leaves_the_positions_as_they_were(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.add_due(*(stage.due(organisation_id=f"org_{n}") for n in range(3)))
    worker = stage.make_worker(batch_size=1, concurrency=1)
    await stage.send(worker)
    before = dict(worker.positions)
    assert before["sms"].single == "org_0"
    monkeypatch.setattr(worker.provider, "prepare", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await stage.claim(worker)
    assert worker.positions == before
    monkeypatch.undo()
    for _ in range(2):
        await stage.send(worker)
    assert await stage.statuses() == ["sent"] * 3
    await loops.drain(stage.database, worker)
