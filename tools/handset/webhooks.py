"""The webhooks of the handset: delivery receipts of messages, and replies of people.

A receipt is planned when a message is accepted (with automatic receipts) or requested by a person or test. When it is
due, the handset stores the new status and posts the webhook in the provider's format. A webhook that is not answered
2xx is posted again after a pause that doubles, six times at most. Planned receipts are not stored: they are lost when
the handset ends, as some receipts of real providers are.
"""

import asyncio
import contextlib
import heapq
import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, NamedTuple

import aiohttp

from tools.handset.scenarios import Step
from tools.handset.store import Message, Reply, StatusReport, Store

ATTEMPTS = 6
_FIRST_PAUSE_S = 1.0
_CONFIRMATION_PAUSE_S = 0.2
_TIMEOUT = aiohttp.ClientTimeout(total=10)
_CONCURRENT_POSTS = 8
# The statuses that a receipt can report. Each provider has its own name and code for a status.
STATUSES = (
    "sent",
    "delivered",
    "undelivered",
    "unknown_number",
    "expired",
    "blocked",
    "filtered",
    "opted_out",
    "part_failed",
)


class Webhook(NamedTuple):
    """One HTTP request to the system under test."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class DeliveryReceipt(NamedTuple):
    """A receipt before it is written in a provider's format. `at` is in Unix seconds."""

    message: Message
    status: str
    at: float
    part: int = 1
    of_parts: int = 1
    mangled: bool = False
    forged: bool = False


class WebhookWriter(ABC):
    """Writes webhooks in one provider's format.

    `statuses` maps each status to the provider's name and code. With `per_part`, each part has its own receipt.
    """

    name: ClassVar[str]
    statuses: ClassVar[Mapping[str, tuple[str, str]]]
    per_part: ClassVar[bool] = False

    @abstractmethod
    def write_receipt(self, receipt: DeliveryReceipt) -> Webhook | None:
        """Return the webhook of a receipt, or None without an address. Only the signature differs between calls."""

    @abstractmethod
    def write_reply(self, reply: Reply) -> list[Webhook]:
        """Return the webhooks that a reply causes."""

    def confirmation_request(self) -> Webhook | None:
        """Return the webhook that the receiver must confirm before all others, or None when it has."""
        return None


@dataclass
class _Post:
    """A webhook to post. It is written again for each attempt, because signatures have a time."""

    writer: WebhookWriter
    receipt: DeliveryReceipt | None = None
    reply: Reply | None = None
    number: int = 0  # the position among the reply's webhooks
    attempts: int = field(default=0)

    def is_current(self, store: Store) -> bool:
        """Return whether the message or reply is still in the store."""
        if self.receipt is not None:
            return self.receipt.message.id in store.by_id
        return self.reply is not None and self.reply in store.conversations.get(self.reply.phone, [])

    def write(self) -> Webhook | None:
        """Return the webhook in the provider's format."""
        if self.receipt is not None:
            return self.writer.write_receipt(self.receipt)
        assert self.reply is not None
        return self.writer.write_reply(self.reply)[self.number]


class Webhooks:
    """Plans, posts and retries webhooks. `answers`: message → HTTP status of its last webhook, 0 without an answer."""

    def __init__(self, store: Store) -> None:
        """Begin without plans. `start` begins to post."""
        self._store = store
        self._writers: dict[str, WebhookWriter] = {}
        self._planned: list[tuple[float, int, Message, Step]] = []
        self._numbers = itertools.count()
        self._valid_from: dict[str, int] = {}  # message → plans with a smaller number are cancelled
        self._plan_changed = asyncio.Event()
        self._posts: asyncio.Queue[_Post] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self.answers: dict[str, int] = {}

    def add(self, writer: WebhookWriter) -> None:
        """Register a provider."""
        self._writers[writer.name] = writer

    @property
    def providers(self) -> list[str]:
        """The names of the registered providers."""
        return list(self._writers)

    async def start(self) -> None:
        """Begin to post."""
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, skip_auto_headers=("User-Agent",))
        self._tasks = [asyncio.create_task(self._queue_planned())]
        self._tasks += [asyncio.create_task(self._post_queued()) for _ in range(_CONCURRENT_POSTS)]

    async def close(self) -> None:
        """Stop posting. What is planned or queued is dropped."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    def plan(self, message: Message, steps: tuple[Step, ...]) -> None:
        """Plan the receipts of a message."""
        now = time.monotonic()
        for step in steps:
            heapq.heappush(self._planned, (now + step.after_s, next(self._numbers), message, step))
        self._plan_changed.set()

    def replace(self, message: Message, steps: tuple[Step, ...]) -> None:
        """Send these receipts instead of the planned ones of the message."""
        self._valid_from[message.id] = next(self._numbers)
        self.plan(message, tuple(step for step in steps if step.after_s > 0))
        for step in steps:
            if step.after_s == 0:
                self._queue(message, step)

    async def post_now(self, message: Message, steps: tuple[Step, ...]) -> None:
        """Post these receipts, and return after the first attempt of each."""
        for step in steps:
            for post in self._apply(message, step):
                await self._post(post)

    def reply(self, reply: Reply) -> None:
        """Store a reply and queue its webhooks."""
        self._store.append(reply)
        writer = self._writers[reply.provider]
        for number in range(len(writer.write_reply(reply))):
            self._posts.put_nowait(_Post(writer, reply=reply, number=number))

    async def _queue_planned(self) -> None:
        while True:
            self._plan_changed.clear()
            pause = self._planned[0][0] - time.monotonic() if self._planned else None
            if pause is None or pause > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._plan_changed.wait(), pause)
                continue
            _, number, message, step = heapq.heappop(self._planned)
            if number >= self._valid_from.get(message.id, 0) and message.id in self._store.by_id:
                self._queue(message, step)

    def _queue(self, message: Message, step: Step) -> None:
        for post in self._apply(message, step):
            self._posts.put_nowait(post)

    def _apply(self, message: Message, step: Step) -> list[_Post]:
        """Store the status of the step, unless it is forged, and return the webhooks to post."""
        writer = self._writers[message.provider]
        status = "undelivered" if step.status == "part_failed" else step.status
        now = time.time()
        if not step.forged:
            self._store.append(StatusReport(message.id, now, status, " ".join(writer.statuses[status]).strip()))
        parts = message.parts if writer.per_part else 1
        return [
            _Post(
                writer,
                DeliveryReceipt(
                    message=message,
                    status="delivered" if step.status == "part_failed" and part < parts else status,
                    at=now,
                    part=part,
                    of_parts=parts,
                    mangled=step.mangled,
                    forged=step.forged,
                ),
            )
            for part in range(1, parts + 1)
        ]

    async def _post_queued(self) -> None:
        while True:
            await self._post(await self._posts.get())

    async def _post(self, post: _Post) -> None:
        """Post once. Without a 2xx answer the webhook is queued again after a pause, unless its message was deleted."""
        if not post.is_current(self._store):
            return
        if confirmation := post.writer.confirmation_request():
            await self._request(confirmation)
        is_confirmed = post.writer.confirmation_request() is None
        if is_confirmed and await self._is_done(post):
            return
        post.attempts += 1
        if post.attempts < ATTEMPTS:
            pause = (_FIRST_PAUSE_S if is_confirmed else _CONFIRMATION_PAUSE_S) * 2 ** (post.attempts - 1)
            asyncio.get_running_loop().call_later(pause, partial(self._posts.put_nowait, post))

    async def _is_done(self, post: _Post) -> bool:
        """Post the webhook and return whether no retry is needed. A forged receipt is never retried."""
        webhook = post.write()
        if webhook is None:
            return True
        status = await self._request(webhook)
        if post.receipt is not None:
            self.answers[post.receipt.message.id] = status
            self._store.notify({post.receipt.message.to})
        return 200 <= status < 300 or (post.receipt is not None and post.receipt.forged)

    async def _request(self, webhook: Webhook) -> int:
        """Return the status of the answer, or 0 without an answer."""
        try:
            async with self._session.post(
                webhook.url, data=webhook.body, headers=webhook.headers, allow_redirects=False
            ) as response:
                await response.read()
                return response.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return 0
