"""A provider's HTTP interface that answers as scripted, and the providers under test that talk to it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import pytest
from aiohttp import web

from delivery.providers.base import Provider, WebhookRequest
from delivery.settings import Settings

PUBLIC_URL = "https://sms.example.com"
SILENT: Literal["silent"] = "silent"
MARK = "f07e94"  # of the tests' secret; references of a running installation must be readable after an upgrade

ProviderT = TypeVar("ProviderT", bound=Provider)


class Request(NamedTuple):
    """A request that the provider's interface received. `path` has its query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class ProviderApi:
    """Answers the next requests as `script` says, then with 204.

    None in the script cuts the connection. SILENT never answers.
    """

    url: str = ""
    script: deque[web.Response | Literal["silent"] | None] = field(default_factory=deque)
    requests: list[Request] = field(default_factory=list)

    def answers(self, status: int, body: object = "", **headers: str) -> None:
        """Add an answer to the script. A body that is neither text nor bytes is sent as JSON."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, str | bytes):
            self.script.append(web.Response(status=status, body=body, headers=sent))
        else:
            self.script.append(web.json_response(body, status=status, headers=sent))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(Request(request.method, request.path_qs, request.headers, await request.read()))
        answer = self.script.popleft() if self.script else web.Response(status=204)
        if answer == SILENT:
            await asyncio.Event().wait()
        if isinstance(answer, web.Response):
            return answer
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


@pytest.fixture
async def api() -> AsyncIterator[ProviderApi]:
    """Serve a provider's interface on a free port of this machine."""
    scripted = ProviderApi()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", scripted.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    scripted.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    yield scripted
    await runner.cleanup()


class Make(Protocol):
    """`make(Class, **settings)`: a provider that talks to `api`.

    Settings are the provider's own by the names of their fields, or delivery's.
    """

    def __call__(self, cls: type[ProviderT], /, **settings: Any) -> ProviderT: ...


@pytest.fixture
async def make(api: ProviderApi, make_settings: Callable[..., Settings]) -> AsyncIterator[Make]:
    opened: list[Provider] = []

    def make_one(cls: type[ProviderT], /, **settings: Any) -> ProviderT:
        own_names = cls.settings_class.model_fields
        shared = {name: value for name, value in settings.items() if name not in own_names}
        own = {"base_url": api.url} | {name: value for name, value in settings.items() if name in own_names}
        provider = cls(make_settings(**({"public_url": PUBLIC_URL} | shared)), cls.settings_class(**own))
        opened.append(provider)
        return provider

    yield make_one
    for provider in opened:
        await provider.close()


class Webhook(Protocol):
    """`webhook(provider, kind, body, headers, **query)`: a webhook as a provider's class gets it."""

    def __call__(
        self, provider: str, kind: str, body: bytes, headers: Mapping[str, str] | None = None, **query: str
    ) -> WebhookRequest: ...


@pytest.fixture
def webhook() -> Webhook:
    def build(
        provider: str, kind: str, body: bytes, headers: Mapping[str, str] | None = None, **query: str
    ) -> WebhookRequest:
        joined = "&".join(f"{name}={value}" for name, value in query.items())
        return WebhookRequest(
            kind=kind,
            url=f"{PUBLIC_URL}/api/webhooks/providers/{provider}/{kind}/" + (f"?{joined}" if joined else ""),
            query=query,
            headers={name.lower(): value for name, value in (headers or {}).items()},
            body=body,
        )

    return build
