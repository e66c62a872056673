"""A vendor that answers as it is told, and what the adapters are given."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from aiohttp import web

from delivery.providers.base import Provider, WebhookRequest
from delivery.settings import Settings

PUBLIC_URL = "https://sms.example.com"
MARK = "f07e94"  # of SECRET: what went out under it is read under it, in the next version too


class Taken(NamedTuple):
    """A request as the vendor got it. `path` with its query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Vendor:
    """Answers the next requests as `script` says, then with 204. A refusal to answer is `None`: the line is cut."""

    url: str = ""
    script: deque[web.Response | None] = field(default_factory=deque)
    requests: list[Taken] = field(default_factory=list)

    def answers(self, status: int, body: Any = "", **headers: str) -> None:
        """The next answer; anything but text and bytes goes as JSON."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, str | bytes):
            self.script.append(web.Response(status=status, body=body, headers=sent))
        else:
            self.script.append(web.json_response(body, status=status, headers=sent))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(Taken(request.method, request.path_qs, request.headers, await request.read()))
        answer = self.script.popleft() if self.script else web.Response(status=204)
        if answer is not None:
            return answer
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    """A vendor on a free port of this machine."""
    made = Vendor()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    made.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def make(vendor: Vendor, make_settings: Callable[..., Settings]) -> AsyncIterator[Callable[..., Any]]:
    """`make(Class, **settings)`: an adapter that talks to the vendor."""
    made: list[Provider] = []

    def make_one(cls: Any, **changes: Any) -> Any:
        given = {"public_url": PUBLIC_URL, f"{cls.name}_base_url": vendor.url}
        made.append(cls(make_settings(**(given | changes))))
        return made[-1]

    yield make_one
    for provider in made:
        await provider.close()


@pytest.fixture
def webhook() -> Callable[..., WebhookRequest]:
    """`webhook(provider, kind, body, headers, **query)`: a webhook as it reaches the adapter."""

    def build(
        provider: str, kind: str, body: bytes, headers: Mapping[str, str] | None = None, **query: str
    ) -> WebhookRequest:
        told = "&".join(f"{name}={value}" for name, value in query.items())
        url = f"{PUBLIC_URL}/api/webhooks/providers/{provider}/{kind}/" + (f"?{told}" if told else "")
        lowered = {name.lower(): value for name, value in (headers or {}).items()}
        return WebhookRequest(kind, url, query, lowered, body)

    return build
