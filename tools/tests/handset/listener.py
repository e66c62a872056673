"""A server that receives webhooks, stores them, and answers with given statuses."""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple, Self

from aiohttp import web
from multidict import CIMultiDictProxy

TIMEOUT_S = 15.0


class ReceivedWebhook(NamedTuple):
    """One request that the listener received."""

    path: str
    url: str
    headers: CIMultiDictProxy[str]
    body: bytes


class Listener:
    """An HTTP server on a free port of the loopback."""

    def __init__(self) -> None:
        self.received: list[ReceivedWebhook] = []
        self.statuses: list[int] = []  # statuses of the next answers, then 200
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._receive)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.received.append(ReceivedWebhook(request.path, str(request.url), request.headers, body))
        self._arrived.set()
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)

    async def wait(self, is_enough: Callable[[list[ReceivedWebhook]], bool]) -> list[ReceivedWebhook]:
        """Wait until the received webhooks are enough, and return them."""
        deadline = time.monotonic() + TIMEOUT_S
        while not is_enough(self.received):
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), deadline - time.monotonic())
            except TimeoutError:
                received = [(webhook.path, webhook.body) for webhook in self.received]
                raise AssertionError(f"webhooks are missing, received: {received}") from None
        return self.received
