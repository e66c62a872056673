"""The handset's HTTP server: the vendors' endpoints, its own under /api/, and the page."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from tools.handset.aws import Aws
from tools.handset.messagemedia import MessageMedia
from tools.handset.mobile_message import MobileMessage
from tools.handset.own_api import OwnApi
from tools.handset.receipts import Receipts
from tools.handset.settings import Settings
from tools.handset.store import Store
from tools.handset.twilio import Twilio

VENDORS = (MobileMessage, MessageMedia, Twilio, Aws)
_BODY_LIMIT = 32 * 1024 * 1024
_STOP_S = 1.0
_ASSETS = Path(__file__).with_name("assets")
# Texts come from anybody: nothing that is not a file of the page runs. Media of messages may lie anywhere.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' http: https:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def create_app(settings: Settings) -> web.Application:
    """Build the application over the log that the settings name."""
    app = web.Application(client_max_size=_BODY_LIMIT)
    store = Store(settings.log)
    receipts = Receipts(store)
    for vendor in VENDORS:
        app.add_routes(vendor(store, settings, receipts).routes())
    app.add_routes(OwnApi(store, settings, receipts).routes())
    app.add_routes([web.get("/", _page), web.static("/assets", _ASSETS)])

    async def run_receipts(_: web.Application) -> AsyncIterator[None]:
        await receipts.start()
        yield
        await receipts.close()
        store.close()

    app.cleanup_ctx.append(run_receipts)
    app.on_response_prepare.append(_add_headers)
    return app


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for ending in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(ending, stop.set)
    # Without handler_cancellation a request that is never answered would outlive its client.
    runner = web.AppRunner(
        create_app(settings), access_log=None, handler_cancellation=True, shutdown_timeout=_STOP_S, keepalive_timeout=75
    )
    await runner.setup()
    await web.TCPSite(runner, settings.host, settings.port, backlog=1024).start()
    print(f"handset ready http://{settings.host}:{settings.port}", flush=True)
    await stop.wait()
    await runner.cleanup()


async def _page(_: web.Request) -> web.FileResponse:
    return web.FileResponse(_ASSETS / "index.html")


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    if request.path == "/" or request.path.startswith("/assets/"):
        response.headers.update(_HEADERS)
