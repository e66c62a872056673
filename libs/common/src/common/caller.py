"""The internal token: a short-lived signed statement of who a request runs for."""

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


def verify(authorization: str | None, *, audience: str, issuers: frozenset[str], secret: str) -> Caller:
    """Return the caller that an `Authorization` header names.

    Raises NotAuthenticated without a bearer token, and Unauthenticated when the token is not valid.
    """
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
