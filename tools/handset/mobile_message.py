"""Emulate Mobile Message's API v1 (https://mobilemessage.com.au/api-documentation).

Its documentation leaves some cases open. Here an idempotency key with another body gets a 400. A request with the key
of a request in flight waits for that one. A request that was refused as a whole does not use up its key.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple

from aiohttp import web
from pydantic_core import from_json, to_json
from uuid_utils import uuid4

from common.sms import measure
from tools.handset.provider import EmulatedProvider, request_behaviour
from tools.handset.scenarios import RETRY_AFTER_S, Behaviour, behaviour_for
from tools.handset.store import Message, Reply, Request
from tools.handset.webhooks import STATUSES, DeliveryReceipt, Webhook

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
_WITH_RETRY_AFTER = {Behaviour.THROTTLE, Behaviour.BUSY_TWICE}
_REFUSALS = {
    Behaviour.THROTTLE: (429, _TOO_MANY),
    Behaviour.THROTTLE_TWICE: (429, _TOO_MANY),
    Behaviour.BUSY_TWICE: (503, "Service temporarily unavailable."),
    Behaviour.FAIL_ONCE: (500, ""),
    Behaviour.NO_CREDIT: (403, "Insufficient credits to send the batch of messages."),
}


class _Item(NamedTuple):
    """One message of a request: its fields, its recipient (E.164, or empty when invalid) and its behaviour."""

    fields: dict[str, str]
    to: str
    behaviour: Behaviour


class MobileMessage(EmulatedProvider):
    """One account and its two webhooks. The paths are the provider's own, with and without its name before them."""

    name = "mobile_message"
    title = "Mobile Message"
    embedded: ClassVar[Mapping[str, str]] = {"MOBILE_MESSAGE_USERNAME": "embedded"}
    generated = ("MOBILE_MESSAGE_PASSWORD", "MOBILE_MESSAGE_WEBHOOK_SECRET")
    per_part = True
    statuses: ClassVar[Mapping[str, tuple[str, str]]] = {
        status: (status if status in ("sent", "delivered") else "failed", "") for status in STATUSES
    }

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints."""
        return [
            route
            for prefix in ("", f"/{self.name}")
            for route in (
                web.post(f"{prefix}/v1/messages", self.send),
                web.get(f"{prefix}/v1/messages", self.look_up),
                web.get(f"{prefix}/v1/account", self.account),
                web.get(f"{prefix}/v1/senders", self.sender_ids),
            )
        ]

    async def send(self, request: web.Request) -> web.Response:
        """Accept or refuse each message of a request, or refuse the whole request."""
        if not self._is_authorised(request):
            return _error(401, _UNAUTHORISED)
        if self.is_full:
            return _error(429, _TOO_MANY)
        with self.in_flight():
            return await self._send(request)

    async def look_up(self, request: web.Request) -> web.Response:
        """Answer with one message by its id, and its status."""
        if not self._is_authorised(request):
            return _error(401, _UNAUTHORISED)
        found = self.store.by_id.get(request.query.get("message_id", ""))
        return web.json_response({"results": [self._status(found)] if found else []})

    async def account(self, request: web.Request) -> web.Response:
        """Answer with the credit, which never changes."""
        if not self._is_authorised(request):
            return _error(401, _UNAUTHORISED)
        return web.json_response({"credit_balance": _CREDIT_BALANCE})

    async def sender_ids(self, request: web.Request) -> web.Response:
        """Answer with the sender IDs that were used. The account may use any."""
        if not self._is_authorised(request):
            return _error(401, _UNAUTHORISED)
        used = {message.sender_id for message in self.store.messages if message.provider == self.name}
        return web.json_response({"results": [{"sender": sender_id} for sender_id in sorted(used)]})

    def write_receipt(self, receipt: DeliveryReceipt) -> Webhook | None:
        """Return the delivery status of one part."""
        message = receipt.message
        reference = message.reference
        body = {
            "to": message.to.removeprefix("+"),
            "message": message.text,
            "sender": message.sender_id,
            "custom_ref": reference.zfill(len(reference) + 4) if receipt.mangled else reference,
            "status": self.statuses[receipt.status][0],
            "message_id": message.id.upper() if receipt.mangled else message.id,
            "received_at": _time(receipt.at),
            "part_number": receipt.part,
            "total_parts": receipt.of_parts,
        }
        return self._sign("receipts", body, forged=receipt.forged)

    def write_reply(self, reply: Reply) -> list[Webhook]:
        """Return an inbound message. An opt-out has another type."""
        replied_to = self.store.by_id.get(reply.message_id)
        body = {
            "to": reply.to.removeprefix("+"),
            "sender": reply.phone.removeprefix("+"),
            "message": reply.text,
            "received_at": _time(reply.at),
            "type": "unsubscribe" if reply.keyword == "stop" else "inbound",
            "original_message_id": replied_to.id if replied_to else "",
            "original_custom_ref": replied_to.reference if replied_to else "",
        }
        webhook = self._sign("inbound", body)
        return [webhook] if webhook else []

    def _sign(self, kind: str, fields: dict[str, Any], *, forged: bool = False) -> Webhook | None:
        url = self.settings.webhook(self.name, kind)
        if not url:
            return None
        body, now = to_json(fields), str(int(time.time()))
        headers = {"Content-Type": "application/json"}
        if secret := self.variable("MOBILE_MESSAGE_WEBHOOK_SECRET"):
            key = secret.encode() + (b"?" if forged else b"")
            headers["X-MM-Timestamp"] = now
            headers["X-MM-Signature"] = hmac.new(key, f"{now}.".encode() + body, hashlib.sha256).hexdigest()
        return Webhook(url, headers, body)

    def _is_authorised(self, request: web.Request) -> bool:
        return self.is_basic(request, self.settings.username, self.settings.password)

    async def _send(self, request: web.Request) -> web.Response:
        body = await request.read()
        key = request.headers.get("Idempotency-Key", "")
        body_hash = hashlib.sha256(body).hexdigest()
        if key in self.store.first_requests:
            return await self._repeat(self.store.first_requests[key], body_hash)
        try:
            items, unicode_enabled = _parse(body, key)
        except ValueError as error:
            return _error(400, str(error))
        behaviour = request_behaviour([item.behaviour for item in items])
        item = next((item for item in items if item.behaviour is behaviour), items[0])
        refused = f"{item.to} {item.fields['custom_ref']}"
        if self.refuses(behaviour, refused):
            return self._refuse(item, refused, key, body_hash)
        accepted, answer = self._accept(items, unicode_enabled, key, body_hash)
        return await self.answer(request, behaviour, accepted, _json(200, answer), key=key)

    async def _repeat(self, first: Request, body_hash: str) -> web.Response:
        if first.body_hash != body_hash:
            return _error(400, "This idempotency key was used with another request.")
        entry = Request(
            at=time.time(),
            key=first.key,
            body_hash=body_hash,
            status=first.status,
            answer=b"",
            references=first.references,
            repeated=True,
        )
        self.store.append(entry)
        await self.wait_for(first.key)
        return _json(first.status, first.answer)

    def _refuse(self, item: _Item, refused: str, key: str, body_hash: str) -> web.Response:
        """Refuse the whole request."""
        status, text = _REFUSALS[item.behaviour]
        entry = Request(
            at=time.time(),
            key=key,
            body_hash=body_hash,
            status=status,
            answer=text.encode(),
            references=[item.fields["custom_ref"]],
            refused=refused,
        )
        self.store.append(entry)
        if not text:
            return web.Response(status=status)
        response = _error(status, text)
        if item.behaviour in _WITH_RETRY_AFTER:
            response.headers["Retry-After"] = str(RETRY_AFTER_S)
        return response

    def _accept(
        self, items: list[_Item], unicode_enabled: bool, key: str, body_hash: str
    ) -> tuple[list[Message], bytes]:
        """Store the items that are accepted, and return them with the body of the answer."""
        now = time.time()
        accepted: list[Message] = []
        results: list[dict[str, Any]] = []
        for item in items:
            fields = item.fields
            if not unicode_enabled:
                fields["message"] = _without_unicode(fields["message"])
            refusal = _refusal(item, self.store.is_opted_out(self.name, item.to))
            if refusal:
                results.append({**fields, **refusal, "cost": 0})
                continue
            message = Message(
                id=str(uuid4()),
                received_at=now,
                provider=self.name,
                sender_id=fields["sender"],
                to=item.to,
                text=fields["message"],
                reference=fields["custom_ref"],
                parts=measure(fields["message"]).parts,
            )
            accepted.append(message)
            results.append({**fields, "status": "success", "cost": message.parts, "message_id": message.id})
        cost = sum(message.parts for message in accepted)
        answer = to_json({"status": "complete", "total_cost": cost, "results": results})
        entry = Request(
            at=now,
            key=key,
            body_hash=body_hash,
            status=200,
            answer=answer,
            references=[item.fields["custom_ref"] for item in items],
            messages=accepted,
        )
        self.store.append(entry)
        return accepted, answer

    def _status(self, message: Message) -> dict[str, Any]:
        known = self.store.status(message.id)
        delivered = known is not None and known.status == "delivered"
        return {
            "message_id": message.id,
            "to": message.to.removeprefix("+"),
            "message": message.text,
            "sender": message.sender_id,
            "custom_ref": message.reference,
            "status": self.statuses[known.status][0] if known else "sent",
            "cost": message.parts,
            "sent_at": _time(message.received_at),
            "delivered_at": _time(known.at) if known and delivered else None,
        }


def _parse(body: bytes, key: str) -> tuple[list[_Item], bool]:
    """Return the items and `enable_unicode`. Raises ValueError with the text for the client."""
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
    return _Item(fields, to, behaviour_for(to))


def _refusal(item: _Item, is_opted_out: bool) -> dict[str, str] | None:
    """Return the refusal of one item, or None when it is accepted."""
    if not item.to:
        return {"status": "error", "error": _INVALID_NUMBER}
    if not item.fields["message"] or not item.fields["sender"]:
        return {"status": "error", "error": "A message needs a text and a sender."}
    if item.behaviour is Behaviour.BLOCK or is_opted_out:
        return {"status": "blocked"}
    if item.behaviour in _ITEM_ERRORS:
        return {"status": "error", "error": _ITEM_ERRORS[item.behaviour]}
    return None


def _without_unicode(text: str) -> str:
    """Return the text without the characters that GSM 03.38 lacks, as is sent without `enable_unicode`."""
    if measure(text).encoding == "GSM-7":
        return text
    return "".join(character for character in text if measure(character).encoding == "GSM-7")


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _json(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json")


def _error(status: int, text: str) -> web.Response:
    return _json(status, to_json({"error": text}))
