"""The requests of one process to one provider.

Nothing here touches the database. Claimed submissions come in by `start`, and results are collected in `results`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import structlog

from common import tracing
from common.readings import Observed
from delivery import metrics
from delivery.messages.rules import Result
from delivery.providers.base import OutcomeUnknown, Provider, SubmissionError, Throttled
from delivery.sending.routing import Availability
from delivery.sending.rules import (
    Capacity,
    LanePositions,
    SendingPolicy,
    Submission,
    read_error,
    read_outcomes,
)
from delivery.sending.throttling import TokenBucket

log = structlog.get_logger()

_WAIT_S, _LONG_WAIT_S = 0.02, 0.04
_MANY_REQUESTS = 32
_MAX_UNRECORDED = 2000
_DRAIN_S = 12


class ProviderWorker:
    """The requests of one process to one provider, for the formats that the provider sends.

    It makes as many at once as the provider allows, fewer after it was throttled, and none while its circuit is open.
    The lock `claiming` covers counting and starting the requests. `positions` say for each format where the
    next claim begins.
    """

    def __init__(
        self, provider: Provider, formats: Iterable[str], policy: SendingPolicy, availability: Availability
    ) -> None:
        self.provider = provider
        self.policy = policy
        self.wake = asyncio.Event()
        self.claiming = asyncio.Lock()
        self.results: list[Result] = []
        self.has_results = asyncio.Event()
        self._formats = deque(formats)
        self.positions = dict.fromkeys(self._formats, LanePositions())
        self._availability = availability
        self.circuit = availability.add(provider.name, self._formats)
        self._bucket = TokenBucket(provider.rate, availability.clock)
        self._allowed = float(provider.concurrency)
        self._tasks: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        self.paused_since: datetime | None = None
        self._failure_category = ""  # why the provider is unavailable, and since when
        self._unavailable_since: datetime | None = None
        self._request_times = metrics.SUBMISSION_SECONDS.labels(provider.name)

    def next_formats(self) -> Sequence[str]:
        """Return the formats in the order of the next claim. Each is the first one in turn."""
        self._formats.rotate()
        return tuple(self._formats)

    async def wait_until_free(self) -> bool:
        """Wait until a claim is worthwhile, up to 40 ms. Return whether a request can be made.

        A claim costs nearly the same for few messages as for many. So wait for a quarter of the allowed requests, or
        for half of them if 32 or more are allowed. Stop after 20 ms if less than a quarter is free: with a provider
        that answers slowly, the free requests would stay unused.
        """
        if len(self.results) > _MAX_UNRECORDED or not self._may_send():
            await asyncio.sleep(_WAIT_S)
            return False
        begun = time.monotonic()
        while (free := self._free()) < self._wanted():
            longest = _LONG_WAIT_S if 4 * free >= self._allowed else _WAIT_S
            if (left := begun + longest - time.monotonic()) <= 0:
                break
            self._freed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._freed.wait()
            except TimeoutError:
                break
        return self.free_slots() > 0

    def free_slots(self) -> int:
        """Return how many requests can be made now: one while the circuit is half-open, none while it is open."""
        if not self._may_send():
            return 0
        return min(max(0, self._free()), 1 if self.circuit.state == "half_open" else self.provider.concurrency)

    def capacity(self, message_format: str) -> Capacity | None:
        """Return what can be sent of a format now, or None. While the circuit is half-open, it is one message.

        If more than 16 requests are allowed, a claim takes 16 or half of them, whichever is more. If it took all, their
        answers would arrive together, and no request would be in flight during the next claim.
        """
        slots = min(self.free_slots(), max(_MANY_REQUESTS // 2, int(self._allowed) // 2))
        if not slots:
            return None
        allowance = self._bucket.allowance()
        is_test = self.circuit.state == "half_open"
        return Capacity(
            message_format=message_format,
            submissions=slots,
            messages=1 if is_test else int(min(slots * self.provider.batch_size, allowance.max_messages())),
            allowance=allowance,
            positions=self.positions[message_format],
        )

    def _wanted(self) -> int:
        allowed = int(self._allowed)
        return max(1, allowed // 2 if allowed >= _MANY_REQUESTS else allowed // 4)

    def _may_send(self) -> bool:
        return self.circuit.state != "open" and self._bucket.allowance().max_messages() > 0

    def _free(self) -> int:
        return int(self._allowed) - len(self._tasks)

    def start(self, submission: Submission) -> None:
        """Start the request of a submission whose claim is committed."""
        self._bucket.take(submission.parts)
        task = asyncio.create_task(self._submit(submission, self.circuit.start()))
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    async def _submit(self, submission: Submission, begun: int) -> None:
        structlog.contextvars.bind_contextvars(request_id=submission.request_id)  # for this task only
        name = self.provider.name
        attributes: tracing.Attributes = {"provider": name, "messages": len(submission.message_ids)}
        attributes["try"] = submission.tries
        with (
            self._request_times.time(),
            tracing.span_for_each_trace(f"submit {name}", submission.traceparents, attributes),
        ):
            await self._send(submission, begun)

    async def _send(self, submission: Submission, begun: int) -> None:
        try:
            outcomes = await self.provider.send(submission.key, submission.body, submission.message_ids)
        except SubmissionError as error:
            if isinstance(error, Throttled):
                self._allowed = max(1.0, self._allowed / 2)
            self._end(begun, error)
            has_alternative = self._availability.has_alternative(self.provider.name)
            unavailable_s = 0.0 if has_alternative else self.circuit.pause_s
            self.results += read_error(submission, error, self.policy, unavailable_s)
        except Exception as error:  # an error in our code, or in a provider's class from outside; `_finish` logs it
            self._end(begun, OutcomeUnknown(type(error).__name__))
            raise
        else:
            self._end(begun, None)
            self._allowed = min(self.provider.concurrency, self._allowed + 1.0)
            self.results += read_outcomes(submission, outcomes, self.policy)

    def _end(self, begun: int, error: SubmissionError | None) -> None:
        result = "answered" if error is None else error.failure_category
        metrics.SUBMISSIONS.labels(self.provider.name, result).inc()
        tracing.set_result(result, is_error=error is not None)
        change = self.circuit.finish(begun, error)
        if error is not None and self.circuit.state != "closed":
            self._failure_category = error.failure_category
        if error is not None and change in ("opened", "reopened"):
            if change == "opened":
                self._unavailable_since = datetime.now(UTC)
            log.warning(
                "provider unavailable" if change == "opened" else "provider still unavailable",
                provider=self.provider.name,
                failure_category=error.failure_category,
                error=error.reason,
                pause_s=self.circuit.pause_s,
            )
        elif change == "closed":
            self._unavailable_since = None
            log.info("provider available", provider=self.provider.name)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._freed.set()
        self.has_results.set()
        if not task.cancelled() and task.exception() is not None:
            # The outcome is not known. The lease ends, and the submission becomes unknown.
            error = type(task.exception()).__name__
            log.error("submission failed in our code", provider=self.provider.name, error=error)

    def set_metrics(self) -> None:
        """Set the metrics of the worker's state."""
        name = self.provider.name
        metrics.IN_FLIGHT.labels(name).set(len(self._tasks))
        metrics.ALLOWED.labels(name).set(int(self._allowed))
        state = self.circuit.state
        for one in metrics.CIRCUIT_STATES:
            metrics.CIRCUIT.labels(name, one).set(one == state)
        if self.provider.rate:
            metrics.TOKENS.labels(name).set(self._bucket.allowance().parts)

    def describe(self) -> dict[str, str]:
        """Return whether the provider is paused or available and, if it is unavailable, why, and since when."""
        if self.paused_since is not None:
            return {"status": "paused", "since": _show(self.paused_since)}
        if self._unavailable_since is None:
            return {"status": "available"}
        since = _show(self._unavailable_since)
        return {"status": "unavailable", "failure_category": self._failure_category, "since": since}

    async def drain(self) -> None:
        """Wait for the requests that were started."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=_DRAIN_S)


def _show(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def observe(workers: Sequence[ProviderWorker]) -> Observed:
    """Return the metrics and the health of delivery's worker, which has these provider workers."""

    def set_metrics() -> None:
        for worker in workers:
            worker.set_metrics()

    def describe() -> Mapping[str, Mapping[str, Mapping[str, str]]]:
        return {"providers": {worker.provider.name: worker.describe() for worker in workers}}

    return Observed(metrics.READINGS, set_metrics, describe)


def make_workers(
    providers: Iterable[Provider],
    chains: Mapping[str, Sequence[str]],
    policy: SendingPolicy,
    availability: Availability,
) -> list[ProviderWorker]:
    """Return a worker for each provider, for the formats in whose provider chain it is."""
    return [
        ProviderWorker(
            provider, [name for name, chain in chains.items() if provider.name in chain], policy, availability
        )
        for provider in providers
    ]
