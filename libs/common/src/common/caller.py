"""The internal token: a short-lived signed statement of who a request runs for."""

import hashlib
import time
from collections import OrderedDict

import jwt
from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import NotAuthenticated, Unauthenticated

LIFETIME_S = 60
_LEEWAY_S = 5
_ALGORITHM = "HS256"


class Caller(BaseModel):
    """The person or the part of the system on whose behalf a request runs.

    `organisation_id` is Clerk's, "" when the call crosses organisations (role `system` only); `user_id` is ours.
    """

    model_config = ConfigDict(frozen=True)

    organisation_id: str
    user_id: int | None = None
    role: str
    permissions: tuple[str, ...] = ()
    issuer: str = ""
    organisation_slug: str = ""

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"


def system(organisation_id: str = "") -> Caller:
    """Return the caller that stands for the system, in one organisation or, with "", across all."""
    return Caller(organisation_id=organisation_id, role="system")


def sign(caller: Caller, *, issuer: str, audience: str, secret: str) -> str:
    """Return an internal token for the service `audience`. It is valid for `LIFETIME_S` seconds."""
    now = int(time.time())
    claims = {
        "iss": issuer,
        "aud": audience,
        "iat": now,
        "exp": now + LIFETIME_S,
        **caller.model_dump(exclude={"issuer"}),
    }
    return jwt.encode(claims, secret, algorithm=_ALGORITHM)


class CallerVerifier:
    """Verifies the internal tokens of one service.

    A verified token is remembered until it expires, by its hash, so that a token costs one verification and not one a
    request. At most `size` tokens are remembered.
    """

    def __init__(self, *, audience: str, secret: str, size: int = 10_000) -> None:
        self._audience = audience
        self._secret = secret
        self._size = size
        self._verified: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()

    def verify(self, authorization: str | None, issuers: frozenset[str]) -> Caller:
        """Return the caller that an `Authorization` header names.

        Raises NotAuthenticated without a bearer token, and Unauthenticated when the token is not valid or was not
        signed by one of the services `issuers`.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise NotAuthenticated
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        known = self._verified.get(digest)
        if known is None or known[1] <= time.time():
            known = self._decode(token)
            self._verified[digest] = known
            if len(self._verified) > self._size:
                self._verified.popitem(last=False)
        caller = known[0]
        if caller.issuer not in issuers:
            raise Unauthenticated
        return caller

    def _decode(self, token: str) -> tuple[Caller, float]:
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                audience=self._audience,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud"]},
            )
            return Caller.model_validate({**claims, "issuer": claims["iss"]}), float(claims["exp"]) + _LEEWAY_S
        except (jwt.InvalidTokenError, ValidationError):
            raise Unauthenticated from None


def verify(authorization: str | None, *, audience: str, issuers: frozenset[str], secret: str) -> Caller:
    """Verify one token, as `CallerVerifier` does, without remembering it."""
    return CallerVerifier(audience=audience, secret=secret).verify(authorization, issuers)
