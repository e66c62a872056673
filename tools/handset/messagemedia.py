"""Emulate MessageMedia's Messages API v1 (Sinch Engage) under /messagemedia.

One invalid message refuses the whole request. MessageMedia documents no 429. It is answered in the format of the other
errors. Callbacks to the address in a message are not signed. The account's webhooks are signed (RSA, SHA-256).
"""

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any, ClassVar
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

from aiohttp import web
from pydantic_core import from_json, to_json
from uuid_utils import uuid4

from common.sms import measure
from tools.handset.keys import key_id, public_key, sign
from tools.handset.provider import EmulatedProvider, request_behaviour
from tools.handset.scenarios import FINAL_AFTER_S, RETRY_AFTER_S, Behaviour, Step, behaviour_for
from tools.handset.store import Message, Reply, Request
from tools.handset.webhooks import DeliveryReceipt, Webhook

BATCH_LIMIT = 100
_CREDITS = 1_000_000
_UNREADABLE = "Request failed to parse correctly. Please ensure input is valid and try again."
_LENGTHS = {"content": (1, 5000), "subject": (0, 64)}
_FORMATS = ("SMS", "MMS", "TTS")
_E164 = re.compile(r"\+?[0-9]{8,15}")
_REFUSALS = {
    Behaviour.THROTTLE: (429, "Too many requests"),
    Behaviour.THROTTLE_TWICE: (429, "Too many requests"),
    Behaviour.BUSY_TWICE: (503, "Service unavailable"),
    Behaviour.FAIL_ONCE: (500, ""),
    Behaviour.NO_CREDIT: (403, "The account has insufficient credits."),
}
_WITH_RETRY_AFTER = {Behaviour.THROTTLE, Behaviour.BUSY_TWICE}
_ITEM_ERRORS = {
    Behaviour.REFUSE_NUMBER: "destination_number: is not a valid number",
    Behaviour.REFUSE_SENDER: "source_number: is not registered for this account",
    Behaviour.REFUSE_CONTENT: "content: is not permitted",
}


class MessageMedia(EmulatedProvider):
    """One account. Its webhooks get opt-outs, and receipts and replies of messages without a callback address."""

    name = "messagemedia"
    title = "MessageMedia"
    embedded: ClassVar[Mapping[str, str]] = {"MESSAGEMEDIA_API_KEY": "embedded"}
    generated = ("MESSAGEMEDIA_API_SECRET",)
    statuses: ClassVar[Mapping[str, tuple[str, str]]] = {
        "sent": ("submitted", "210"),
        "delivered": ("delivered", "220"),
        "undelivered": ("failed", "400"),
        "unknown_number": ("rejected", "411"),
        "expired": ("expired", "401"),
        "blocked": ("rejected", "402"),
        "filtered": ("rejected", "304"),
        "opted_out": ("rejected", "302"),
    }

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints."""
        return [
            web.post("/messagemedia/v1/messages", self.send),
            web.get("/messagemedia/v1/messages/{id}", self.look_up),
            web.get("/messagemedia/v1/messaging/credits", self.credits),
            web.get("/messagemedia/v1/iam/signature_keys/enabled", self.signature_key),
        ]

    async def send(self, request: web.Request) -> web.Response:
        """Accept up to 100 messages, or refuse all of them."""
        if not self._is_authorised(request):
            return _error(401, "Invalid authentication credentials")
        if self.is_full:
            return _error(429, "Too many requests")
        with self.in_flight():
            return await self._send(request)

    async def look_up(self, request: web.Request) -> web.Response:
        """Answer with one message and its status."""
        if not self._is_authorised(request):
            return _error(401, "Invalid authentication credentials")
        found = self.store.by_id.get(request.match_info["id"])
        if found is None or found.provider != self.name:
            return _error(404, "Resource not found.")
        known = self.store.status(found.id)
        return web.json_response(_render(found, self.statuses[known.status][0] if known else "queued"))

    async def credits(self, request: web.Request) -> web.Response:
        """Answer with the credit, which never changes."""
        if not self._is_authorised(request):
            return _error(401, "Invalid authentication credentials")
        return web.json_response({"credits": _CREDITS, "expiry_date": "2099-12-31T23:59:59.000Z"})

    async def signature_key(self, request: web.Request) -> web.Response:
        """Answer with the key that signs the account's webhooks."""
        if not self._is_authorised(request):
            return _error(401, "Invalid authentication credentials")
        fields = {"key_id": key_id(self.settings.key_file), "cipher": "RSA", "digest": "SHA256", "enabled": True}
        return web.json_response({**fields, "public_key": public_key(self.settings.key_file)})

    def steps(self, message: Message) -> tuple[Step, ...]:
        """Return the receipts of a message. One to an opted-out number is accepted and then reported as rejected."""
        if behaviour_for(message.to) is Behaviour.BLOCK or self.store.is_opted_out(self.name, message.to):
            return (Step(FINAL_AFTER_S, "opted_out"),)
        return super().steps(message)

    def write_receipt(self, receipt: DeliveryReceipt) -> Webhook | None:
        """Return a delivery report."""
        message = receipt.message
        status, code = self.statuses[receipt.status]
        fields = {
            "delivery_report_id": str(uuid5(NAMESPACE_URL, f"{message.id}/{receipt.status}")),
            "message_id": message.id.upper() if receipt.mangled else message.id,
            "source_number": message.to,
            "status": status,
            "error_code": code,
            "submitted_date": _time(message.received_at),
            "date_received": _time(receipt.at),
            "delay": 0,
            "original_text": message.text,
        }
        return self._write(message, "receipts", fields, forged=receipt.forged)

    def write_reply(self, reply: Reply) -> list[Webhook]:
        """Return the webhook of a reply. An opt-out keyword adds a webhook of the account."""
        replied_to = self.store.by_id.get(reply.message_id)
        fields = {
            "reply_id": str(uuid5(NAMESPACE_URL, reply.id)),
            "message_id": reply.message_id or None,
            "source_number": reply.phone,
            "destination_number": reply.to,
            "content": reply.text,
            "date_received": _time(reply.at),
        }
        written = [self._write(replied_to, "inbound", fields)]
        if reply.keyword == "stop" and (url := self.settings.webhook(self.name, "inbound")):
            fields.pop("reply_id")
            fields |= {"notification_id": str(uuid5(NAMESPACE_URL, f"{reply.id}/opt-out")), "account_id": "Handset"}
            written.append(self._sign(url, fields | {"metadata": replied_to.metadata if replied_to else None}))
        return [webhook for webhook in written if webhook]

    def _write(
        self, message: Message | None, kind: str, fields: dict[str, Any], *, forged: bool = False
    ) -> Webhook | None:
        """Return a callback of the message, or else a webhook of the account. A forged callback lacks the query."""
        callback = message.callback_url if message else ""
        metadata = message.metadata if message else None
        fields = fields | {
            "metadata": metadata,
            "vendor_account_id": {"vendor_id": "MessageMedia", "account_id": "Handset"},
        }
        if callback:
            fields["callback_url"] = callback
            url = urlsplit(callback)._replace(query="").geturl() if forged else callback
            return Webhook(url, {"Content-Type": "application/json"}, to_json(fields))
        url = self.settings.webhook(self.name, kind)
        return self._sign(url, fields, forged=forged) if url else None

    def _sign(self, url: str, fields: dict[str, Any], *, forged: bool = False) -> Webhook:
        """Return a signed webhook. The signature covers the request line, the value of Date and the body."""
        parts, date, body = urlsplit(url), formatdate(usegmt=True), to_json(fields)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        signed = f"POST {path} HTTP/1.1{date}".encode() + body + (b"?" if forged else b"")
        headers = {
            "Content-Type": "application/json",
            "Date": date,
            "X-Messagemedia-Signature": sign(self.settings.key_file, signed, "SHA256"),
            "X-Messagemedia-Digest-Type": "SHA-256",
            "X-Messagemedia-Cipher-Type": "RSA",
            "X-Messagemedia-Key-Id": key_id(self.settings.key_file),
        }
        return Webhook(url, headers, body)

    def _is_authorised(self, request: web.Request) -> bool:
        return self.is_basic(request, self.variable("MESSAGEMEDIA_API_KEY"), self.variable("MESSAGEMEDIA_API_SECRET"))

    async def _send(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            items = from_json(body)["messages"]
            mistakes = _validate(items)
        except (ValueError, KeyError, TypeError, AttributeError):
            return _error(400, _UNREADABLE, ["/: is not an object with a list of messages"])
        body_hash = hashlib.sha256(body).hexdigest()
        if mistakes:
            self.store.append(
                Request(at=time.time(), key="", body_hash=body_hash, status=400, answer=b"", references=[])
            )
            return _error(400, _UNREADABLE, mistakes)
        messages = [_read(item) for item in items]
        behaviours = [behaviour_for(message.to) for message in messages]
        behaviour = request_behaviour(behaviours)
        refused = f"{messages[0].to} {body_hash[:16]}"
        if self.refuses(behaviour, refused):
            status, text = _REFUSALS[behaviour]
            self.save_refusal(refused, body_hash, status)
            response = _error(status, text) if text else web.Response(status=status)
            if behaviour in _WITH_RETRY_AFTER:
                response.headers["Retry-After"] = str(RETRY_AFTER_S)
            return response
        answer = to_json({"messages": [_render(message, "queued") for message in messages]})
        entry = Request(
            at=time.time(),
            key="",
            body_hash=body_hash,
            status=202,
            answer=answer,
            references=[message.reference for message in messages],
            messages=messages,
        )
        self.store.append(entry)
        response = web.Response(status=202, body=answer, content_type="application/json")
        return await self.answer(request, behaviour, messages, response)


def _validate(items: list[dict[str, Any]]) -> list[str]:
    """Return the mistakes as JSON pointers. Raises TypeError or AttributeError without a list of objects."""
    if not 1 <= len(items) <= BATCH_LIMIT:
        return [f"/messages: between 1 and {BATCH_LIMIT} messages are needed"]
    return [f"/messages/{index}/{mistake}" for index, item in enumerate(items) for mistake in _mistakes(item)]


def _mistakes(item: dict[str, Any]) -> list[str]:
    number = str(item.get("destination_number") or "")
    found: list[str] = []
    if not _E164.fullmatch(number):
        found.append(
            "destination_number: International address must be between 8 and 15 characters excluding the first '+'"
        )
    for name, (least, most) in _LENGTHS.items():
        if not least <= len(str(item.get(name) or "")) <= most:
            found.append(f"{name}: must be between {least} and {most} characters")
    checks: dict[str, Callable[[], bool]] = {
        "format": lambda: item.get("format", "SMS") in _FORMATS,
        "media": lambda: not item.get("media") or item.get("format") == "MMS",
        "metadata": lambda: len(item.get("metadata") or {}) <= 10,
    }
    found += [f"{name}: is not valid" for name, is_valid in checks.items() if not is_valid()]
    if mistake := _ITEM_ERRORS.get(behaviour_for(_e164(number))):
        found.append(mistake)
    return found


def _read(item: dict[str, Any]) -> Message:
    text, media = str(item["content"]), [str(url) for url in item.get("media") or []]
    metadata = {str(name): str(value) for name, value in (item.get("metadata") or {}).items()}
    return Message(
        id=str(uuid4()),
        received_at=time.time(),
        provider=MessageMedia.name,
        sender_id=str(item.get("source_number") or ""),
        to=_e164(str(item["destination_number"])),
        text=text,
        reference=metadata.get("reference") or next(iter(metadata.values()), ""),
        parts=1 if item.get("format") == "MMS" else measure(text).parts,
        subject=item.get("subject"),
        media_urls=media,
        callback_url=str(item.get("callback_url") or "") if item.get("delivery_report") else "",
        metadata=metadata,
    )


def _render(message: Message, status: str) -> dict[str, Any]:
    return {
        "message_id": message.id,
        "status": status,
        "content": message.text,
        "destination_number": message.to,
        "source_number": message.sender_id or None,
        "format": "MMS" if message.media_urls or message.subject else "SMS",
        "media": list(message.media_urls) or None,
        "subject": message.subject,
        "delivery_report": bool(message.callback_url),
        "callback_url": message.callback_url or None,
        "metadata": message.metadata,
    }


def _e164(number: str) -> str:
    return "+" + number.removeprefix("+")


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _error(status: int, text: str, details: list[str] | None = None) -> web.Response:
    body = {"message": text, "details": details} if details else {"message": text}
    return web.Response(status=status, body=to_json(body), content_type="application/json")
