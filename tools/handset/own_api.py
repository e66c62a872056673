"""The handset's own API under /api/, for tests and for the page.

| Request | Effect |
|---|---|
| GET /api/health/ | answers when the handset runs |
| GET /api/messages/?to=&after=&limit= | lists messages in order of arrival |
| DELETE /api/messages/ | deletes all messages, requests, replies and keys |
| POST /api/messages/{id}/receipts/ | sends receipts: `{"status", "after_s", "times", "mangled", "forged"}` |
| GET /api/requests/?limit= | counts requests and lists the last ones |
| GET, PATCH /api/settings/ | shows or changes `latency_ms`, `concurrency`, `receipts` |
| GET /api/phones/?search=&limit= | lists phones, the one with the newest message first |
| GET /api/phones/{phone}/?before=&limit= | shows a page of a conversation, by default the newest |
| POST /api/phones/{phone}/replies/ | sends `{"text"}` from a phone; `to` and `provider` if it had no message |
| GET /api/scenarios/ | lists the scenario numbers and the statuses of receipts |
| GET /api/providers/ | shows the name of each provider as the page writes it (`server.py`) |
| GET /api/events/ | server-sent events with the phones that changed |

Requests with a body must have the type application/json, which a page of another origin cannot send.
"""

import asyncio
import itertools
import re
import time
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from pydantic_core import to_json
from uuid_utils import uuid4

from common.sms import measure
from tools.handset.provider import can_receive, keyword
from tools.handset.scenarios import SCENARIOS, Behaviour, Step
from tools.handset.settings import Settings
from tools.handset.store import Message, Reply, Store, Watcher
from tools.handset.webhooks import STATUSES, Webhooks

_PAGE_DEFAULT = 100
_PAGE_LIMIT = 1000
_PHONES_LIMIT = 200
_CONVERSATION_PAGE = 50
_MAX_REPLY_LENGTH = 1600
_MAX_DELAY_S = 3600
_MAX_TIMES = 10
_SNIPPET = 120
_EVENT_PAUSE_S = 0.25
_HEARTBEAT_S = 15.0


class OwnApi:
    """The endpoints under /api/."""

    def __init__(self, store: Store, settings: Settings, webhooks: Webhooks) -> None:
        """Set what the endpoints share."""
        self._store, self._settings, self._webhooks = store, settings, webhooks

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints."""
        return [
            web.get("/api/health/", self.health),
            web.get("/api/messages/", self.list_messages),
            web.delete("/api/messages/", self.delete_messages),
            web.post("/api/messages/{id}/receipts/", self.send_receipts),
            web.get("/api/requests/", self.list_requests),
            web.get("/api/settings/", self.get_settings),
            web.patch("/api/settings/", self.change_settings),
            web.get("/api/phones/", self.list_phones),
            web.get("/api/phones/{phone}/", self.get_conversation),
            web.post("/api/phones/{phone}/replies/", self.reply),
            web.get("/api/scenarios/", self.list_scenarios),
            web.get("/api/events/", self.stream_events),
        ]

    async def health(self, _: web.Request) -> web.Response:
        """Answer that the handset runs."""
        return web.json_response({"status": "ok"})

    async def list_messages(self, request: web.Request) -> web.Response:
        """List messages in order of arrival, by `to` (E.164), `after` (`next` of the last page) and `limit`."""
        after, limit = _number(request, "after", 0), _limit(request, _PAGE_DEFAULT, _PAGE_LIMIT)
        messages, following = self._store.page(_recipient(request), after, limit)
        return web.json_response({"messages": [self._render(message) for message in messages], "next": following})

    async def delete_messages(self, _: web.Request) -> web.Response:
        """Delete all messages, requests, replies and keys."""
        self._store.clear()
        return web.Response(status=204)

    async def send_receipts(self, request: web.Request) -> web.Response:
        """Send the requested receipts of a message instead of the planned ones."""
        message = self._store.by_id.get(request.match_info["id"])
        if message is None:
            raise web.HTTPNotFound(text="No message has this id.")
        fields = await _read_object(request)
        status, after_s, times = fields.get("status"), fields.get("after_s", 0), fields.get("times", 1)
        if status not in STATUSES:
            raise web.HTTPBadRequest(text=f"status: choose one of {', '.join(STATUSES)}.")
        if type(after_s) not in (int, float) or not 0 <= after_s <= _MAX_DELAY_S:
            raise web.HTTPBadRequest(text=f"after_s: enter a number from 0 to {_MAX_DELAY_S}.")
        if type(times) is not int or not 1 <= times <= _MAX_TIMES:
            raise web.HTTPBadRequest(text=f"times: enter a whole number from 1 to {_MAX_TIMES}.")
        step = Step(float(after_s), status, mangled=fields.get("mangled") is True, forged=fields.get("forged") is True)
        self._webhooks.replace(message, (step,) * times)
        return web.Response(status=202)

    async def list_requests(self, request: web.Request) -> web.Response:
        """Answer with counts (all requests, messages, repeated keys, in flight) and the last `limit` requests."""
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
        """Answer with the settings that can be changed."""
        settings = self._settings
        return web.json_response(
            {"latency_ms": settings.latency_ms, "concurrency": settings.concurrency, "receipts": settings.receipts}
        )

    async def change_settings(self, request: web.Request) -> web.Response:
        """Change `latency_ms` or `concurrency` (whole numbers from 0) or `receipts` (on or off)."""
        changes = await _read_object(request)
        for name, value in changes.items():
            if name == "receipts" and value in ("on", "off"):
                continue
            if name not in ("latency_ms", "concurrency") or type(value) is not int or value < 0:
                allowed = "whole numbers from 0 as latency_ms and concurrency, on or off as receipts"
                raise web.HTTPBadRequest(text=f"Enter {allowed}.")
        for name, value in changes.items():
            setattr(self._settings, name, value)
        return await self.get_settings(request)

    async def list_phones(self, request: web.Request) -> web.Response:
        """List phones with messages, newest first, by `search` (a part of the number) and `limit` (1 to 200)."""
        limit = _limit(request, _PHONES_LIMIT, _PHONES_LIMIT)
        wanted = re.sub("[ ().+-]", "", request.query.get("search", ""))
        found = (phone for phone in reversed(self._store.conversations) if wanted in phone or _is_local(wanted, phone))
        phones = [self._summarise(phone) for phone in itertools.islice(found, limit)]
        return web.json_response({"phones": phones, "total": len(self._store.conversations)})

    async def get_conversation(self, request: web.Request) -> web.Response:
        """Answer with the `limit` entries of a conversation before position `before`, by default the newest."""
        phone = request.match_info["phone"]
        entries = self._store.conversations.get(phone, [])
        limit = _limit(request, _CONVERSATION_PAGE, _PHONES_LIMIT)
        end = min(_number(request, "before", len(entries)), len(entries))
        start = max(0, end - limit)
        behaviour = SCENARIOS.get(phone)
        last = self._last_message(phone)
        return web.json_response(
            {
                "phone": phone,
                "entries": [self._render_entry(entry) for entry in entries[start:end]],
                "before": start or None,
                "scenario": behaviour.value if behaviour else None,
                "stopped": self._opted_out_at(phone),
                "replies_to": last.sender_id if last and can_receive(last.sender_id) else None,
            }
        )

    async def reply(self, request: web.Request) -> web.Response:
        """Send a text from a phone to the sender ID of its last message, or to `to` at `provider`."""
        phone, fields = request.match_info["phone"], await _read_object(request)
        text, last = fields.get("text"), self._last_message(phone)
        if not isinstance(text, str) or not 0 < len(text) <= _MAX_REPLY_LENGTH:
            raise web.HTTPBadRequest(text=f"text: enter 1 to {_MAX_REPLY_LENGTH} characters.")
        to, provider = fields.get("to"), fields.get("provider")
        if to is not None or provider is not None:
            last = None
        elif last is not None:
            to, provider = last.sender_id, last.provider
        if not isinstance(to, str) or provider not in self._webhooks.providers:
            raise web.HTTPBadRequest(text="This phone has no message to reply to: enter to and provider.")
        if not can_receive(to):
            raise web.HTTPConflict(text=f"{to} is a name. Only numbers can receive replies.")
        reply = Reply(
            id=str(uuid4()),
            at=time.time(),
            provider=provider,
            phone=phone,
            to=to,
            text=text,
            message_id=last.id if last else "",
            keyword=keyword(text),
        )
        self._webhooks.reply(reply)
        return web.json_response(self._render_entry(reply), status=201)

    async def list_scenarios(self, _: web.Request) -> web.Response:
        """Answer with the scenario numbers and the statuses of receipts."""
        order = list(Behaviour)  # ACCEPT, the first, is sorted to the end
        numbers = sorted(SCENARIOS.items(), key=lambda item: order.index(item[1]) or len(order))
        scenarios = [{"phone": phone, "does": behaviour.value} for phone, behaviour in numbers]
        return web.json_response({"scenarios": scenarios, "statuses": STATUSES})

    async def stream_events(self, request: web.Request) -> web.StreamResponse:
        """Send the phones that changed, a few times per second, until the page closes the connection."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        watcher = Watcher()
        self._store.watchers.add(watcher)
        try:
            await response.write(b"retry: 1000\n\n")
            while True:
                try:
                    await asyncio.wait_for(watcher.changed.wait(), _HEARTBEAT_S)
                except TimeoutError:
                    await response.write(b": heartbeat\n\n")
                    continue
                await response.write(b"data: " + to_json(self._changes(watcher)) + b"\n\n")
                await asyncio.sleep(_EVENT_PAUSE_S)
        except ConnectionError:
            return response
        finally:
            self._store.watchers.discard(watcher)

    def _changes(self, watcher: Watcher) -> dict[str, Any]:
        phones, is_cleared = watcher.collect()
        newest = reversed(self._store.conversations)
        changed = [phone for phone in itertools.islice(newest, _PHONES_LIMIT) if phone in phones]
        summaries = [self._summarise(phone) for phone in changed]
        return {"phones": summaries, "total": len(self._store.conversations), "forgotten": is_cleared}

    def _last_message(self, phone: str) -> Message | None:
        entries = self._store.conversations.get(phone, [])
        return next((entry for entry in reversed(entries) if isinstance(entry, Message)), None)

    def _opted_out_at(self, phone: str) -> list[str]:
        """Return the providers that the phone sent STOP to."""
        return [provider for provider in self._webhooks.providers if self._store.is_opted_out(provider, phone)]

    def _summarise(self, phone: str) -> dict[str, Any]:
        entries = self._store.conversations[phone]
        last = entries[-1]
        at, known = (last.received_at, self._store.status(last.id)) if isinstance(last, Message) else (last.at, None)
        return {
            "phone": phone,
            "count": len(entries),
            "at": at,
            "text": last.text[:_SNIPPET],
            "is_reply": isinstance(last, Reply),
            "status": known.status if known else "accepted",
            "stopped": bool(self._opted_out_at(phone)),
        }

    def _render_entry(self, entry: Message | Reply) -> dict[str, Any]:
        if isinstance(entry, Message):
            return {"kind": "message", "at": entry.received_at, **self._render(entry)}
        fields = {"id": entry.id, "at": entry.at, "provider": entry.provider, "to": entry.to}
        return {"kind": "reply", **fields, "text": entry.text, "keyword": entry.keyword}

    def _render(self, message: Message) -> dict[str, Any]:
        known = self._store.status(message.id)
        is_mms = bool(message.media_urls or message.subject)
        return {
            "id": message.id,
            "received_at": _time(message.received_at),
            "provider": message.provider,
            "from": message.sender_id,
            "to": message.to,
            "text": message.text,
            "subject": message.subject,
            "media_urls": list(message.media_urls),
            "reference": message.reference,
            "parts": message.parts,
            "encoding": "MMS" if is_mms else measure(message.text).encoding,
            "status": known.status if known else "accepted",
            "raw_status": known.raw if known else None,
            "webhook_status": self._webhooks.answers.get(message.id),
        }


async def _read_object(request: web.Request) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="Send the body as application/json.")
    try:
        fields = await request.json()
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise web.HTTPBadRequest(text="Send a JSON object.")
    return fields


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name) or str(default)
    if not (text.isascii() and text.isdigit()):
        raise web.HTTPBadRequest(text=f"{name}: enter a whole number from 0.")
    return int(text)


def _limit(request: web.Request, default: int, most: int) -> int:
    limit = _number(request, "limit", default)
    if not 1 <= limit <= most:
        raise web.HTTPBadRequest(text=f"limit: enter a number from 1 to {most}.")
    return limit


def _recipient(request: web.Request) -> str | None:
    """Return `to` of the query as E.164. A plus that was not escaped arrives as a space."""
    text = request.query.get("to")
    return "+" + text.lstrip("+ ") if text else None


def _is_local(digits: str, phone: str) -> bool:
    """Return whether the phone, written as 04…, begins with the digits."""
    return digits.startswith("0") and phone.startswith("+61" + digits[1:])


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
