"""Resolve verified claims to our organisation and user at contacts, cache the result, and sign internal tokens."""

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

MAX_UNCONFIRMED_S = 300.0
_TOKEN_MARGIN_S = 15.0

_Key = tuple[str, str, str, str, tuple[str, ...]]


class Identity:
    """A caller that contacts confirmed, with the internal tokens that were signed for it."""

    def __init__(self, caller: Caller, clock: Callable[[], float] = time.monotonic) -> None:
        self.caller = caller
        self._clock = clock
        self.confirmed_at = 0.0
        self.refresh_at = 0.0
        self._tokens: dict[str, tuple[str, float]] = {}

    def token(self, audience: str, secret: str) -> str:
        """Return an internal token for the service `audience`. It is used again while it is valid."""
        now = self._clock()
        token, until = self._tokens.get(audience, ("", 0.0))
        if now >= until:
            token = sign(self.caller, issuer="gateway", audience=audience, secret=secret)
            self._tokens[audience] = token, now + LIFETIME_S - _TOKEN_MARGIN_S
        return token


class Identities:
    """Resolves claims at contacts and caches identities for `ttl_s` seconds.

    Simultaneous requests with the same claims share one call. While contacts is unavailable, the last identity stays
    in use for at most 5 minutes. Refusals are not cached.
    """

    def __init__(
        self,
        contacts: ServiceClient,
        *,
        ttl_s: float,
        max_cached: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._contacts = contacts
        self._clock = clock
        self._ttl_s = ttl_s
        self._max_cached = max_cached
        self._cached: OrderedDict[_Key, Identity] = OrderedDict()
        self._running: dict[_Key, asyncio.Task[Identity]] = {}

    async def resolve(self, claims: Claims) -> Identity:
        """Return the identity of verified claims with an organisation.

        Raises Forbidden when contacts refuses it, and Unavailable when contacts does not answer.
        """
        key = (claims.user, claims.organisation, claims.slug, claims.role, claims.permissions)
        cached = self._cached.get(key)
        if cached is not None and self._clock() < cached.refresh_at:
            self._cached.move_to_end(key)
            return cached
        call = self._running.get(key)
        if call is None:
            call = self._running[key] = asyncio.create_task(self._call_contacts(key, claims))
            call.add_done_callback(lambda task: self._remove_call(key, task))
        return await asyncio.shield(call)

    def _remove_call(self, key: _Key, task: asyncio.Task[Identity]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # without this, asyncio warns of an exception that no request waits for any more

    async def _call_contacts(self, key: _Key, claims: Claims) -> Identity:
        cached = self._cached.get(key)
        try:
            body = await self._contacts.call(system(), "POST", "/internal/identity/", json=_body(claims))
            caller = Caller(
                organisation_id=body["organisation_id"],
                user_id=body["user_id"],
                role=claims.role,
                permissions=claims.permissions,
                organisation_slug=claims.slug,
            )
        except Refused as refusal:
            self._cached.pop(key, None)
            if refusal.status == 403:
                raise Forbidden(refusal.body.get("detail")) from None
            log.error("identity request refused", status=refusal.status)
            raise Unavailable from None
        except Unavailable:
            if cached is None or self._clock() >= cached.confirmed_at + MAX_UNCONFIRMED_S:
                raise
            cached.refresh_at = self._clock() + self._ttl_s
            return cached
        return self._save(key, caller)

    def _save(self, key: _Key, caller: Caller) -> Identity:
        identity = self._cached.get(key)
        if identity is None or identity.caller != caller:
            identity = self._cached[key] = Identity(caller, self._clock)
        identity.confirmed_at = self._clock()
        identity.refresh_at = identity.confirmed_at + self._ttl_s
        self._cached.move_to_end(key)
        if len(self._cached) > self._max_cached:
            self._cached.popitem(last=False)
        return identity


def _body(claims: Claims) -> dict[str, Any]:
    return {
        "clerk_user_id": claims.user,
        "clerk_organisation_id": claims.organisation,
        "organisation_slug": claims.slug,
        "role": claims.role,
        "first_seen_at": datetime.fromtimestamp(claims.issued_at, UTC).isoformat(),
    }
