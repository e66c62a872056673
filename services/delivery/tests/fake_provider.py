"""A provider's HTTP interface that fails as a test says, and the clock of rate limits and circuits."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

Handler = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


class FakeProvider:
    """Answers as Mobile Message does: `script` has the answers to the next requests, then it accepts everything.

    A repeated key gets the first answer again. `accepted` has the messages that it accepted, `requests` the key and the
    body of every request. `accept_and_wait` answers when `release` is set.
    """

    def __init__(self) -> None:
        self.url = ""
        self.script: deque[Handler] = deque()
        self.requests: list[tuple[str, bytes]] = []
        self.request_ids: list[str] = []
        self.accepted: list[dict[str, Any]] = []
        self.release = asyncio.Event()
        self._answers: dict[str, bytes] = {}
        self._runner: web.AppRunner

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.requests.append((request.headers["Idempotency-Key"], raw))
        self.request_ids.append(request.headers.get("X-Request-ID", ""))
        answer = self.script.popleft() if self.script else self.accept
        return await answer(request, json.loads(raw))

    async def accept(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        key = request.headers["Idempotency-Key"]
        if key not in self._answers:
            self.accepted += body["messages"]
            results = [
                {**item, "status": "success", "message_id": f"mm-{item['custom_ref'].rpartition('-')[2]}"}
                for item in body["messages"]
            ]
            self._answers[key] = json.dumps({"status": "complete", "results": results}).encode()
        return web.Response(body=self._answers[key], content_type="application/json")

    async def accept_and_reset(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        answer = await self.accept(request, body)
        assert request.transport is not None
        request.transport.abort()
        return answer

    async def accept_and_wait(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        answer = await self.accept(request, body)
        await self.release.wait()
        return answer

    def answer(self, status: int, text: str = "", **headers: str) -> Handler:
        """Return an answer that accepts nothing."""

        async def refuse(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
            return web.Response(status=status, text=text, headers=headers)

        return refuse

    def item_results(self, *results: dict[str, Any] | None) -> Handler:
        """Return a 200 with these results of the messages, in reverse order. None leaves the message out."""

        async def answer(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
            shown = [item | result for item, result in zip(body["messages"], results, strict=True) if result]
            return web.json_response({"status": "complete", "results": shown[::-1]})

        return answer

    async def start(self) -> None:
        """Listen on a free port, or on the port that it had before."""
        app = web.Application()
        app.router.add_post("/v1/messages", self.handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", urlsplit(self.url).port or 0)
        await site.start()
        assert site._server is not None
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Refuse connections, and close those that are open."""
        await self._runner.cleanup()


class Clock:
    """The time of circuits and token buckets. `advance` adds seconds; after `freeze` no other time passes."""

    def __init__(self) -> None:
        self._added = 0.0
        self._frozen_at: float | None = None

    def __call__(self) -> float:
        return (self._frozen_at or time.monotonic()) + self._added

    def freeze(self) -> None:
        self._frozen_at = time.monotonic()

    def advance(self, seconds: float) -> None:
        self._added += seconds
