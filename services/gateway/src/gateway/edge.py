"""Check a request before it is forwarded: route, token, rate limits, identity and permissions, in this order."""

import re

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from common.errors import Forbidden, Invalid, MethodNotAllowed, NotFound, Unauthenticated
from common.http.errors import render
from gateway.auth import Authenticator
from gateway.identity import Identities
from gateway.proxy import Proxy
from gateway.routes import Route, find_route, normalise, template_pattern
from gateway.slots import Lane, Slots
from gateway.throttles import Throttles, address_of


class Permissions:
    """The permissions that callers need, by method and path template (setting `ROUTE_PERMISSIONS`)."""

    def __init__(self, table: dict[str, str]) -> None:
        self._required: list[tuple[str, re.Pattern[str], str]] = []
        for route, permission in table.items():
            method, _, path = route.partition(" ")
            self._required.append((method, template_pattern(normalise(path)), permission))

    def check(self, method: str, path: str, permissions: tuple[str, ...]) -> None:
        """Raise Forbidden when the caller's permissions lack a required one."""
        for required_method, pattern, permission in self._required:
            if method == required_method and permission not in permissions and pattern.fullmatch(path):
                raise Forbidden


class AccessControl:
    """Authenticates requests, counts them against the rate limits, and issues the internal token of the caller."""

    def __init__(
        self,
        *,
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
        """Count a request without a known user by its address. Raises Throttled."""
        await self._throttles.count(scope, ("anon", address_of(scope)))

    async def authorise(self, scope: Scope, path: str, route: Route) -> str:
        """Return the internal token with which the caller's request goes to the route's service.

        Raises NotAuthenticated, Unauthenticated, Throttled, Forbidden, and Unavailable.
        """
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        try:
            if len(given) > 1:  # a proxy in front of the gateway may have checked the other one
                raise Unauthenticated("Send one Authorization header.")
            claims = await self._authenticator.authenticate(given[0].decode("latin-1") if given else "")
        except Unauthenticated:
            await self.count_address(scope)
            raise
        scope["caller_log"] = {"organisation": claims.organisation, "user": claims.user}
        own_limit = [(route.rate_limit, claims.user)] if route.rate_limit else []
        await self._throttles.count(scope, ("user", claims.user), *own_limit)
        if not claims.organisation:
            raise Forbidden("Choose an organisation first.")
        identity = await self._identities.resolve(claims)
        scope["caller_log"] = {"organisation": claims.organisation, "user": identity.caller.user_id}
        self._permissions.check(scope["method"], path, claims.permissions)
        return identity.token(route.service, self._secret)


class Edge:
    """ASGI middleware that checks requests and forwards them to services.

    `app` answers the requests for the gateway's own routes.
    """

    def __init__(self, app: ASGIApp, *, access: AccessControl, proxy: Proxy, slots: Slots) -> None:
        self._app = app
        self._access = access
        self._proxy = proxy
        self._slots = slots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/health/"):
            await self._app(scope, receive, send)
            return
        if scope["method"] == "CONNECT":  # it cannot be forwarded, and no route has it
            raise MethodNotAllowed("CONNECT is not allowed here.", headers={"Allow": "DELETE, GET, PATCH, POST, PUT"})
        path = normalise(scope["path"])
        route = find_route(path)
        if route is None:
            await self._access.count_address(scope)
            raise NotFound
        scope["route_template"] = route.template
        token = None
        if not route.public:
            token = await self._access.authorise(scope, path, route)
        elif route.counted:
            await self._access.count_address(scope)
        if token is not None and route.service:
            async with self._slots.take(_lane(scope, route)):
                await self._proxy.forward(scope, receive, send, path=path, route=route, token=token)
        elif route.service:
            await self._proxy.forward(scope, receive, send, path=path, route=route, token=None)
        else:
            await self._app({**scope, "path": path}, receive, send)


def _lane(scope: Scope, route: Route) -> Lane:
    """Return the lane of a request. Requests that take long share no slots with the others."""
    kind = "import" if route.rate_limit == "import" else ""
    if route.rate_limit == "sms" and any(name == b"prefer" for name, _ in scope["headers"]):
        kind = "waiting send"
    return Lane(scope["caller_log"]["organisation"], route.service, kind)


class Cors(CORSMiddleware):
    """CORS for the allowed origins. A refused preflight is answered like every other error."""

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
                "Location",
            ),
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        return answer if answer.status_code < 400 else render(Invalid("This origin, method or header is not allowed."))
