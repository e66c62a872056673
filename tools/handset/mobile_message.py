"""Mobile Message's wire format, API v1 (https://mobilemessage.com.au/api-documentation).

Where the vendor's text is silent: an idempotency key that comes again with another body is a 400, and one that
comes again while its first request is still running waits as long as that does. A request that was refused as a
whole leaves nothing under its key.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

from aiohttp import web
from pydantic_core import from_json, to_json
from uuid_utils import uuid4

from common.sms import measure
from tools.handset.scenarios import REFUSALS_BEFORE_ACCEPT, RETRY_AFTER_S, SCENARIOS, SLOW_S, Behaviour
from tools.handset.settings import Settings
from tools.handset.store import Message, Request, Store

PROVIDER = "mobile_message"
BATCH_LIMIT = 10_000
KEY_LIMIT = 255
_CREDIT_BALANCE = 1_000_000
_MOBILE = re.compile(r"(?:\+?61|0)(4[0-9]{8})")
_UNAUTHORISED = "Invalid API credentials."
_TOO_MANY = "Too many concurrent requests. Please wait."
_INVALID_NUMBER = "Invalid phone number."
_ITEM_ERRORS = {
    Behaviour.REFUSE_NUMBER: _INVALID_NUMBER,
    Behaviour.REFUSE_SENDER: "Invalid sender. You do not have permission to use this sender.",
    Behaviour.REFUSE_CONTENT: "Message content is not permitted.",
}
_ITEM_BEHAVIOURS = {Behaviour.ACCEPT, Behaviour.BLOCK, *_ITEM_ERRORS}
_WITH_RETRY_AFTER = {Behaviour.THROTTLE, Behaviour.BUSY_TWICE}
# Behaviour → status, body, how often (None: always).
_REFUSALS: dict[Behaviour, tuple[int, str, int | None]] = {
    Behaviour.THROTTLE: (429, _TOO_MANY, None),
    Behaviour.THROTTLE_TWICE: (429, _TOO_MANY, REFUSALS_BEFORE_ACCEPT),
    Behaviour.BUSY_TWICE: (503, "Service temporarily unavailable.", REFUSALS_BEFORE_ACCEPT),
    Behaviour.FAIL_ONCE: (500, "", 1),
    Behaviour.NO_CREDIT: (403, "Insufficient credits to send the batch of messages.", None),
}


class _Item(NamedTuple):
    """One message of a request: its fields as they came, its recipient (E.164, empty: none), what happens to it."""

    fields: dict[str, str]
    to: str
    behaviour: Behaviour


class MobileMessage:
    """The vendor's endpoints over a store."""

    def __init__(self, store: Store, settings: Settings) -> None:
        """Take what the endpoints share."""
        self._store = store
        self._settings = settings
        self._answered_at: dict[str, float] = {}  # key of a request that is still running → when it will be answered

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints."""
        return [
            web.post("/v1/messages", self.send),
            web.get("/v1/messages", self.look_up),
            web.get("/v1/account", self.account),
        ]

    async def send(self, request: web.Request) -> web.Response:
        """Take a batch of messages. Answers item by item; a request that is refused as a whole takes nothing."""
        if not self._is_authorised(request):
            return _error(401, _UNAUTHORISED)
        limit = self._settings.concurrency
        if limit and self._store.in_flight >= limit:
            return _error(429, _TOO_MANY)
        self._store.in_flight += 1
        try:
            return await self._send(request)
        finally:
            self._store.in_flight -= 1

    async def look_up(self, request: web.Request) -> web.Response:
        """Answer the status of one message by its id."""
        if not self._is_authorised(request):
            return _error(401, _UNAUTHORISED)
        wanted = request.query.get("message_id", "")
        found = [message for message in self._store.messages if message.id == wanted]
        return web.json_response({"results": [_status(message) for message in found]})

    async def account(self, request: web.Request) -> web.Response:
        """Answer the credit that is left: it never ends."""
        if not self._is_authorised(request):
            return _error(401, _UNAUTHORISED)
        return web.json_response({"credit_balance": _CREDIT_BALANCE})

    def _is_authorised(self, request: web.Request) -> bool:
        header = request.headers.get("Authorization", "")
        if not self._settings.username:
            return header.startswith("Basic ")
        credentials = f"{self._settings.username}:{self._settings.password}".encode()
        return hmac.compare_digest(header.encode(), b"Basic " + base64.b64encode(credentials))

    async def _send(self, request: web.Request) -> web.Response:
        body = await request.read()
        key = request.headers.get("Idempotency-Key", "")
        body_hash = hashlib.sha256(body).hexdigest()
        if key in self._store.first_requests:
            return await self._repeat(self._store.first_requests[key], body_hash)
        try:
            items, unicode_enabled = _parse(body, key)
        except ValueError as error:
            return _error(400, str(error))
        special = next((item for item in items if item.behaviour not in _ITEM_BEHAVIOURS), items[0])
        if special.behaviour in _REFUSALS and (refusal := self._refuse(special, key, body_hash)):
            return refusal
        answer = self._take(items, unicode_enabled, key, body_hash)
        return await self._answer(request, special.behaviour, key, answer)

    async def _repeat(self, first: Request, body_hash: str) -> web.Response:
        if first.body_hash != body_hash:
            return _error(400, "This idempotency key was used with another request.")
        self._store.append(
            Request(time.time(), first.key, body_hash, first.status, b"", first.references, repeated=True)
        )
        await _sleep_until(self._answered_at.get(first.key, 0.0))
        return _json(first.status, first.answer)

    def _refuse(self, item: _Item, key: str, body_hash: str) -> web.Response | None:
        """Refuse the whole request, None when the scenario has refused often enough."""
        status, text, times = _REFUSALS[item.behaviour]
        reference = item.fields["custom_ref"]
        refused = f"{item.to} {reference}"
        if times is not None and self._store.refusals[refused] >= times:
            return None
        self._store.append(Request(time.time(), key, body_hash, status, text.encode(), [reference], refused=refused))
        if not text:
            return web.Response(status=status)
        response = _error(status, text)
        if item.behaviour in _WITH_RETRY_AFTER:
            response.headers["Retry-After"] = str(RETRY_AFTER_S)
        return response

    def _take(self, items: list[_Item], unicode_enabled: bool, key: str, body_hash: str) -> bytes:
        """Judge each item, keep what is accepted, and return the body of the answer."""
        now = time.time()
        taken: list[Message] = []
        results: list[dict[str, Any]] = []
        for item in items:
            fields = item.fields
            if not unicode_enabled:
                fields["message"] = _without_unicode(fields["message"])
            refusal = _judge(item)
            if refusal:
                results.append({**fields, **refusal, "cost": 0})
                continue
            message_id, text, reference = str(uuid4()), fields["message"], fields["custom_ref"]
            parts = measure(text).parts
            taken.append(Message(message_id, now, PROVIDER, fields["sender"], item.to, text, reference, parts))
            results.append({**fields, "status": "success", "cost": parts, "message_id": message_id})
        cost = sum(message.parts for message in taken)
        answer = to_json({"status": "complete", "total_cost": cost, "results": results})
        references = [item.fields["custom_ref"] for item in items]
        self._store.append(Request(now, key, body_hash, 200, answer, references, taken))
        return answer

    async def _answer(self, request: web.Request, behaviour: Behaviour, key: str, answer: bytes) -> web.Response:
        """Answer when it is time; the messages are taken already, whatever becomes of the connection."""
        if behaviour is Behaviour.DROP and request.transport is not None:
            request.transport.abort()
        if behaviour in (Behaviour.DROP, Behaviour.NEVER_ANSWER):
            await asyncio.Event().wait()  # the server cancels it when the connection is gone
        delay = self._settings.latency_ms / 1000 + (SLOW_S if behaviour is Behaviour.SLOW else 0.0)
        if delay:
            at = time.monotonic() + delay
            self._answered_at[key] = at
            try:
                await _sleep_until(at)
            finally:
                self._answered_at.pop(key, None)
        return _json(200, answer)


def _parse(body: bytes, key: str) -> tuple[list[_Item], bool]:
    """Return the items and `enable_unicode`. Raises ValueError with the text for the sender."""
    if len(key) > KEY_LIMIT:
        raise ValueError("Idempotency-Key is too long.")
    try:
        request = from_json(body)
        items = [_item(message) for message in request["messages"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError("The request is not valid JSON with a list of messages.") from None
    if not 0 < len(items) <= BATCH_LIMIT:
        raise ValueError(f"A request takes 1 to {BATCH_LIMIT} messages.")
    return items, bool(request.get("enable_unicode"))


def _item(message: dict[str, Any]) -> _Item:
    fields = {name: str(message.get(name) or "") for name in ("to", "message", "sender", "custom_ref")}
    match = _MOBILE.fullmatch(fields["to"])
    to = f"+61{match[1]}" if match else ""
    return _Item(fields, to, SCENARIOS.get(to, Behaviour.ACCEPT))


def _judge(item: _Item) -> dict[str, str] | None:
    """Return why one item is refused, None when it is accepted."""
    if not item.to:
        return {"status": "error", "error": _INVALID_NUMBER}
    if not item.fields["message"] or not item.fields["sender"]:
        return {"status": "error", "error": "A message needs a text and a sender."}
    if item.behaviour is Behaviour.BLOCK:
        return {"status": "blocked"}
    if item.behaviour in _ITEM_ERRORS:
        return {"status": "error", "error": _ITEM_ERRORS[item.behaviour]}
    return None


def _without_unicode(text: str) -> str:
    """Return the text as it goes out without `enable_unicode`: what GSM 03.38 lacks is removed, silently."""
    if measure(text).encoding == "GSM-7":
        return text
    return "".join(character for character in text if measure(character).encoding == "GSM-7")


async def _sleep_until(at: float) -> None:
    delay = at - time.monotonic()
    if delay > 0:
        await asyncio.sleep(delay)


def _status(message: Message) -> dict[str, Any]:
    return {
        "message_id": message.id,
        "to": message.to.removeprefix("+"),
        "message": message.text,
        "sender": message.sender,
        "custom_ref": message.reference,
        "status": "sent",
        "cost": message.parts,
        "sent_at": datetime.fromtimestamp(message.received_at, UTC).strftime("%Y-%m-%d %H:%M:%S"),
        "delivered_at": None,
    }


def _json(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json")


def _error(status: int, text: str) -> web.Response:
    return _json(status, to_json({"error": text}))
