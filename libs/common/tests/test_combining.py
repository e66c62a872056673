"""Requests of one organisation that arrive together share a round, and one does not fail another."""

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest
from structlog.contextvars import bind_contextvars

from common.combining import Combiner
from common.context import request_id


class Work:
    """Work whose rounds begin when `gate` is set. It remembers the rounds."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.rounds: list[list[str]] = []
        self.request_ids: list[str] = []

    async def __call__(self, items: Sequence[str]) -> Sequence[str | Exception]:
        self.rounds.append(list(items))
        self.request_ids.append(request_id())
        await self.gate.wait()
        if "broken" in items:
            raise ConnectionError
        if "cancelled" in items:
            raise asyncio.CancelledError
        if "lost" in items:
            return []
        if "bad data" in items:
            raise asyncpg.DataError
        return [ValueError(item) if item == "refused" else item.upper() for item in items]


async def start(combiner: Combiner[str, str], *items: str, organisation: str = "org_a") -> list[asyncio.Task[str]]:
    """Start callers one after another, and let each wait for its result."""
    tasks = [asyncio.create_task(combiner.run(organisation, item)) for item in items]
    await asyncio.sleep(0)
    return tasks


async def test_items_that_arrive_during_a_round_share_the_next() -> None:
    work = Work()
    combiner = Combiner(work)
    tasks = await start(combiner, "a", "b", "c")
    tasks += await start(combiner, "d", organisation="org_b")
    await asyncio.sleep(0)
    assert work.rounds == [["a"], ["d"]], "another organisation does not wait"
    work.gate.set()
    assert await asyncio.gather(*tasks) == ["A", "B", "C", "D"]
    assert work.rounds == [["a"], ["d"], ["b", "c"]]


async def test_another_round_begins_when_enough_items_wait() -> None:
    work = Work()
    combiner = Combiner(work, max_rounds=2)
    tasks = await start(combiner, "a", *"bcdefgh")
    await asyncio.sleep(0)
    assert work.rounds == [["a"]], "seven items wait for the round that runs"
    tasks += await start(combiner, "i")
    await asyncio.sleep(0)
    assert work.rounds == [["a"], [*"bcdefghi"]]
    tasks += await start(combiner, *"jklmnopqr")
    await asyncio.sleep(0)
    assert len(work.rounds) == 2, "two rounds run already"
    work.gate.set()
    assert await asyncio.gather(*tasks) == [*"ABCDEFGHIJKLMNOPQR"]
    assert work.rounds[2:] == [[*"jklmnopqr"]]


async def test_a_round_has_at_most_fifty_items() -> None:
    work = Work()
    work.gate.set()
    tasks = await start(Combiner(work), *(str(number) for number in range(120)))
    assert await asyncio.gather(*tasks) == [str(number) for number in range(120)]
    assert [len(items) for items in work.rounds] == [1, 50, 50, 19]


async def test_a_refused_item_does_not_fail_the_others() -> None:
    work = Work()
    tasks = await start(Combiner(work), "first", "a", "refused", "b")
    work.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(result) for result in results] == ["FIRST", "A", "refused", "B"]


async def test_bad_data_of_one_item_is_found_by_repeating_the_round_item_by_item() -> None:
    work = Work()
    tasks = await start(Combiner(work), "first", "a", "bad data", "b")
    work.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [str, str, asyncpg.DataError, str]
    assert work.rounds == [["first"], ["a", "bad data", "b"], ["a"], ["bad data"], ["b"]]


async def test_a_round_that_may_have_been_written_is_not_repeated() -> None:
    work = Work()
    tasks = await start(Combiner(work), "first", "a", "broken")
    work.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [str, ConnectionError, ConnectionError]
    assert work.rounds == [["first"], ["a", "broken"]]


async def test_no_caller_waits_for_a_round_that_was_cancelled_or_lost_results() -> None:
    for item, error in (("cancelled", asyncio.CancelledError), ("lost", ValueError)):
        work = Work()
        work.gate.set()
        combiner = Combiner(work)
        results = await asyncio.gather(*(await start(combiner, "a", item, "b")), return_exceptions=True)
        assert [type(result) for result in results] == [str, error, error]
        assert await combiner.run("org_a", "d") == "D", "the combiner works on"


async def test_a_caller_that_left_takes_its_item_back() -> None:
    work = Work()
    combiner = Combiner(work)
    first, second, third = await start(combiner, "a", "b", "c")
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    work.gate.set()
    assert await asyncio.gather(first, third) == ["A", "C"]
    assert work.rounds == [["a"], ["c"]]
    assert await combiner.run("org_a", "d") == "D", "the combiner works on"


async def test_a_round_that_began_finishes_without_its_caller() -> None:
    work = Work()
    combiner = Combiner(work)
    (only,) = await start(combiner, "a")
    await asyncio.sleep(0)
    only.cancel()
    work.gate.set()
    assert await combiner.run("org_a", "b") == "B"
    assert work.rounds == [["a"], ["b"]]


async def test_a_round_has_the_request_id_of_its_first_item() -> None:
    work = Work()
    combiner = Combiner(work)

    async def request(name: str) -> str:
        bind_contextvars(request_id=f"request-{name}")
        return await combiner.run("org_a", name)

    tasks = [asyncio.create_task(request(name)) for name in ("a", "b", "c")]
    await asyncio.sleep(0)
    work.gate.set()
    await asyncio.gather(*tasks)
    assert work.request_ids == ["request-a", "request-b"]


async def test_an_item_alone_shares_no_round() -> None:
    work = Work()
    work.gate.set()
    combiner = Combiner(work)
    results = await asyncio.gather(*(combiner.run("org_a", name, alone=True) for name in ("a", "b")))
    assert results == ["A", "B"]
    assert sorted(work.rounds) == [["a"], ["b"]]
