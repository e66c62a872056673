"""The layer around all pages: it lets only operators in, and sets the headers that protect a browser."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import Forbidden, NotAuthenticated
from cooee.page.settings import PageSettings
from cooee.page.sign_in import IDLE_S, Session, Sessions

OPEN_PATHS = ("/sign-in", "/health/live", "/health/ready")
_OPEN_FOLDER = "/assets/"
_SAFE_METHODS = ("GET", "HEAD")
_POLICY = {
    "default-src": "'none'",
    "style-src": "'self'",
    "img-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # With `no-referrer` a browser would send `Origin: null` with a form.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}


def content_policy(changes: Mapping[str, str] | None = None) -> str:
    """Return the Content-Security-Policy of a page: no script, and nothing of another host, unless changed."""
    return "; ".join(f"{name} {value}" for name, value in {**_POLICY, **(changes or {})}.items())


def clerk_policy(issuer: str) -> str:
    """Return the policy of a sign-in page with Clerk's own form. Clerk's documentation asks for these sources."""
    return content_policy(
        {
            "script-src": f"'self' {issuer} https://challenges.cloudflare.com",
            "connect-src": issuer,
            "img-src": "'self' https://img.clerk.com",
            "worker-src": "'self' blob:",
            "style-src": "'self' 'unsafe-inline'",
            "frame-src": "https://challenges.cloudflare.com",
        }
    )


class Cookies:
    """The cookie with the session. Over TLS its name begins with `__Host-`, so that no other host can set it."""

    def __init__(self, settings: PageSettings, sessions: Sessions) -> None:
        """Choose the name of the cookie."""
        self._is_secure = settings.is_secure
        self._name = "__Host-cooee_operator" if settings.is_secure else "cooee_operator"
        self._sessions = sessions

    def read(self, request: Request) -> Session | None:
        """Return the session of a request, or None."""
        cookie = request.cookies.get(self._name)
        return self._sessions.open(cookie) if cookie else None

    def write(self, response: Response, session: Session) -> None:
        """Set the cookie."""
        response.set_cookie(
            self._name,
            self._sessions.seal(session),
            max_age=IDLE_S,
            httponly=True,
            secure=self._is_secure,
            samesite="strict",
        )

    def clear(self, response: Response) -> None:
        """Delete the cookie."""
        response.delete_cookie(self._name, httponly=True, secure=self._is_secure, samesite="strict")


class Gate:
    """ASGI middleware: refuses unknown hosts, foreign origins and requests without a session. It sets the headers."""

    def __init__(self, app: ASGIApp, settings: PageSettings, sessions: Sessions, cookies: Cookies) -> None:
        """Wrap an application."""
        self._app = app
        self._origins = settings.origins
        self._hosts = {urlsplit(origin).netloc for origin in settings.origins}
        self._sessions = sessions
        self._cookies = cookies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        session = self._cookies.read(request)
        # The error pages need to know who is signed in, so the application itself raises this.
        scope["state"] = {**scope.get("state", {}), "session": session, "refusal": self._refusal(request, session)}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", content_policy())
                if session is not None and "set-cookie" not in headers:
                    self._renew(headers, session)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _renew(self, headers: MutableHeaders, session: Session) -> None:
        renewed = Response()
        self._cookies.write(renewed, self._sessions.renew(session))
        headers.append("set-cookie", renewed.headers["set-cookie"])

    def _refusal(self, request: Request, session: Session | None) -> Exception | None:
        """Return why a request is refused, or None. Probes ask by the address of the container."""
        path = request.url.path
        if path.startswith("/health/"):
            return None
        if not self._is_known_host(request.headers):
            return Forbidden("This page is not served under this address: set OPERATORS_URL to it.")
        if request.method not in _SAFE_METHODS and request.headers.get("origin") not in self._origins:
            return Forbidden("The form was sent by another page. Open this page again, and send its form.")
        if path in OPEN_PATHS or path.startswith(_OPEN_FOLDER) or session is not None:
            return None
        return NotAuthenticated("Sign in to see this page.")

    def _is_known_host(self, headers: Headers) -> bool:
        return headers.get("host", "").lower() in self._hosts
