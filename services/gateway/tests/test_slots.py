"""The slots of organisations: bounded, in order, separate for each organisation, service and kind."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from common.errors import Throttled, Unavailable
from gateway.slots import Lane, Slots

A, B = Lane("org_a", "contacts", ""), Lane("org_b", "contacts", "")
Eventually = Callable[..., Awaitable[Any]]


class Requests:
    """Requests that hold their slots until `end` is set."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.running: list[int] = []
        self.end = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self, lane: Lane, count: int) -> None:
        """Start requests and let them come as far as they can."""
        first = len(self.tasks)
        self.tasks += [asyncio.create_task(self._run(lane, first + number)) for number in range(count)]
        for _ in range(5):
            await asyncio.sleep(0)

    async def is_running(self, numbers: list[int]) -> bool:
        """Return whether exactly these requests run."""
        return self.running == numbers

    async def _run(self, lane: Lane, number: int) -> None:
        async with self.slots.take(lane):
            self.running.append(number)
            await self.end.wait()
        self.running.remove(number)


async def test_further_requests_of_an_organisation_wait_and_another_organisation_does_not() -> None:
    requests = Requests(Slots(2, 2))
    await requests.start(A, 5)
    assert requests.running == [0, 1]
    await requests.start(B, 1)
    assert requests.running == [0, 1, 5]
    requests.end.set()
    await asyncio.gather(*requests.tasks)
    assert requests.running == []


async def test_an_organisation_has_fewer_slots_while_another_one_is_active() -> None:
    now = 0.0
    requests = Requests(Slots(3, 1, clock=lambda: now))
    await requests.start(A, 5)
    assert requests.running == [0, 1, 2]
    await requests.start(B, 3)
    assert requests.running == [0, 1, 2, 5]
    requests.tasks[0].cancel()  # A has two left, more than its size beside B
    await requests.start(A, 1)
    assert requests.running == [0, 1, 2, 5]
    now = 2.0  # B has had no request for longer than a second
    await requests.start(A, 1)
    assert requests.running == [0, 1, 2, 5, 3]
    requests.end.set()
    await asyncio.gather(*requests.tasks, return_exceptions=True)
    assert not requests.slots._queues


async def test_a_request_that_waits_begins_when_no_other_organisation_is_active_any_more(
    eventually: Eventually,
) -> None:
    now = 0.0
    requests = Requests(Slots(2, 1, active_s=0.01, clock=lambda: now))
    await requests.start(B, 1)
    await requests.start(A, 2)
    assert requests.running == [0, 1]
    now = 1.0
    await eventually(partial(requests.is_running, [0, 1, 2]))
    requests.end.set()
    await asyncio.gather(*requests.tasks)
    assert not requests.slots._queues


async def test_requests_that_waited_do_not_exceed_the_limit_of_the_service() -> None:
    now = 0.0
    slots = Slots(4, 1, in_service=3, clock=lambda: now)
    requests = Requests(slots)
    await requests.start(B, 1)
    first = slots.take(A)
    await first.__aenter__()
    await requests.start(A, 3)
    assert requests.running == [0]
    now = 5.0  # each is the only active organisation now, so A has four slots
    await first.__aexit__(None, None, None)
    await requests.start(B, 0)
    assert requests.running == [0, 1, 2], "with one of B, the service has three requests"
    requests.end.set()
    await asyncio.gather(*requests.tasks)
    assert not slots._queues


async def test_another_service_and_another_kind_have_slots_of_their_own() -> None:
    requests = Requests(Slots(1, 1))
    await requests.start(A, 2)
    await requests.start(A._replace(service="delivery"), 1)
    await requests.start(A._replace(kind="waiting send"), 1)
    assert requests.running == [0, 2, 3]
    requests.end.set()
    await asyncio.gather(*requests.tasks)


async def test_requests_beyond_those_that_may_wait_are_refused_at_once() -> None:
    requests = Requests(Slots(1, 1))
    await requests.start(A, 101)
    with pytest.raises(Throttled) as refused:
        async with requests.slots.take(A):
            pass
    assert refused.value.headers["Retry-After"] == "1"
    async with requests.slots.take(B):
        pass
    requests.end.set()
    await asyncio.gather(*requests.tasks)


async def test_a_service_with_too_many_requests_refuses_at_once() -> None:
    requests = Requests(Slots(5, 5, in_service=2))
    await requests.start(A, 2)
    with pytest.raises(Unavailable):
        async with requests.slots.take(B):
            pass
    async with requests.slots.take(B._replace(service="delivery")):
        pass
    requests.end.set()
    await asyncio.gather(*requests.tasks)


async def test_a_request_that_is_cancelled_while_it_waits_loses_no_slot() -> None:
    requests = Requests(Slots(1, 1))
    await requests.start(A, 4)
    requests.tasks[1].cancel()
    await asyncio.gather(requests.tasks[1], return_exceptions=True)
    requests.end.set()
    await asyncio.gather(requests.tasks[0], *requests.tasks[2:])
    async with requests.slots.take(A):
        pass
    assert not requests.slots._queues


async def test_a_request_that_is_cancelled_in_the_moment_of_its_turn_hands_the_slot_on() -> None:
    slots = Slots(1, 1)
    first = slots.take(A)
    await first.__aenter__()
    requests = Requests(slots)
    await requests.start(A, 2)
    requests.tasks[0].cancel()
    await first.__aexit__(None, None, None)  # hands the slot to the request that is being cancelled
    await asyncio.gather(requests.tasks[0], return_exceptions=True)
    requests.end.set()
    await requests.tasks[1]
    assert not slots._queues
