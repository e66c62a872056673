"""The handset's own interface, in no vendor's format: for tests under /api/, and for the page that people look at.

| Call | What it does |
|---|---|
| GET /api/health/ | that the handset runs |
| GET, DELETE /api/messages/?to=&after=&limit= | messages in order of arrival; forgets all |
| POST /api/messages/{id}/receipts/ | `{"status", "after_s", "times", "mangled", "forged"}`: tells this instead |
| GET /api/requests/?limit= | counts, and the last requests |
| GET, PATCH /api/settings/ | `latency_ms`, `concurrency`, `receipts` |
| GET /api/phones/?search=&limit= | phones, the one with the newest first |
| GET /api/phones/{phone}/?before=&limit= | a conversation, its newest page, oldest first |
| POST /api/phones/{phone}/replies/ | `{"text"}`, and `to` and `provider` where it answers no message |
| GET /api/scenarios/ | the numbers that misbehave, and the words of receipts |
| GET /api/events/ | server-sent events: the phones that have something new |

What changes something must be sent as application/json, which a page of another origin may not.
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
from tools.handset.receipts import STATUSES, Receipts
from tools.handset.scenarios import SCENARIOS, Behaviour, Step
from tools.handset.settings import Settings
from tools.handset.store import Message, Reply, Store, Watcher
from tools.handset.vendor import can_receive, keyword

_PAGE_DEFAULT = 100
_PAGE_LIMIT = 1000
_PHONES_LIMIT = 200
_CONVERSATION_PAGE = 50
_LONGEST_REPLY = 1600
_LONGEST_DELAY_S = 3600
_MOST_TIMES = 10
_SNIPPET = 120
_PAUSE_S = 0.25  # between two events
_HEARTBEAT_S = 15.0


class OwnApi:
    """The endpoints under /api/."""

    def __init__(self, store: Store, settings: Settings, receipts: Receipts) -> None:
        """Take what the endpoints share."""
        self._store, self._settings, self._receipts = store, settings, receipts

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints."""
        return [
            web.get("/api/health/", self.health),
            web.get("/api/messages/", self.list_messages),
            web.delete("/api/messages/", self.forget_messages),
            web.post("/api/messages/{id}/receipts/", self.tell),
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
        """Answer messages in order of arrival: `to` (E.164), `after` (the last page's `next`), `limit` (1 to 1000)."""
        after, limit = _number(request, "after", 0), _limit(request, _PAGE_DEFAULT, _PAGE_LIMIT)
        messages, following = self._store.page(_recipient(request), after, limit)
        return web.json_response({"messages": [self._render(message) for message in messages], "next": following})

    async def forget_messages(self, _: web.Request) -> web.Response:
        """Forget messages, requests, replies and keys."""
        self._store.forget()
        return web.Response(status=204)

    async def tell(self, request: web.Request) -> web.Response:
        """Tell of a message what is asked for, instead of what was planned for it."""
        message = self._store.by_id.get(request.match_info["id"])
        if message is None:
            raise web.HTTPNotFound(text="there is no such message")
        fields = await _read_object(request)
        status, after_s, times = fields.get("status"), fields.get("after_s", 0), fields.get("times", 1)
        if status not in STATUSES:
            raise web.HTTPBadRequest(text=f"status is one of {', '.join(STATUSES)}")
        if type(after_s) not in (int, float) or not 0 <= after_s <= _LONGEST_DELAY_S:
            raise web.HTTPBadRequest(text=f"after_s is 0 to {_LONGEST_DELAY_S}")
        if type(times) is not int or not 1 <= times <= _MOST_TIMES:
            raise web.HTTPBadRequest(text=f"times is 1 to {_MOST_TIMES}")
        step = Step(float(after_s), status, mangled=fields.get("mangled") is True, forged=fields.get("forged") is True)
        self._receipts.replace(message, (step,) * times)
        return web.Response(status=202)

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
        settings = self._settings
        return web.json_response(
            {"latency_ms": settings.latency_ms, "concurrency": settings.concurrency, "receipts": settings.receipts}
        )

    async def change_settings(self, request: web.Request) -> web.Response:
        """Change `latency_ms` or `concurrency` (whole numbers from 0) or `receipts` (on, off) from now on."""
        changes = await _read_object(request)
        for name, value in changes.items():
            if name == "receipts" and value in ("on", "off"):
                continue
            if name not in ("latency_ms", "concurrency") or type(value) is not int or value < 0:
                raise web.HTTPBadRequest(text="latency_ms, concurrency: whole numbers from 0; receipts: on or off")
        for name, value in changes.items():
            setattr(self._settings, name, value)
        return await self.get_settings(request)

    async def list_phones(self, request: web.Request) -> web.Response:
        """Answer the phones that have something, newest first: `search` (a part of the number), `limit` (1 to 200)."""
        limit = _limit(request, _PHONES_LIMIT, _PHONES_LIMIT)
        wanted = re.sub("[^0-9]", "", request.query.get("search", ""))
        found = (phone for phone in reversed(self._store.conversations) if wanted in phone or _is_local(wanted, phone))
        phones = [self._summarise(phone) for phone in itertools.islice(found, limit)]
        return web.json_response({"phones": phones, "total": len(self._store.conversations)})

    async def get_conversation(self, request: web.Request) -> web.Response:
        """Answer a page of a conversation: the `limit` entries before position `before`, by default the newest."""
        phone = request.match_info["phone"]
        entries = self._store.conversations.get(phone, [])
        limit = _limit(request, _CONVERSATION_PAGE, _PHONES_LIMIT)
        end = min(_number(request, "before", len(entries)), len(entries))
        start = max(0, end - limit)
        behaviour = SCENARIOS.get(phone)
        sender = self._last_message(phone)
        return web.json_response(
            {
                "phone": phone,
                "entries": [self._render_entry(entry) for entry in entries[start:end]],
                "before": start or None,
                "scenario": behaviour.value if behaviour else None,
                "stopped": self._stopped(phone),
                "replies_to": sender.sender if sender and can_receive(sender.sender) else None,
            }
        )

    async def reply(self, request: web.Request) -> web.Response:
        """Send what somebody typed to the sender of the phone's last message, or to `to` at `provider`."""
        phone, fields = request.match_info["phone"], await _read_object(request)
        text, last = fields.get("text"), self._last_message(phone)
        if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_REPLY:
            raise web.HTTPBadRequest(text=f"text: 1 to {_LONGEST_REPLY} characters")
        to, provider = fields.get("to"), fields.get("provider")
        if to is not None or provider is not None:
            last = None
        elif last is not None:
            to, provider = last.sender, last.provider
        if not isinstance(to, str) or provider not in self._receipts.providers:
            raise web.HTTPBadRequest(text="this phone has no message to answer: to and provider are needed")
        if not can_receive(to):
            raise web.HTTPConflict(text=f"{to} is a name, and a name cannot be answered")
        answers = last.id if last else ""
        reply = Reply(str(uuid4()), time.time(), provider, phone, to, text, answers, keyword(text))
        self._receipts.reply(reply)
        return web.json_response(self._render_entry(reply), status=201)

    async def list_scenarios(self, _: web.Request) -> web.Response:
        """Answer what happens at each number of fiction, and what can be told of a message."""
        order = list(Behaviour)  # the one that does nothing special comes last
        numbers = sorted(SCENARIOS.items(), key=lambda item: order.index(item[1]) or len(order))
        scenarios = [{"phone": phone, "does": behaviour.value} for phone, behaviour in numbers]
        return web.json_response({"scenarios": scenarios, "statuses": STATUSES})

    async def stream_events(self, request: web.Request) -> web.StreamResponse:
        """Tell the phones that have something new, as they stand, a few times a second, until the page is gone."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        watcher = Watcher()
        self._store.watchers.add(watcher)
        try:
            await response.write(b"retry: 1000\n\n")
            while True:
                try:
                    await asyncio.wait_for(watcher.news.wait(), _HEARTBEAT_S)
                except TimeoutError:
                    await response.write(b": still here\n\n")
                    continue
                await response.write(b"data: " + to_json(self._news(watcher)) + b"\n\n")
                await asyncio.sleep(_PAUSE_S)
        except ConnectionError:
            return response
        finally:
            self._store.watchers.discard(watcher)

    def _news(self, watcher: Watcher) -> dict[str, Any]:
        phones, everything = watcher.take()
        newest = reversed(self._store.conversations)
        changed = [phone for phone in itertools.islice(newest, _PHONES_LIMIT) if phone in phones]
        summaries = [self._summarise(phone) for phone in changed]
        return {"phones": summaries, "total": len(self._store.conversations), "forgotten": everything}

    def _last_message(self, phone: str) -> Message | None:
        entries = self._store.conversations.get(phone, [])
        return next((entry for entry in reversed(entries) if isinstance(entry, Message)), None)

    def _stopped(self, phone: str) -> list[str]:
        return [provider for provider in self._receipts.providers if self._store.is_stopped(provider, phone)]

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
            "stopped": bool(self._stopped(phone)),
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
            "from": message.sender,
            "to": message.to,
            "text": message.text,
            "subject": message.subject,
            "media_urls": list(message.media_urls),
            "reference": message.reference,
            "parts": message.parts,
            "encoding": "MMS" if is_mms else measure(message.text).encoding,
            "status": known.status if known else "accepted",
            "raw_status": known.raw if known else None,
            "webhook_status": self._receipts.answers.get(message.id),
        }


async def _read_object(request: web.Request) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="application/json is needed")
    try:
        fields = await request.json()
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise web.HTTPBadRequest(text="an object is needed")
    return fields


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name) or str(default)
    if not (text.isascii() and text.isdigit()):
        raise web.HTTPBadRequest(text=f"{name} is a whole number from 0")
    return int(text)


def _limit(request: web.Request, default: int, most: int) -> int:
    limit = _number(request, "limit", default)
    if not 1 <= limit <= most:
        raise web.HTTPBadRequest(text=f"limit is 1 to {most}")
    return limit


def _recipient(request: web.Request) -> str | None:
    """Return the `to` of the query as E.164; an unescaped plus arrives as a space."""
    text = request.query.get("to")
    return "+" + text.lstrip("+ ") if text else None


def _is_local(digits: str, phone: str) -> bool:
    """Whether the digits begin an Australian number as people write it: 04…"""
    return digits.startswith("0") and phone.startswith("+61" + digits[1:])


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
