"""Who is behind the claims: asked of contacts, remembered for seconds, vouched for with internal tokens."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from common.caller import LIFETIME_S, Caller, sign, system
from common.clients import Refused, ServiceClient
from common.errors import Forbidden, Unavailable
from gateway.auth import Claims

log = structlog.get_logger()

AWAY_S = 300.0
_TOKEN_MARGIN_S = 15.0

_Key = tuple[str, str, str, str, tuple[str, ...]]


class Identity:
    """A caller that contacts knows, and the internal tokens signed for them so far."""

    def __init__(self, caller: Caller, clock: Callable[[], float] = time.monotonic) -> None:
        self.caller = caller
        self._clock = clock
        self.confirmed_at = 0.0
        self.ask_at = 0.0
        self._tokens: dict[str, tuple[str, float]] = {}

    def token(self, audience: str, secret: str) -> str:
        """An internal token for `audience`, reused while it lasts."""
        now = self._clock()
        token, until = self._tokens.get(audience, ("", 0.0))
        if now >= until:
            token = sign(self.caller, issuer="gateway", audience=audience, secret=secret)
            self._tokens[audience] = token, now + LIFETIME_S - _TOKEN_MARGIN_S
        return token


class Identities:
    """Resolves claims at contacts: one question at a time for each person, answers kept `ttl_s` seconds.

    While contacts is away the last answer serves whoever holds a living token, 5 minutes at most. Refusals are
    not kept.
    """

    def __init__(
        self,
        contacts: ServiceClient,
        *,
        ttl_s: float,
        remembered: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._contacts = contacts
        self._clock = clock
        self._ttl_s = ttl_s
        self._size = remembered
        self._known: OrderedDict[_Key, Identity] = OrderedDict()
        self._asking: dict[_Key, asyncio.Task[Identity]] = {}

    async def resolve(self, claims: Claims) -> Identity:
        """The identity behind verified claims with an organisation. Raises Forbidden, Unavailable."""
        key = (claims.user, claims.organisation, claims.slug, claims.role, claims.permissions)
        known = self._known.get(key)
        if known is not None and self._clock() < known.ask_at:
            self._known.move_to_end(key)
            return known
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._ask(key, claims))
            asking.add_done_callback(lambda task: self._answered(key, task))
        return await asyncio.shield(asking)

    def _answered(self, key: _Key, task: asyncio.Task[Identity]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # taken here in case nobody waits any more

    async def _ask(self, key: _Key, claims: Claims) -> Identity:
        known = self._known.get(key)
        try:
            body = await self._contacts.call(system(), "POST", "/internal/identity/", json=_question(claims))
            caller = Caller(
                organisation_id=body["organisation_id"],
                user_id=body["user_id"],
                role=claims.role,
                permissions=claims.permissions,
                organisation_slug=claims.slug,
            )
        except Refused as refusal:
            self._known.pop(key, None)
            if refusal.status == 403:
                raise Forbidden(refusal.body.get("detail")) from None
            log.error("contacts does not understand the gateway", status=refusal.status)
            raise Unavailable from None
        except Unavailable:
            if known is None or self._clock() >= known.confirmed_at + AWAY_S:
                raise
            known.ask_at = self._clock() + self._ttl_s
            return known
        return self._remember(key, caller)

    def _remember(self, key: _Key, caller: Caller) -> Identity:
        identity = self._known.get(key)
        if identity is None or identity.caller != caller:
            identity = self._known[key] = Identity(caller, self._clock)
        identity.confirmed_at = self._clock()
        identity.ask_at = identity.confirmed_at + self._ttl_s
        self._known.move_to_end(key)
        if len(self._known) > self._size:
            self._known.popitem(last=False)
        return identity


def _question(claims: Claims) -> dict[str, Any]:
    return {
        "clerk_user_id": claims.user,
        "clerk_organisation_id": claims.organisation,
        "organisation_slug": claims.slug,
        "role": claims.role,
        "first_seen_at": datetime.fromtimestamp(claims.issued_at, UTC).isoformat(),
    }
