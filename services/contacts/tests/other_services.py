"""A stand-in for delivery or scheduling: an HTTP server with the wire format of their internal route for contacts."""

from typing import Any, Self

import jwt
from aiohttp import web


class StandIn:
    """A server on a free port that accepts internal tokens of contacts. It answers 503 while `unavailable` is set.

    `saved` has the (organisation, contact) that it was given.
    """

    def __init__(self, audience: str, secret: str) -> None:
        self._audience = audience
        self._secret = secret
        self.reset()

    def reset(self) -> None:
        """Return to the state before the first test."""
        self.unavailable = False
        self.saved: list[tuple[str, dict[str, Any]]] = []

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_put("/internal/contacts/", self._save)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _save(self, request: web.Request) -> web.Response:
        if self.unavailable:
            return web.json_response({"detail": "Unavailable.", "code": "unavailable"}, status=503)
        token = request.headers["Authorization"].removeprefix("Bearer ")
        claims = jwt.decode(token, self._secret, algorithms=["HS256"], audience=self._audience)
        assert claims["iss"] == "contacts"
        self.saved.append((claims["organisation_id"], await request.json()))
        return web.Response(status=204)
