"""Somebody who is told by webhook: keeps what comes, and answers as it is told to."""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple, Self

from aiohttp import web
from multidict import CIMultiDictProxy

PATIENCE_S = 15.0


class Told(NamedTuple):
    path: str
    url: str
    headers: CIMultiDictProxy[str]
    body: bytes


class Listener:
    """An HTTP server on a free port of the loopback."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.statuses: list[int] = []  # of the next answers; 200 after them
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
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

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.told.append(Told(request.path, str(request.url), request.headers, body))
        self._news.set()
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)

    async def wait(self, is_enough: Callable[[list[Told]], bool]) -> list[Told]:
        """Return what was told as soon as it is enough."""
        deadline = time.monotonic() + PATIENCE_S
        while not is_enough(self.told):
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), deadline - time.monotonic())
            except TimeoutError:
                raise AssertionError(f"not enough was told: {[(one.path, one.body) for one in self.told]}") from None
        return self.told
