"""What the handset tells by webhook: what became of a message, and what somebody replied.

A receipt is planned when a message is taken (when receipts are on) or asked for by a person or test. Once it is due
the phone knows it, and it is posted as its vendor writes it, again after a pause that doubles until it is answered
2xx, six times at most. What is planned is not kept: a death of the handset forgets it, as a carrier's may.
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
from tools.handset.store import Message, Reply, Report, Store

ATTEMPTS = 6
_FIRST_PAUSE_S = 1.0
_PRELUDE_PAUSE_S = 0.2
_TIMEOUT = aiohttp.ClientTimeout(total=10)
_POSTS_AT_ONCE = 8
# What can be said of a message. A vendor has its own word and code for each.
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
    """One request to the sender's side."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class Notice(NamedTuple):
    """A receipt as a vendor is given it to write. `at` in Unix seconds."""

    message: Message
    status: str
    at: float
    part: int = 1
    of_parts: int = 1
    mangled: bool = False
    forged: bool = False


class Writer(ABC):
    """How a vendor tells. `words`: status → its word and its code. `per_part`: it reports each part by itself."""

    name: ClassVar[str]
    words: ClassVar[Mapping[str, tuple[str, str]]]
    per_part: ClassVar[bool] = False

    @abstractmethod
    def receipt(self, notice: Notice) -> Webhook | None:
        """Write a receipt, the same one each time but for its signature; None: there is nowhere to send it."""

    @abstractmethod
    def replies(self, reply: Reply) -> list[Webhook]:
        """Write what a reply sets off."""

    def prelude(self) -> Webhook | None:
        """Return what the other side has to confirm before it is told anything, None when it has."""
        return None


@dataclass
class _Post:
    """A webhook that is to be posted: written anew each time, since signatures age."""

    writer: Writer
    notice: Notice | None = None
    reply: Reply | None = None
    number: int = 0  # which of the reply's webhooks
    attempts: int = field(default=0)

    def is_remembered(self, store: Store) -> bool:
        """Whether what it is about was not forgotten since."""
        if self.notice is not None:
            return self.notice.message.id in store.by_id
        return self.reply is not None and self.reply in store.conversations.get(self.reply.phone, [])

    def write(self) -> Webhook | None:
        """Write it as its vendor does."""
        if self.notice is not None:
            return self.writer.receipt(self.notice)
        assert self.reply is not None
        return self.writer.replies(self.reply)[self.number]


class Receipts:
    """Plans, posts and repeats. `answers`: message → HTTP status of the last webhook about it, 0: no answer."""

    def __init__(self, store: Store) -> None:
        """Begin with nothing planned; `start` begins to post."""
        self._store = store
        self._writers: dict[str, Writer] = {}
        self._planned: list[tuple[float, int, Message, Step]] = []
        self._numbers = itertools.count()
        self._valid_from: dict[str, int] = {}  # message → what was planned for it before this number is off
        self._news = asyncio.Event()
        self._posts: asyncio.Queue[_Post] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self.answers: dict[str, int] = {}

    def add(self, writer: Writer) -> None:
        """Make a vendor known."""
        self._writers[writer.name] = writer

    @property
    def providers(self) -> list[str]:
        """The names of the vendors."""
        return list(self._writers)

    async def start(self) -> None:
        """Begin to post."""
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, skip_auto_headers=("User-Agent",))
        self._tasks = [asyncio.create_task(self._fire_planned())]
        self._tasks += [asyncio.create_task(self._post_queued()) for _ in range(_POSTS_AT_ONCE)]

    async def close(self) -> None:
        """End, whatever is planned."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    def plan(self, message: Message, steps: tuple[Step, ...]) -> None:
        """Plan the receipts of a message."""
        now = time.monotonic()
        for step in steps:
            heapq.heappush(self._planned, (now + step.after_s, next(self._numbers), message, step))
        self._news.set()

    def replace(self, message: Message, steps: tuple[Step, ...]) -> None:
        """Tell these receipts instead of those that were planned for the message."""
        self._valid_from[message.id] = next(self._numbers)
        self.plan(message, tuple(step for step in steps if step.after_s > 0))
        for step in steps:
            if step.after_s == 0:
                self._queue(message, step)

    async def tell_now(self, message: Message, steps: tuple[Step, ...]) -> None:
        """Tell these receipts, and come back when each was posted."""
        for step in steps:
            for post in self._take_step(message, step):
                await self._post(post)

    def reply(self, reply: Reply) -> None:
        """Keep what somebody typed, and tell it."""
        self._store.append(reply)
        writer = self._writers[reply.provider]
        for number in range(len(writer.replies(reply))):
            self._posts.put_nowait(_Post(writer, reply=reply, number=number))

    async def _fire_planned(self) -> None:
        while True:
            self._news.clear()
            pause = self._planned[0][0] - time.monotonic() if self._planned else None
            if pause is None or pause > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), pause)
                continue
            _, number, message, step = heapq.heappop(self._planned)
            if number >= self._valid_from.get(message.id, 0) and message.id in self._store.by_id:
                self._queue(message, step)

    def _queue(self, message: Message, step: Step) -> None:
        for post in self._take_step(message, step):
            self._posts.put_nowait(post)

    def _take_step(self, message: Message, step: Step) -> list[_Post]:
        """Let the phone know, and return what is to be posted."""
        writer = self._writers[message.provider]
        status = "undelivered" if step.status == "part_failed" else step.status
        now = time.time()
        if not step.forged:
            self._store.append(Report(message.id, now, status, " ".join(writer.words[status]).strip()))
        parts = message.parts if writer.per_part else 1
        notices = []
        for part in range(1, parts + 1):
            told = "delivered" if step.status == "part_failed" and part < parts else status
            notices.append(Notice(message, told, now, part, parts, step.mangled, step.forged))
        return [_Post(writer, notice) for notice in notices]

    async def _post_queued(self) -> None:
        while True:
            await self._post(await self._posts.get())

    async def _post(self, post: _Post) -> None:
        """Post once; what is not answered 2xx is put back after a pause, a forged one and what was forgotten never."""
        if not post.is_remembered(self._store):
            return
        if prelude := post.writer.prelude():
            await self._request(prelude)
        ready = post.writer.prelude() is None
        if ready and await self._tell(post):
            return
        post.attempts += 1
        if post.attempts < ATTEMPTS:
            pause = (_FIRST_PAUSE_S if ready else _PRELUDE_PAUSE_S) * 2 ** (post.attempts - 1)
            asyncio.get_running_loop().call_later(pause, partial(self._posts.put_nowait, post))

    async def _tell(self, post: _Post) -> bool:
        """Return whether that was the end of it."""
        webhook = post.write()
        if webhook is None:
            return True
        status = await self._request(webhook)
        if post.notice is not None:
            self.answers[post.notice.message.id] = status
            self._store.notify({post.notice.message.to})
        return 200 <= status < 300 or (post.notice is not None and post.notice.forged)

    async def _request(self, webhook: Webhook) -> int:
        """Return the status of the answer, 0 when there was none."""
        try:
            async with self._session.post(
                webhook.url, data=webhook.body, headers=webhook.headers, allow_redirects=False
            ) as response:
                await response.read()
                return response.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return 0
