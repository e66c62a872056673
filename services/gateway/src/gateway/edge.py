"""What happens to a request before a service sees it: route, token, rate, identity, permission, then the proxy."""

import re

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from common.errors import Forbidden, Invalid, NotFound, Unauthenticated
from common.http.errors import render
from gateway.auth import Authenticator
from gateway.identity import Identities
from gateway.proxy import Proxy
from gateway.routes import Route, find_route, normalise, template_pattern
from gateway.throttles import Throttles, address_of


class Permissions:
    """`ROUTE_PERMISSIONS`: by method and path template, the permission that a caller needs."""

    def __init__(self, table: dict[str, str]) -> None:
        self._needed: list[tuple[str, re.Pattern[str], str]] = []
        for route, permission in table.items():
            method, _, path = route.partition(" ")
            self._needed.append((method, template_pattern(normalise(path)), permission))

    def check(self, method: str, path: str, held: tuple[str, ...]) -> None:
        """Raises Forbidden when one is lacking."""
        for needed_method, pattern, permission in self._needed:
            if method == needed_method and permission not in held and pattern.fullmatch(path):
                raise Forbidden


class Door:
    """Who is asking, how often, and whether they may: what a request needs before it goes to a service."""

    def __init__(
        self,
        authenticator: Authenticator,
        identities: Identities,
        throttles: Throttles,
        permissions: Permissions,
        secret: str,
    ) -> None:
        self._authenticator = authenticator
        self._identities = identities
        self._throttles = throttles
        self._permissions = permissions
        self._secret = secret

    async def count_address(self, scope: Scope) -> None:
        """Counts a request of nobody in particular. Raises Throttled."""
        await self._throttles.count(scope, ("anon", address_of(scope)))

    async def vouch(self, scope: Scope, path: str, route: Route) -> str:
        """The internal token of whoever is asking, who may ask this, now.

        Raises NotAuthenticated, Unauthenticated, Throttled, Forbidden, Unavailable.
        """
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        try:
            claims = await self._authenticator.authenticate(given.decode("latin-1"))
        except Unauthenticated:
            await self.count_address(scope)
            raise
        scope["caller_log"] = {"organisation": claims.organisation, "user": claims.user}
        await self._throttles.count(
            scope, ("user", claims.user), *([(route.scope, claims.user)] if route.scope else [])
        )
        if not claims.organisation:
            raise Forbidden("Choose an organisation first.")
        identity = await self._identities.resolve(claims)
        scope["caller_log"] = {"organisation": claims.organisation, "user": identity.caller.user_id}
        self._permissions.check(scope["method"], path, claims.permissions)
        return identity.token(route.service, self._secret)


class Edge:
    """The ring around the gateway's own routes, `app`: everything else goes to a service."""

    def __init__(self, app: ASGIApp, *, door: Door, proxy: Proxy) -> None:
        self._app = app
        self._door = door
        self._proxy = proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/health/"):
            await self._app(scope, receive, send)
            return
        path = normalise(scope["path"])
        route = find_route(path)
        if route is None:
            await self._door.count_address(scope)
            raise NotFound
        scope["route_template"] = route.template
        token = None
        if not route.public:
            token = await self._door.vouch(scope, path, route)
        elif route.counted:
            await self._door.count_address(scope)
        if route.service:
            await self._proxy.forward(scope, receive, send, path=path, route=route, token=token)
        else:
            await self._app({**scope, "path": path}, receive, send)


class Cors(CORSMiddleware):
    """CORS as api.md has it; a refused preflight is told as every other error is."""

    def __init__(self, app: ASGIApp, *, origins: tuple[str, ...]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=("Authorization", "Content-Type", "Idempotency-Key", "Prefer", "X-Request-ID"),
            expose_headers=(
                "X-Request-ID",
                "RateLimit-Limit",
                "RateLimit-Remaining",
                "RateLimit-Reset",
                "Retry-After",
                "Idempotent-Replayed",
                "Preference-Applied",
            ),
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        return answer if answer.status_code < 400 else render(Invalid("This origin, method or header is not allowed."))
