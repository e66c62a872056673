"""Let operators in: first by a session token of Clerk, and after that by a signed cookie of a quarter of an hour."""

import hashlib
import hmac
import json
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from common.errors import Forbidden
from cooee.page.settings import PageSettings
from gateway.auth import Authenticator
from gateway.keys import JwksKeys, PemKey

IDLE_S = 900
_MAX_COOKIE_CHARS = 2_000
_MAX_NAME_CHARS = 200


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in operator. `expires_at` moves with the requests, at most to `ends_at`. Both are in Unix seconds."""

    operator: str
    key: str
    expires_at: int
    ends_at: int


class Operators:
    """Verifies session tokens of operators."""

    def __init__(self, settings: PageSettings) -> None:
        """Use the rules of the gateway for tokens."""
        keys = PemKey(settings.clerk_jwt_key) if settings.clerk_jwt_key else JwksKeys(settings.jwks_url)
        self._authenticator = Authenticator(settings.clerk_issuer, settings.parties, keys.get, max_cached=100)
        self._organisation = settings.operators_organisation
        self._role = settings.operators_role.removeprefix("org:")

    async def verify(self, token: str) -> str:
        """Return the operator that a token names.

        Raises Unauthenticated for a token that is not valid, and Forbidden for another organisation or role.
        """
        claims = await self._authenticator.authenticate(f"Bearer {token}")
        if claims.organisation != self._organisation:
            raise Forbidden("Only members of the operators' organisation may use this page. Choose it, and sign in.")
        if claims.role != self._role:
            raise Forbidden(f"Only members with the role {self._role} may use this page.")
        if len(claims.user) > _MAX_NAME_CHARS:
            raise Forbidden("The user's id is too long.")
        return claims.user


class Sessions:
    """Signs and reads the cookies, and the tokens that forms need against forged requests."""

    def __init__(self, settings: PageSettings, clock: Callable[[], float] = time.time) -> None:
        """Sign with the secret of the settings, or with a random one. Another secret ends all sessions."""
        given = settings.operators_secret
        self._secret = given.get_secret_value().encode() if given else secrets.token_bytes(32)
        self._longest_s = int(settings.operators_session_hours * 3600)
        self._clock = clock

    def start(self, operator: str) -> Session:
        """Begin the session of an operator whose token was verified."""
        ends_at = int(self._clock()) + self._longest_s
        return self.renew(Session(operator=operator, key=secrets.token_urlsafe(16), expires_at=0, ends_at=ends_at))

    def renew(self, session: Session) -> Session:
        """Return the session with a later end of its cookie, at most the end of the session."""
        return replace(session, expires_at=min(int(self._clock()) + IDLE_S, session.ends_at))

    def seal(self, session: Session) -> str:
        """Return the value of a cookie."""
        body = urlsafe_b64encode(json.dumps(asdict(session)).encode()).decode()
        return f"{body}.{self._sign('session', body)}"

    def open(self, cookie: str) -> Session | None:
        """Return the session of a cookie, or None when it was not signed here or is over."""
        body, _, signature = cookie.partition(".")
        if len(cookie) > _MAX_COOKIE_CHARS or not self._is_signed("session", body, signature):
            return None
        session = Session(**json.loads(urlsafe_b64decode(body)))
        return session if self._clock() < session.expires_at else None

    def form_token(self, session: Session) -> str:
        """Return the token that a form of this session sends along."""
        return self._sign("form", session.key)

    def accepts(self, session: Session, token: str) -> bool:
        """Return whether a form was made for this session."""
        return self._is_signed("form", session.key, token)

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()

    def _is_signed(self, purpose: str, text: str, signature: str) -> bool:
        return hmac.compare_digest(self._sign(purpose, text).encode(), signature.encode())
