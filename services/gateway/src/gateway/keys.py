"""The public keys with which Clerk's tokens are verified: from its JWKS, or from a PEM."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from common.errors import Unavailable
from gateway.settings import read_public_key

log = structlog.get_logger()

FRESH_S = 300.0
RETRY_S = 30.0
_TIMEOUT = aiohttp.ClientTimeout(total=3.0)


class JwksKeys:
    """The keys of a JWKS by id.

    They are cached for 5 minutes. An unknown id fetches them again, at most every 30 s. One fetch runs at a time.
    While the JWKS is unavailable, the cached keys stay in use.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._keys: dict[str, RSAPublicKey] = {}
        self._fetched_at = -math.inf
        self._tried_at = -math.inf
        self._lock = asyncio.Lock()

    async def get(self, kid: str | None) -> RSAPublicKey | None:
        """Return the key with this id, or None. Raises Unavailable when no keys could be fetched yet."""
        if self._must_fetch(kid):
            async with self._lock:
                if self._must_fetch(kid):
                    await self._fetch()
        if not self._keys:
            raise Unavailable("The keys that verify tokens cannot be read at the moment. Try again in a moment.")
        return self._keys.get(kid or "")

    def _must_fetch(self, kid: str | None) -> bool:
        now = self._clock()
        if not self._keys:
            return now >= self._tried_at + 1.0
        wanted = kid not in self._keys or now >= self._fetched_at + FRESH_S
        return wanted and now >= self._tried_at + RETRY_S

    async def _fetch(self) -> None:
        try:
            async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, session.get(self._url) as answer:
                answer.raise_for_status()
                body = await answer.json(content_type=None)
            keys = {jwk["kid"]: key for jwk in body["keys"] if (key := _signing_key(jwk)) is not None}
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("jwks unavailable", error=type(error).__name__, cached_keys=len(self._keys))
        else:
            self._keys, self._fetched_at = keys, self._clock()
        # This is set last, so that requests that arrive during the fetch wait for its lock.
        self._tried_at = self._clock()


class PemKey:
    """The key of a PEM. It verifies tokens with any key id."""

    def __init__(self, pem: str) -> None:
        self._key = read_public_key(pem)

    async def get(self, _: str | None) -> RSAPublicKey:
        """Return the key."""
        return self._key


def _signing_key(jwk: Any) -> RSAPublicKey | None:
    if jwk.get("kty") != "RSA" or jwk.get("use", "sig") != "sig" or jwk.get("alg", "RS256") != "RS256":
        return None
    try:
        key = jwt.PyJWK(jwk, algorithm="RS256").key
    except (jwt.PyJWTError, ValueError):
        return None
    return key if isinstance(key, RSAPublicKey) and isinstance(jwk.get("kid"), str) else None
