"""Calls from one service to another's internal API: pooled connections, a signed caller, the request id beside it."""

import time
from typing import Any

import aiohttp

from common.caller import LIFETIME_S, Caller, sign
from common.context import request_id
from common.errors import Unavailable

_MOST_TOKENS = 10_000


class Refused(Exception):
    """The neighbour understood and said no: its status (4xx) and JSON body."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status} {body.get('code')}")
        self.status = status
        self.body = body


class ServiceClient:
    """The way from `issuer` to one neighbour, `audience`. Closed by `close`."""

    def __init__(self, base_url: str, *, issuer: str, audience: str, secret: str, timeout_s: float = 2.0) -> None:
        self._base_url = base_url.rstrip("/")
        self._issuer = issuer
        self._audience = audience
        self._secret = secret
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(1.0, timeout_s))
        self._session: aiohttp.ClientSession | None = None
        self._tokens: dict[Caller, tuple[str, float]] = {}

    async def call(self, caller: Caller, method: str, path: str, *, json: Any = None, params: Any = None) -> Any:
        """The JSON answer. Raises Refused on a 4xx, Unavailable when the neighbour cannot answer."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout, connector=aiohttp.TCPConnector(limit=100, keepalive_timeout=30)
            )
        headers = {"Authorization": f"Bearer {self._token(caller)}", "X-Request-ID": request_id()}
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
        """The caller's token, signed anew when half its time has passed."""
        now = time.monotonic()
        token, until = self._tokens.get(caller, ("", 0.0))
        if now > until:
            token = sign(caller, issuer=self._issuer, audience=self._audience, secret=self._secret)
            if len(self._tokens) >= _MOST_TOKENS:
                self._tokens.clear()
            self._tokens[caller] = (token, now + LIFETIME_S / 2)
        return token

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
