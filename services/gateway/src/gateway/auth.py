"""Clerk session tokens: from a header to claims that can be trusted."""

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
    """What a verified token says. `organisation` is "" when none is active; times are Unix seconds."""

    user: str
    organisation: str
    slug: str
    role: str
    permissions: tuple[str, ...]
    issued_at: int
    expires_at: int


class Authenticator:
    """Verifies session tokens, and remembers each until it expires, 5 minutes at most (so that a key can be revoked).

    `key_of` gives the public key of a key id, or None. `parties` empty: `azp` is not checked.
    """

    def __init__(
        self,
        issuer: str,
        parties: tuple[str, ...],
        key_of: Callable[[str | None], Awaitable[RSAPublicKey | None]],
        *,
        remembered: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._issuer = issuer
        self._parties = parties
        self._clock = clock
        self._key_of = key_of
        self._size = remembered
        self._known: OrderedDict[str, tuple[Claims, float]] = OrderedDict()

    async def authenticate(self, authorization: str | None) -> Claims:
        """The claims of an `Authorization` header. Raises NotAuthenticated, Unauthenticated, Unavailable (no keys)."""
        scheme, _, token = (authorization or "").strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise NotAuthenticated
        known = self._known.get(token)
        if known is not None:
            if self._clock() < known[1]:
                self._known.move_to_end(token)
                return known[0]
            del self._known[token]
        claims = await self._verify(token)
        self._known[token] = claims, min(claims.expires_at + LEEWAY_S, self._clock() + FRESH_S)
        if len(self._known) > self._size:
            self._known.popitem(last=False)
        return claims

    async def _verify(self, token: str) -> Claims:
        if len(token) > MAX_TOKEN_CHARS or token.startswith(_MACHINE_PREFIXES):
            raise Unauthenticated
        key = await self._key_of(_key_id(token))
        if key is None:
            raise Unauthenticated("The token is signed with an unknown key.")
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
            raise Unauthenticated("The token has expired.") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise Unauthenticated from None
        self._check_session(claims)
        return read_claims(claims)

    def _check_session(self, claims: dict[str, Any]) -> None:
        """Pending sessions count as signed out; a missing `azp` is refused as Clerk's own SDKs do (facts: py, js)."""
        if claims.get("sts", "active") != "active":
            raise Unauthenticated("The session is not active.")
        if self._parties and claims.get("azp") not in self._parties:
            raise Unauthenticated("The token was issued to another party.")


def _key_id(token: str) -> str | None:
    """The header's `kid`, of a header that is one of a session token at all."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise Unauthenticated from None
    if header.get("alg") != "RS256" or str(header.get("typ") or "JWT").upper() != "JWT":
        raise Unauthenticated
    return header.get("kid")


def read_claims(claims: dict[str, Any]) -> Claims:
    """A payload of version 1 or 2, whose signature and times are checked. Raises Unauthenticated for odd types."""
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
    """`org:<feature>:<permission>` from `fea`, `o.per` and `o.fpm` of a version 2 token.

    Only features of the organisation's scope are numbered, as Clerk's JavaScript does (facts/clerk.md names the
    difference to its Python): a user's feature can carry no permission in an organisation, so it has no bitmap.
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
