"""The handset's HTTP server: the vendors' endpoints, and its own under /api/."""

import asyncio
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tools.handset.aws import Aws
from tools.handset.messagemedia import MessageMedia
from tools.handset.mobile_message import MobileMessage
from tools.handset.receipts import Receipts
from tools.handset.settings import Settings
from tools.handset.store import Message, Store
from tools.handset.twilio import Twilio

VENDORS = (MobileMessage, MessageMedia, Twilio, Aws)

_BODY_LIMIT = 32 * 1024 * 1024
_PAGE_DEFAULT = 100
_PAGE_LIMIT = 1000
_CHANGEABLE = ("latency_ms", "concurrency")
_STOP_S = 1.0


class OwnApi:
    """What the handset offers to people and tests, in no vendor's format."""

    def __init__(self, store: Store, settings: Settings) -> None:
        """Take what the endpoints share."""
        self._store = store
        self._settings = settings

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints."""
        return [
            web.get("/api/health/", self.health),
            web.get("/api/messages/", self.list_messages),
            web.delete("/api/messages/", self.forget_messages),
            web.get("/api/requests/", self.list_requests),
            web.get("/api/settings/", self.get_settings),
            web.patch("/api/settings/", self.change_settings),
        ]

    async def health(self, _: web.Request) -> web.Response:
        """Answer that the handset runs."""
        return web.json_response({"status": "ok"})

    async def list_messages(self, request: web.Request) -> web.Response:
        """Answer messages in order of arrival: `to` (E.164), `after` (the last page's `next`), `limit` (1 to 1000)."""
        after, limit = _number(request, "after", 0), _number(request, "limit", _PAGE_DEFAULT)
        if not 1 <= limit <= _PAGE_LIMIT:
            raise web.HTTPBadRequest(text=f"limit is 1 to {_PAGE_LIMIT}")
        messages, following = self._store.page(_recipient(request), after, limit)
        return web.json_response({"messages": [_render(message) for message in messages], "next": following})

    async def forget_messages(self, _: web.Request) -> web.Response:
        """Forget messages, requests and keys."""
        self._store.forget()
        return web.Response(status=204)

    async def list_requests(self, request: web.Request) -> web.Response:
        """Answer how many requests and messages came, how many repeated a key or wait, and the last `limit` ones."""
        recent = list(self._store.recent)[-_number(request, "limit", _PAGE_DEFAULT) :]
        requests = [
            {
                "at": _time(entry.at),
                "key": entry.key or None,
                "status": entry.status,
                "repeated": entry.repeated,
                "references": entry.references,
            }
            for entry in recent
        ]
        counts = {
            "total": self._store.total,
            "messages": len(self._store.messages),
            "repeated": self._store.repeated,
            "in_flight": self._store.in_flight,
        }
        return web.json_response({**counts, "requests": requests})

    async def get_settings(self, _: web.Request) -> web.Response:
        """Answer the settings that can be changed."""
        return web.json_response({name: getattr(self._settings, name) for name in _CHANGEABLE})

    async def change_settings(self, request: web.Request) -> web.Response:
        """Change `latency_ms` or `concurrency` (whole numbers from 0) from now on."""
        try:
            changes = await request.json()
        except ValueError:
            changes = None
        if not isinstance(changes, dict):
            raise web.HTTPBadRequest(text="an object is needed")
        for name, value in changes.items():
            if name not in _CHANGEABLE or type(value) is not int or value < 0:
                raise web.HTTPBadRequest(text=f"{', '.join(_CHANGEABLE)}: whole numbers from 0")
        for name, value in changes.items():
            setattr(self._settings, name, value)
        return await self.get_settings(request)


def create_app(settings: Settings) -> web.Application:
    """Build the application over the log that the settings name."""
    app = web.Application(client_max_size=_BODY_LIMIT)
    store = Store(settings.log)
    receipts = Receipts(store)
    for vendor in VENDORS:
        app.add_routes(vendor(store, settings, receipts).routes())
    app.add_routes(OwnApi(store, settings).routes())

    async def run_receipts(_: web.Application) -> AsyncIterator[None]:
        await receipts.start()
        yield
        await receipts.close()
        store.close()

    app.cleanup_ctx.append(run_receipts)
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


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name) or str(default)
    if not (text.isascii() and text.isdigit()):
        raise web.HTTPBadRequest(text=f"{name} is a whole number from 0")
    return int(text)


def _recipient(request: web.Request) -> str | None:
    """Return the `to` of the query as E.164; an unescaped plus arrives as a space."""
    text = request.query.get("to")
    return "+" + text.lstrip("+ ") if text else None


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def _render(message: Message) -> dict[str, Any]:
    return {
        "id": message.id,
        "received_at": _time(message.received_at),
        "provider": message.provider,
        "from": message.sender,
        "to": message.to,
        "text": message.text,
        "subject": message.subject,
        "media_urls": list(message.media_urls),
        "reference": message.reference,
        "parts": message.parts,
    }
