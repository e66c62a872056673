"""Makes calls to one provider: as many at once as it allows, fewer when it asks for patience, none while it is away.

Nothing here touches the database: claims come in by `start`, results are collected in `results`.
"""

import asyncio
import time

import structlog

from delivery.messages import rules
from delivery.messages.rules import Call, Policy, Result
from delivery.providers.base import CallError, NotConnected, Provider, Throttled

log = structlog.get_logger()

_CLAIM_PAUSE_S = 0.02
_MOST_UNWRITTEN = 2000
_LONGEST_AWAY_S = 5.0


class Sender:
    """The requests in flight of one process to one provider, for one format."""

    def __init__(self, message_format: str, provider: Provider, policy: Policy) -> None:
        self.message_format = message_format
        self.provider = provider
        self.policy = policy
        self.wake = asyncio.Event()
        self.claiming = asyncio.Lock()  # held from counting the free requests until they are taken
        self.turns = {"single": "", "bulk": ""}
        self.results: list[Result] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._allowed = float(provider.concurrency)
        self._freed = asyncio.Event()
        self._away_until = 0.0
        self._away_s = 0.0

    async def wait_for_slots(self) -> int:
        """Free requests: at once when a quarter is free, else what is free after 20 ms (bus.md, Delivery)."""
        if time.monotonic() < self._away_until or len(self.results) > _MOST_UNWRITTEN:
            await asyncio.sleep(_CLAIM_PAUSE_S)
            return 0
        if self._free() < max(1, int(self._allowed) // 4):
            deadline = time.monotonic() + _CLAIM_PAUSE_S
            while self._free() < max(1, int(self._allowed) // 4) and (left := deadline - time.monotonic()) > 0:
                self._freed.clear()
                try:
                    async with asyncio.timeout(left):
                        await self._freed.wait()
                except TimeoutError:
                    break
        return max(0, self._free())

    def free_slots(self) -> int:
        """Free requests now, none while the provider is away."""
        return max(0, self._free()) if time.monotonic() >= self._away_until else 0

    def _free(self) -> int:
        return int(self._allowed) - len(self._tasks)

    def start(self, call: Call) -> None:
        """Makes the request of a call whose claim is committed."""
        task = asyncio.create_task(self._make(call))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def _make(self, call: Call) -> None:
        structlog.contextvars.bind_contextvars(request_id=call.request_id)  # of this task alone
        try:
            outcomes = await self.provider.send(call.key, call.body, call.message_ids)
        except CallError as error:
            self._slow_down(error)
            self.results += rules.read_error(call, error, self.policy)
        else:
            self._away_s = 0.0
            self._allowed = min(self.provider.concurrency, self._allowed + 1.0)
            self.results += rules.read_outcomes(call, outcomes, self.policy)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._freed.set()
        if not task.cancelled() and task.exception() is not None:
            # A fault of ours: nobody knows what the provider has, so the lease runs out and the call is repeated.
            log.error("a call broke", provider=self.provider.name, error=repr(task.exception())[:300])

    def _slow_down(self, error: CallError) -> None:
        """Fewer at once after a throttling; none for a while, each time longer, when there is no connection."""
        if isinstance(error, Throttled):
            self._allowed = max(1.0, self._allowed / 2)
        now = time.monotonic()
        if isinstance(error, NotConnected) and now >= self._away_until:
            self._away_s = min(_LONGEST_AWAY_S, self._away_s * 2 or 0.1)
            self._away_until = now + self._away_s
            log.warning("provider is away", provider=self.provider.name, error=error.reason, pause_s=self._away_s)

    async def drain(self) -> None:
        """Waits for what is in flight; nothing new is started."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=12)
