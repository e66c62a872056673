"""Who is asking, as one service tells another: a short signed token."""

import time

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
    """The system itself, in one organisation or, with "", across all."""
    return Caller(organisation_id=organisation_id, role="system")


def sign(caller: Caller, *, issuer: str, audience: str, secret: str) -> str:
    """An internal token for `audience`, good for a minute (house.md, decision 4)."""
    now = int(time.time())
    claims = {
        "iss": issuer,
        "aud": audience,
        "iat": now,
        "exp": now + LIFETIME_S,
        **caller.model_dump(exclude={"issuer"}),
    }
    return jwt.encode(claims, secret, algorithm=_ALGORITHM)


def verify(authorization: str | None, *, audience: str, issuers: frozenset[str], secret: str) -> Caller:
    """The caller that an `Authorization` header names. Raises NotAuthenticated or Unauthenticated."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise NotAuthenticated
    try:
        claims = jwt.decode(
            token,
            secret,
            algorithms=[_ALGORITHM],
            audience=audience,
            leeway=_LEEWAY_S,
            options={"require": ["exp", "iss", "aud"]},
        )
        if claims["iss"] not in issuers:
            raise Unauthenticated
        return Caller.model_validate({**claims, "issuer": claims["iss"]})
    except (jwt.InvalidTokenError, ValidationError):
        raise Unauthenticated from None
