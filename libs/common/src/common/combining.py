"""Handle requests that arrive together in one round: one statement for many rows costs little more than for one."""

import asyncio
import contextvars
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import asyncpg

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
_MAX_ITEMS = 50


class Combiner(Generic[ItemT, ResultT]):
    """Runs rounds of work for one organisation at a time, each for all items that wait.

    An item that arrives while nothing runs starts a round at once. Those that arrive meanwhile share the next round, so
    the rounds grow with the load. Organisations do not wait for each other.

    `work` returns the result of each item in order. An exception among the results is raised to that item's caller. If
    `work` itself raises an exception, all of them get it. Only when the database refused the data of a statement is the
    round repeated item by item, so that the data of one request does no harm to the others.
    """

    def __init__(self, work: Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT | Exception]]]) -> None:
        self._work = work
        self._waiting: dict[str, list[_Waiting[ItemT, ResultT]]] = defaultdict(list)
        self._rounds: dict[str, asyncio.Task[None]] = {}

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
            if organisation_id not in self._rounds:
                self._begin(organisation_id)
        return await waiting.result

    def _begin(self, organisation_id: str) -> None:
        """Begin a round with the items that wait, in the context of the first: its request id is in the calls."""
        given = [waiting for waiting in self._waiting.pop(organisation_id, []) if not waiting.result.done()]
        if not given:
            return
        if rest := given[_MAX_ITEMS:]:
            self._waiting[organisation_id] = rest
        given = given[:_MAX_ITEMS]
        task = asyncio.create_task(self._run(given), context=given[0].context)
        self._rounds[organisation_id] = task
        task.add_done_callback(lambda _: self._end(organisation_id))

    def _end(self, organisation_id: str) -> None:
        del self._rounds[organisation_id]
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
