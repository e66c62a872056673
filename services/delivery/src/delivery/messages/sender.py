"""Makes calls to one provider: as many at once as it allows, fewer when it asks for patience, none while it is away.

Nothing here touches the database: claims come in by `start`, results are collected in `results`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable

import structlog

from delivery.messages import rules
from delivery.messages.pace import Breaker, Bucket, Clock
from delivery.messages.rules import Call, Policy, Result
from delivery.providers.base import CallError, OutcomeUnknown, Provider, Throttled

log = structlog.get_logger()

_CLAIM_PAUSE_S = 0.02
_MOST_UNWRITTEN = 2000


class Sender:
    """The requests in flight of one process to one provider, for the formats in whose chains it stands."""

    def __init__(
        self, provider: Provider, formats: Iterable[str], policy: Policy, clock: Clock = time.monotonic
    ) -> None:
        self.provider = provider
        self.policy = policy
        self.breaker = Breaker(clock)
        self.bucket = Bucket(provider.rate, clock)
        self.wake = asyncio.Event()
        self.claiming = asyncio.Lock()  # held from counting the free requests until they are taken
        self.formats = deque(formats)  # the first is claimed first; they take turns
        self.turns = {name: {"single": "", "bulk": ""} for name in self.formats}
        self.results: list[Result] = []
        self.has_other: Callable[[], bool] = lambda: False  # whether another provider takes what this one cannot
        self._tasks: set[asyncio.Task[None]] = set()
        self._allowed = float(provider.concurrency)
        self._freed = asyncio.Event()

    async def wait_until_free(self) -> bool:
        """Waits for a quarter of the requests to be free, 20 ms at most; whether any can be made then."""
        if len(self.results) > _MOST_UNWRITTEN or self.breaker.state == "open" or not self.bucket.most():
            await asyncio.sleep(_CLAIM_PAUSE_S)
            return False
        deadline = time.monotonic() + _CLAIM_PAUSE_S
        while self._free() < max(1, int(self._allowed) // 4) and (left := deadline - time.monotonic()) > 0:
            self._freed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._freed.wait()
            except TimeoutError:
                break
        return self.free_slots() > 0

    def free_slots(self) -> int:
        """Requests that can be made now: none while the breaker is open or the tokens are used up, one as canary."""
        state = self.breaker.state
        if state == "open" or not self.bucket.most():
            return 0
        return min(max(0, self._free()), 1 if state == "half_open" else self.provider.concurrency)

    def most_messages(self, slots: int) -> int:
        """How many messages may go in `slots` requests: a canary is one."""
        if self.breaker.state == "half_open":
            return 1
        return int(min(slots * self.provider.batch_size, self.bucket.most()))

    def _free(self) -> int:
        return int(self._allowed) - len(self._tasks)

    def start(self, call: Call) -> None:
        """Makes the request of a call whose claim is committed."""
        self.bucket.take(call.parts)
        task = asyncio.create_task(self._make(call, self.breaker.begin()))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def _make(self, call: Call, begun: int) -> None:
        structlog.contextvars.bind_contextvars(request_id=call.request_id)  # of this task alone
        try:
            outcomes = await self.provider.send(call.key, call.body, call.message_ids)
        except CallError as error:
            if isinstance(error, Throttled):
                self._allowed = max(1.0, self._allowed / 2)
            self._tell(begun, error)
            away_s = 0.0 if self.has_other() else self.breaker.pause_s
            self.results += rules.read_error(call, error, self.policy, away_s)
        except Exception as error:  # a fault of ours, or of a class from outside: counted here, told by `_done`
            self._tell(begun, OutcomeUnknown(type(error).__name__))
            raise
        else:
            self._tell(begun, None)
            self._allowed = min(self.provider.concurrency, self._allowed + 1.0)
            self.results += rules.read_outcomes(call, outcomes, self.policy)

    def _tell(self, begun: int, error: CallError | None) -> None:
        change = self.breaker.end(begun, error)
        if change == "opened" and error is not None:
            log.warning(
                "provider is away",
                provider=self.provider.name,
                why=error.category,
                error=error.reason,
                pause_s=self.breaker.pause_s,
            )
        elif change == "closed":
            log.info("provider is back", provider=self.provider.name)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._freed.set()
        if not task.cancelled() and task.exception() is not None:
            # A fault of ours: nobody knows what the provider has, so the lease runs out and the call is repeated.
            log.error("a call broke", provider=self.provider.name, error=type(task.exception()).__name__)

    async def drain(self) -> None:
        """Waits for what is in flight; nothing new is started."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=12)
