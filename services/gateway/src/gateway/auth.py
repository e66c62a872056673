"""Verify Clerk session tokens and read their claims."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from common.errors import NotAuthenticated, Unauthenticated
from gateway.keys import FRESH_S

LEEWAY_S = 5
MAX_TOKEN_CHARS = 16_384
_MACHINE_PREFIXES = ("m2m_", "mt_", "oat_", "ak_")


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a verified token. `organisation` is "" when none is active. Times are in Unix seconds."""

    user: str
    organisation: str
    slug: str
    role: str
    permissions: tuple[str, ...]
    issued_at: int
    expires_at: int


class Authenticator:
    """Verifies session tokens and caches their claims.

    A token is cached until it expires, for at most 5 minutes, so that a revoked key stops working. `find_key` returns
    the public key of a key id, or None. With empty `parties`, `azp` is not checked.
    """

    def __init__(
        self,
        issuer: str,
        parties: tuple[str, ...],
        find_key: Callable[[str | None], Awaitable[RSAPublicKey | None]],
        *,
        max_cached: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._issuer = issuer
        self._parties = parties
        self._clock = clock
        self._find_key = find_key
        self._max_cached = max_cached
        self._cached: OrderedDict[str, tuple[Claims, float]] = OrderedDict()

    async def authenticate(self, authorization: str | None) -> Claims:
        """Return the claims of the token in an `Authorization` header.

        Raises NotAuthenticated without a token, Unauthenticated when the token is not valid, and Unavailable when the
        keys cannot be read.
        """
        scheme, _, token = (authorization or "").strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise NotAuthenticated
        cached = self._cached.get(token)
        if cached is not None:
            claims, valid_until = cached
            if self._clock() < valid_until:
                self._cached.move_to_end(token)
                return claims
            del self._cached[token]
        claims = await self._verify(token)
        self._cached[token] = claims, min(claims.expires_at + LEEWAY_S, self._clock() + FRESH_S)
        if len(self._cached) > self._max_cached:
            self._cached.popitem(last=False)
        return claims

    async def _verify(self, token: str) -> Claims:
        if len(token) > MAX_TOKEN_CHARS or token.startswith(_MACHINE_PREFIXES):
            raise Unauthenticated
        key = await self._find_key(_key_id(token))
        if key is None:
            raise Unauthenticated("The token is signed with an unknown key. Get a new one.")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "iss", "sub"], "verify_aud": False},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("The token has expired. Get a new one.") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise Unauthenticated from None
        self._check_session(claims)
        return read_claims(claims)

    def _check_session(self, claims: dict[str, Any]) -> None:
        """Refuse sessions that are not active, and tokens of other parties.

        A pending session counts as signed out. A token without `azp` is refused, as Clerk's SDKs for Python and
        JavaScript do. Raises Unauthenticated.
        """
        if claims.get("sts", "active") != "active":
            raise Unauthenticated("The session is not active. Sign in again.")
        if self._parties and claims.get("azp") not in self._parties:
            raise Unauthenticated("The token was issued for another application.")


def _key_id(token: str) -> str | None:
    """Return the `kid` of the token's header. Raises Unauthenticated when the header is not that of a session token."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise Unauthenticated from None
    if header.get("alg") != "RS256" or str(header.get("typ") or "JWT").upper() != "JWT":
        raise Unauthenticated
    return header.get("kid")


def read_claims(claims: dict[str, Any]) -> Claims:
    """Return the claims of a payload of version 1 or 2, whose signature and times have been checked.

    Raises Unauthenticated for claims of a wrong type.
    """
    organisation: Any
    if claims.get("v") == 2:
        given = claims.get("o")
        active = given if isinstance(given, dict) else {}
        organisation, slug, role = active.get("id"), active.get("slg"), active.get("rol")
        permissions = decode_permissions(claims.get("fea"), active.get("per"), active.get("fpm"))
    else:
        organisation, slug, role = claims.get("org_id"), claims.get("org_slug"), claims.get("org_role")
        listed = claims.get("org_permissions")
        permissions = tuple(p for p in listed if isinstance(p, str)) if isinstance(listed, list) else ()
    texts = [claims["sub"], organisation or "", slug or "", role or ""]
    if not all(isinstance(text, str) and "\x00" not in text for text in texts) or not texts[0]:
        raise Unauthenticated
    return Claims(
        user=texts[0],
        organisation=texts[1],
        slug=texts[2],
        role=texts[3].removeprefix("org:"),
        permissions=permissions,
        issued_at=int(claims["iat"]),
        expires_at=int(claims["exp"]),
    )


def decode_permissions(features: Any, names: Any, bitmaps: Any) -> tuple[str, ...]:
    """Return the permissions `org:<feature>:<permission>` of a version 2 token.

    `features` is its claim `fea`, `names` is `o.per`, and `bitmaps` is `o.fpm`. Only features of the organisation's
    scope have a bitmap, because a user's own feature cannot have permissions in an organisation. Clerk's JavaScript
    SDK reads the claims in this way; its Python SDK also counts the other features.
    """
    if not all(isinstance(part, str) for part in (features, names, bitmaps)):
        return ()
    scoped = [entry.strip().partition(":") for entry in features.split(",")]
    slugs = [slug for scope, _, slug in scoped if "o" in scope]
    permissions = [name.strip() for name in names.split(",")]
    return tuple(
        f"org:{slug}:{permission}"
        for slug, bits in zip(slugs, bitmaps.split(","), strict=False)
        for position, permission in enumerate(permissions)
        if permission and bits.strip().isdecimal() and int(bits) >> position & 1
    )
