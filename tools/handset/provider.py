"""The common part of the emulated providers: admission, refusals by scenario, delayed answers, and keywords."""

import asyncio
import base64
import hmac
import re
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

from aiohttp import web

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
from tools.handset.webhooks import Webhooks, WebhookWriter

# How often a behaviour refuses a request. None means always.
REFUSALS: dict[Behaviour, int | None] = {
    Behaviour.THROTTLE: None,
    Behaviour.THROTTLE_TWICE: REFUSALS_BEFORE_ACCEPT,
    Behaviour.BUSY_TWICE: REFUSALS_BEFORE_ACCEPT,
    Behaviour.FAIL_ONCE: 1,
    Behaviour.NO_CREDIT: None,
}
_OF_THE_REQUEST = {*REFUSALS, Behaviour.NEVER_ANSWER, Behaviour.DROP, Behaviour.SLOW}
_STOP_KEYWORDS = {"STOP", "STOPALL", "UNSUBSCRIBE", "OPTOUT", "CANCEL", "END", "QUIT", "REVOKE"}
_START_KEYWORDS = {"START", "UNSTOP", "YES"}
_HELP_KEYWORDS = {"HELP", "INFO"}
_NUMBER = re.compile(r"\+?[0-9]{3,15}")


class EmulatedProvider(WebhookWriter):
    """One provider's endpoints over the store, and its webhooks.

    A class declares the name that the page shows, and for the embedded stack the variables of delivery's settings that
    have a fixed value there (`embedded`) and those that get a random value once (`generated`).
    """

    title: ClassVar[str]
    embedded: ClassVar[Mapping[str, str]] = {}
    generated: ClassVar[tuple[str, ...]] = ()

    def __init__(self, store: Store, settings: Settings, webhooks: Webhooks) -> None:
        """Set what all providers share, and register this one as the writer of its webhooks."""
        self.store, self.settings, self.webhooks = store, settings, webhooks
        self._answered_at: dict[str, float] = {}  # key of a request in flight → the time of its answer
        webhooks.add(self)

    @abstractmethod
    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints."""

    def variable(self, name: str) -> str:
        """Return an environment variable, or an empty text when it is not set."""
        return self.settings.environment.get(name, "")

    @property
    def is_full(self) -> bool:
        """Whether the number of requests in flight has reached its maximum."""
        return bool(self.settings.concurrency and self.store.in_flight >= self.settings.concurrency)

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count a request as in flight."""
        self.store.in_flight += 1
        try:
            yield
        finally:
            self.store.in_flight -= 1

    def refuses(self, behaviour: Behaviour, refused: str) -> bool:
        """Return whether the whole request is refused. Refusals are counted by `refused`."""
        if behaviour not in REFUSALS:
            return False
        times = REFUSALS[behaviour]
        return times is None or self.store.refusals[refused] < times

    def save_refusal(self, refused: str, body_hash: str, status: int) -> None:
        """Store the refusal of a request, for a provider without idempotency keys."""
        self.store.append(
            Request(
                at=time.time(), key="", body_hash=body_hash, status=status, answer=b"", references=[], refused=refused
            )
        )

    async def answer(
        self,
        request: web.Request,
        behaviour: Behaviour,
        accepted: Sequence[Message],
        response: web.Response,
        key: str = "",
    ) -> web.Response:
        """Return the response when the scenario and the latency allow it. The messages are stored already."""
        if self.settings.receipts == "on":
            await self._plan_receipts(accepted)
        if behaviour is Behaviour.DROP and request.transport is not None:
            request.transport.abort()
        if behaviour in (Behaviour.DROP, Behaviour.NEVER_ANSWER):
            await asyncio.Event().wait()  # the server cancels the request when its connection is closed
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
        """Return the receipts of an accepted message."""
        return RECEIPTS.get(behaviour_for(message.to), USUAL_RECEIPTS)

    async def _plan_receipts(self, accepted: Sequence[Message]) -> None:
        """Plan the receipts. The early ones are posted before the request is answered."""
        for message in accepted:
            if behaviour_for(message.to) is Behaviour.EARLY:
                await self.webhooks.post_now(message, self.steps(message))
            else:
                self.webhooks.plan(message, self.steps(message))

    async def wait_for(self, key: str) -> None:
        """Wait until the first request with this key is answered."""
        await sleep_until(self._answered_at.get(key, 0.0))

    def is_basic(self, request: web.Request, username: str, password: str) -> bool:
        """Return whether a request has these credentials as HTTP Basic. Without a username any are accepted."""
        header = request.headers.get("Authorization", "")
        if not username:
            return header.startswith("Basic ")
        return hmac.compare_digest(header.encode(), b"Basic " + base64.b64encode(f"{username}:{password}".encode()))


def request_behaviour(behaviours: Sequence[Behaviour]) -> Behaviour:
    """Return the first behaviour that applies to the whole request, or ACCEPT."""
    return next((behaviour for behaviour in behaviours if behaviour in _OF_THE_REQUEST), Behaviour.ACCEPT)


def keyword(text: str) -> str:
    """Return stop, start or help when the whole text is such a keyword, or an empty text."""
    letters = re.sub(r"[^A-Z]", "", text.upper())
    for name, keywords in (("stop", _STOP_KEYWORDS), ("start", _START_KEYWORDS), ("help", _HELP_KEYWORDS)):
        if letters in keywords:
            return name
    return ""


def can_receive(sender_id: str) -> bool:
    """Return whether a reply can reach a sender ID: a number can be reached, a name cannot."""
    return _NUMBER.fullmatch(sender_id) is not None


async def sleep_until(at: float) -> None:
    """Sleep until a time of the monotonic clock."""
    delay = at - time.monotonic()
    if delay > 0:
        await asyncio.sleep(delay)
