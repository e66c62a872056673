"""Call another service's internal API with pooled connections, an internal token and the request id."""

import time
from typing import Any

import aiohttp

from common import tracing
from common.caller import LIFETIME_S, Caller, sign
from common.context import request_id
from common.errors import Unavailable

_MAX_TOKENS = 10_000
_MAX_IN_FLIGHT = 100


class Refused(Exception):
    """The other service answered 4xx. `status` and `body` (a JSON object) are its answer."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status} {body.get('code')}")
        self.status = status
        self.body = body


class ServiceClient:
    """The connection pool from the service `issuer` to the service `audience`. `close` closes it."""

    def __init__(self, base_url: str, *, issuer: str, audience: str, secret: str, timeout_s: float = 2.0) -> None:
        self._base_url = base_url.rstrip("/")
        self._issuer = issuer
        self._audience = audience
        self._secret = secret
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(2.0, timeout_s))
        self._session: aiohttp.ClientSession | None = None
        self._tokens: dict[Caller, tuple[str, float]] = {}
        self._in_flight = 0

    async def call(self, caller: Caller, method: str, path: str, *, json: Any = None, params: Any = None) -> Any:
        """Return the JSON body of the answer, None for a 204.

        Raises Refused on a 4xx, and Unavailable when the other service does not answer or answers 5xx, and at once
        when 100 calls to it are in flight already.
        """
        if self._in_flight >= _MAX_IN_FLIGHT:
            raise Unavailable(f"{self._audience} has too many requests.", headers={"Retry-After": "1"})
        self._in_flight += 1
        try:
            return await self._call(caller, method, path, json=json, params=params)
        finally:
            self._in_flight -= 1

    async def _call(self, caller: Caller, method: str, path: str, *, json: Any, params: Any) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout,
                connector=aiohttp.TCPConnector(limit=_MAX_IN_FLIGHT, keepalive_timeout=30),
                trace_configs=tracing.client_configs({self._audience: self._base_url}),
            )
        headers = {"Authorization": f"Bearer {self._token(caller)}", "X-Request-ID": request_id()}
        headers |= tracing.client_headers()
        try:
            async with self._session.request(
                method, self._base_url + path, json=json, params=params, headers=headers
            ) as answer:
                body = await answer.json(content_type=None) if answer.status != 204 else None
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unavailable(f"{self._audience} did not answer ({type(error).__name__}).") from None
        if status >= 500:
            raise Unavailable(f"{self._audience} answered {status}.")
        if status >= 400:
            raise Refused(status, body if isinstance(body, dict) else {})
        return body

    def _token(self, caller: Caller) -> str:
        """Return the caller's token. It is signed again when half its lifetime has passed."""
        now = time.monotonic()
        token, until = self._tokens.get(caller, ("", 0.0))
        if now > until:
            token = sign(caller, issuer=self._issuer, audience=self._audience, secret=self._secret)
            if len(self._tokens) >= _MAX_TOKENS:
                self._tokens.clear()
            self._tokens[caller] = (token, now + LIFETIME_S / 2)
        return token

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
