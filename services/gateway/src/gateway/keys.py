"""The public keys that Clerk signs with, from its JWKS."""

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
    """Keys by id: kept 5 minutes, fetched again for an unknown id at most every 30 seconds, by one fetch at a time.

    While the JWKS does not answer, the keys it gave last stay good.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._keys: dict[str, RSAPublicKey] = {}
        self._fetched = -math.inf
        self._tried = -math.inf
        self._lock = asyncio.Lock()

    async def get(self, kid: str | None) -> RSAPublicKey | None:
        """The key of that id, None when there is none. Raises Unavailable when no key was ever fetched."""
        if self._must_fetch(kid):
            async with self._lock:
                if self._must_fetch(kid):
                    await self._fetch()
        if not self._keys:
            raise Unavailable("The sign-in keys cannot be fetched at the moment.")
        return self._keys.get(kid or "")

    def _must_fetch(self, kid: str | None) -> bool:
        now = self._clock()
        if not self._keys:
            return now >= self._tried + 1.0
        wanted = kid not in self._keys or now >= self._fetched + FRESH_S
        return wanted and now >= self._tried + RETRY_S

    async def _fetch(self) -> None:
        try:
            async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, session.get(self._url) as answer:
                answer.raise_for_status()
                body = await answer.json(content_type=None)
            keys = {jwk["kid"]: key for jwk in body["keys"] if (key := _signing_key(jwk)) is not None}
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("the JWKS cannot be fetched", error=type(error).__name__, keys_kept=len(self._keys))
        else:
            self._keys, self._fetched = keys, self._clock()
        # Last, so that whoever comes while it is being fetched waits at the lock.
        self._tried = self._clock()


class PemKey:
    """The one key of a PEM, whatever id a token names."""

    def __init__(self, pem: str) -> None:
        self._key = read_public_key(pem)

    async def get(self, _: str | None) -> RSAPublicKey:
        """The key."""
        return self._key


def _signing_key(jwk: Any) -> RSAPublicKey | None:
    if jwk.get("kty") != "RSA" or jwk.get("use", "sig") != "sig" or jwk.get("alg", "RS256") != "RS256":
        return None
    try:
        key = jwt.PyJWK(jwk, algorithm="RS256").key
    except (jwt.PyJWTError, ValueError):
        return None
    return key if isinstance(key, RSAPublicKey) and isinstance(jwk.get("kid"), str) else None
