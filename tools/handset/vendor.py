"""What the vendors' wire formats share: admission, refusals by scenario, answers in time, and words of people."""

import asyncio
import base64
import hmac
import re
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from aiohttp import web

from tools.handset.receipts import Receipts, Writer
from tools.handset.scenarios import (
    RECEIPTS,
    REFUSALS_BEFORE_ACCEPT,
    SLOW_S,
    USUAL_RECEIPTS,
    Behaviour,
    Step,
    behaviour_for,
)
from tools.handset.settings import Settings
from tools.handset.store import Message, Request, Store

# How often a behaviour refuses a request; None: always.
REFUSALS: dict[Behaviour, int | None] = {
    Behaviour.THROTTLE: None,
    Behaviour.THROTTLE_TWICE: REFUSALS_BEFORE_ACCEPT,
    Behaviour.BUSY_TWICE: REFUSALS_BEFORE_ACCEPT,
    Behaviour.FAIL_ONCE: 1,
    Behaviour.NO_CREDIT: None,
}
_WITH_REQUEST = {*REFUSALS, Behaviour.NEVER_ANSWER, Behaviour.DROP, Behaviour.SLOW}
_STOP_WORDS = {"STOP", "STOPALL", "UNSUBSCRIBE", "OPTOUT", "CANCEL", "END", "QUIT", "REVOKE"}
_START_WORDS = {"START", "UNSTOP", "YES"}
_HELP_WORDS = {"HELP", "INFO"}
_NUMBER = re.compile(r"\+?[0-9]{3,15}")


class Vendor(Writer):
    """One vendor's endpoints over a store, and its webhooks."""

    def __init__(self, store: Store, settings: Settings, receipts: Receipts) -> None:
        """Take what all vendors share, and let receipts be written as this one does."""
        self.store, self.settings, self.receipts = store, settings, receipts
        self._answered_at: dict[str, float] = {}  # key of a request that is still running → when it will be answered
        receipts.add(self)

    @abstractmethod
    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints."""

    @property
    def is_full(self) -> bool:
        """Whether as many requests are in flight as are allowed."""
        return bool(self.settings.concurrency and self.store.in_flight >= self.settings.concurrency)

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count a request while it runs."""
        self.store.in_flight += 1
        try:
            yield
        finally:
            self.store.in_flight -= 1

    def refuses(self, behaviour: Behaviour, refused: str) -> bool:
        """Whether the whole request is refused; `refused` names what has been counted for it so far."""
        if behaviour not in REFUSALS:
            return False
        times = REFUSALS[behaviour]
        return times is None or self.store.refusals[refused] < times

    def keep_refusal(self, refused: str, body_hash: str, status: int) -> None:
        """Keep that the scenario refused a request (of a vendor without keys)."""
        self.store.append(Request(time.time(), "", body_hash, status, b"", [], refused=refused))

    async def answer(
        self,
        request: web.Request,
        behaviour: Behaviour,
        taken: Sequence[Message],
        response: web.Response,
        key: str = "",
    ) -> web.Response:
        """Answer when it is time; the messages are taken already, whatever becomes of the connection."""
        if self.settings.receipts == "on":
            await self._announce(taken)
        if behaviour is Behaviour.DROP and request.transport is not None:
            request.transport.abort()
        if behaviour in (Behaviour.DROP, Behaviour.NEVER_ANSWER):
            await asyncio.Event().wait()  # the server cancels it when the connection is gone
        delay = self.settings.latency_ms / 1000 + (SLOW_S if behaviour is Behaviour.SLOW else 0.0)
        if delay:
            at = time.monotonic() + delay
            self._answered_at[key] = at
            try:
                await sleep_until(at)
            finally:
                self._answered_at.pop(key, None)
        return response

    def steps(self, message: Message) -> tuple[Step, ...]:
        """Return the receipts of a message that was accepted."""
        return RECEIPTS.get(behaviour_for(message.to), USUAL_RECEIPTS)

    async def _announce(self, taken: Sequence[Message]) -> None:
        """Plan the receipts; those that come early are told before the request is answered."""
        for message in taken:
            if behaviour_for(message.to) is Behaviour.EARLY:
                await self.receipts.tell_now(message, self.steps(message))
            else:
                self.receipts.plan(message, self.steps(message))

    async def wait_for(self, key: str) -> None:
        """Wait as long as the first request under this key still runs."""
        await sleep_until(self._answered_at.get(key, 0.0))

    def is_basic(self, request: web.Request, username: str, password: str) -> bool:
        """Whether a request has these credentials as HTTP Basic, or any where none are set."""
        header = request.headers.get("Authorization", "")
        if not username:
            return header.startswith("Basic ")
        return hmac.compare_digest(header.encode(), b"Basic " + base64.b64encode(f"{username}:{password}".encode()))


def special(behaviours: Sequence[Behaviour]) -> Behaviour:
    """Return the first behaviour that acts on the whole request, else ACCEPT."""
    return next((behaviour for behaviour in behaviours if behaviour in _WITH_REQUEST), Behaviour.ACCEPT)


def keyword(text: str) -> str:
    """Return stop, start or help when the whole text is such a word, else an empty text."""
    word = re.sub(r"[^A-Z]", "", text.upper())
    for name, words in (("stop", _STOP_WORDS), ("start", _START_WORDS), ("help", _HELP_WORDS)):
        if word in words:
            return name
    return ""


def can_receive(sender: str) -> bool:
    """Whether a reply can reach a sender: a number can be reached, a name cannot."""
    return _NUMBER.fullmatch(sender) is not None


async def sleep_until(at: float) -> None:
    """Sleep until a time of the monotonic clock."""
    delay = at - time.monotonic()
    if delay > 0:
        await asyncio.sleep(delay)
