"""Handle requests that arrive together in one round: one statement for many rows costs little more than for one."""

import asyncio
import contextvars
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

import asyncpg

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
_MAX_ITEMS = 50
_ENOUGH_ITEMS = 8  # for another round beside one that waits for the database


class Combiner(Generic[ItemT, ResultT]):
    """Runs rounds of work for an organisation, each for all items that wait.

    An item that arrives while nothing runs starts a round at once. Those that arrive meanwhile share the next round, so
    the rounds grow with the load. Organisations do not wait for each other. With `max_rounds` above 1, another round
    runs at the same time when eight items wait: for work whose transactions do not wait for each other.

    `work` returns the result of each item in order. An exception among the results is raised to that item's caller. If
    `work` itself raises an exception, all of them get it. Only when the database refused the data of a statement is the
    round repeated item by item, so that the data of one request does no harm to the others.
    """

    def __init__(
        self, work: Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT | Exception]]], *, max_rounds: int = 1
    ) -> None:
        self._work = work
        self._max_rounds = max_rounds
        self._waiting: dict[str, list[_Waiting[ItemT, ResultT]]] = defaultdict(list)
        self._rounds: dict[str, set[asyncio.Task[None]]] = defaultdict(set)

    async def run(self, organisation_id: str, item: ItemT, *, alone: bool = False) -> ResultT:
        """Do the work for an item and return its result. Raises what the work raises.

        A caller that is cancelled before the round begins takes its item back. `alone` is for the writes of a keyed
        request: they run in the transaction of its key, so they share no round.
        """
        waiting = _Waiting[ItemT, ResultT](item)
        if alone:
            await self._run([waiting])
        else:
            self._waiting[organisation_id].append(waiting)
            self._begin(organisation_id)
        return await waiting.result

    def _begin(self, organisation_id: str) -> None:
        """Begin a round with the items that wait, in the context of the first: its request id is in the calls."""
        rounds, waiting = self._rounds[organisation_id], self._waiting[organisation_id]
        if rounds and (len(rounds) >= self._max_rounds or len(waiting) < _ENOUGH_ITEMS):
            return
        waiting = [one for one in waiting if not one.result.done()]
        if waiting:
            given, self._waiting[organisation_id] = waiting[:_MAX_ITEMS], waiting[_MAX_ITEMS:]
            task = asyncio.create_task(self._run(given), context=given[0].context)
            rounds.add(task)
            task.add_done_callback(partial(self._end, organisation_id))
        elif not rounds:
            del self._waiting[organisation_id], self._rounds[organisation_id]

    def _end(self, organisation_id: str, task: asyncio.Task[None]) -> None:
        self._rounds[organisation_id].discard(task)
        self._begin(organisation_id)

    async def _run(self, given: Sequence["_Waiting[ItemT, ResultT]"]) -> None:
        try:
            results = await self._results([waiting.item for waiting in given])
        except asyncio.CancelledError:  # the process stops: no caller may wait for ever
            for waiting in given:
                waiting.result.cancel()
            raise
        for waiting, result in zip(given, results, strict=True):
            waiting.finish(result)

    async def _results(self, items: Sequence[ItemT]) -> Sequence[ResultT | Exception]:
        """Return a result or an error for each item."""
        try:
            results = await self._work(items)
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            if len(items) == 1:
                return [error]
            return [result for item in items for result in await self._results([item])]
        except Exception as error:  # noqa: BLE001  # each caller raises it
            return [error] * len(items)
        if len(results) != len(items):
            return [ValueError("the work must return a result for each item")] * len(items)
        return results


class _Waiting(Generic[ItemT, ResultT]):
    """An item and the future of its result."""

    def __init__(self, item: ItemT) -> None:
        self.item = item
        self.context = contextvars.copy_context()
        self.result: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()

    def finish(self, result: ResultT | Exception) -> None:
        """Give the caller its result, unless it was cancelled."""
        if self.result.done():
            return
        if isinstance(result, Exception):
            self.result.set_exception(result)
        else:
            self.result.set_result(result)
