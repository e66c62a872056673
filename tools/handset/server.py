"""The HTTP server of the handset: the providers' endpoints, its own API under /api/, and the page."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from tools.handset.aws import Aws
from tools.handset.messagemedia import MessageMedia
from tools.handset.mobile_message import MobileMessage
from tools.handset.own_api import OwnApi
from tools.handset.provider import EmulatedProvider
from tools.handset.settings import Settings
from tools.handset.store import Store
from tools.handset.twilio import Twilio
from tools.handset.webhooks import Webhooks

PROVIDERS: tuple[type[EmulatedProvider], ...] = (MobileMessage, MessageMedia, Twilio, Aws)
_BODY_LIMIT = 32 * 1024 * 1024
_STOP_S = 1.0
_ASSETS = Path(__file__).with_name("assets")
# Anyone may write the texts of messages, so only the files of the page may run.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' {hosts};"
    " form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
_LOOPBACK = ("127.0.0.1", "localhost")


def create_app(settings: Settings) -> web.Application:
    """Build the application. Its store uses the log of the settings."""
    app = web.Application(client_max_size=_BODY_LIMIT)
    store = Store(settings.log)
    webhooks = Webhooks(store)
    for provider in PROVIDERS:
        app.add_routes(provider(store, settings, webhooks).routes())
    app.add_routes(OwnApi(store, settings, webhooks).routes())
    app.add_routes([web.get("/api/providers/", _titles), web.get("/", _page), web.static("/assets", _ASSETS)])

    async def run_webhooks(_: web.Application) -> AsyncIterator[None]:
        await webhooks.start()
        yield
        await webhooks.close()
        store.close()

    app.cleanup_ctx.append(run_webhooks)
    app.on_response_prepare.append(_add_headers)
    return app


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    # Without handler_cancellation a request that is never answered would continue after its client has gone.
    runner = web.AppRunner(
        create_app(settings), access_log=None, handler_cancellation=True, shutdown_timeout=_STOP_S, keepalive_timeout=75
    )
    await runner.setup()
    await web.TCPSite(runner, settings.host, settings.port, backlog=1024).start()
    print(f"handset ready http://{settings.host}:{settings.port}", flush=True)
    await stopping.wait()
    await runner.cleanup()


async def _titles(_: web.Request) -> web.Response:
    """Answer with the names that the page shows: provider → its title."""
    return web.json_response({provider.name: provider.title for provider in PROVIDERS})


async def _page(_: web.Request) -> web.FileResponse:
    return web.FileResponse(_ASSETS / "index.html")


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    if request.path == "/" or request.path.startswith("/assets/"):
        response.headers.update(_HEADERS)
        response.headers["Content-Security-Policy"] = _POLICY.format(hosts=_hosts_of_pictures(request.host))


def _hosts_of_pictures(host: str) -> str:
    """Return the sources of pictures for the policy: each port of the page's own host, because the media have another.

    `message.js` has the same rule. The sender of a message must not learn who reads it, so no other host is asked.
    """
    parts = re.fullmatch(r"([A-Za-z0-9.-]+)(:[0-9]+)?", host)
    if parts is None:
        return ""
    names = _LOOPBACK if parts[1] in _LOOPBACK else (parts[1],)
    return " ".join(f"{scheme}://{name}:*" for name in names for scheme in ("http", "https"))
