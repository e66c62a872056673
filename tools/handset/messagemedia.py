"""MessageMedia's wire format, Messages API v1 (Sinch Engage), under /messagemedia.

A request with one bad message is refused as a whole. The vendor documents no 429; it is answered like the others.
Callbacks to the address in a message are not signed, an account's webhooks are (RSA, SHA-256).
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
from tools.handset.receipts import Notice, Webhook
from tools.handset.scenarios import RETRY_AFTER_S, SETTLED_AFTER_S, Behaviour, Step, behaviour_for
from tools.handset.store import Message, Reply, Request
from tools.handset.vendor import Vendor, special

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


class MessageMedia(Vendor):
    """Batches of 100, callbacks per message, webhooks of an account for what has no callback and for opt-outs."""

    name = "messagemedia"
    words: ClassVar[Mapping[str, tuple[str, str]]] = {
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
        """Take up to 100 messages, all or none."""
        if not self._is_authorised(request):
            return _error(401, "Invalid authentication credentials")
        if self.is_full:
            return _error(429, "Too many requests")
        with self.in_flight():
            return await self._send(request)

    async def look_up(self, request: web.Request) -> web.Response:
        """Answer one message as it stands."""
        if not self._is_authorised(request):
            return _error(401, "Invalid authentication credentials")
        found = self.store.by_id.get(request.match_info["id"])
        if found is None or found.provider != self.name:
            return _error(404, "Resource not found.")
        known = self.store.status(found.id)
        return web.json_response(_render(found, self.words[known.status][0] if known else "queued"))

    async def credits(self, request: web.Request) -> web.Response:
        """Answer the credit that is left: it never ends."""
        if not self._is_authorised(request):
            return _error(401, "Invalid authentication credentials")
        return web.json_response({"credits": _CREDITS, "expiry_date": "2099-12-31T23:59:59.000Z"})

    async def signature_key(self, request: web.Request) -> web.Response:
        """Answer the key that signs an account's webhooks."""
        if not self._is_authorised(request):
            return _error(401, "Invalid authentication credentials")
        fields = {"key_id": key_id(self.settings.key_file), "cipher": "RSA", "digest": "SHA256", "enabled": True}
        return web.json_response({**fields, "public_key": public_key(self.settings.key_file)})

    def steps(self, message: Message) -> tuple[Step, ...]:
        """Who stopped, or is blocked, is not refused but reported."""
        if behaviour_for(message.to) is Behaviour.BLOCK or self.store.is_stopped(self.name, message.to):
            return (Step(SETTLED_AFTER_S, "opted_out"),)
        return super().steps(message)

    def receipt(self, notice: Notice) -> Webhook | None:
        """Write a delivery report."""
        message = notice.message
        word, code = self.words[notice.status]
        fields = {
            "delivery_report_id": str(uuid5(NAMESPACE_URL, f"{message.id}/{notice.status}")),
            "message_id": message.id.upper() if notice.mangled else message.id,
            "source_number": message.to,
            "status": word,
            "error_code": code,
            "submitted_date": _time(message.received_at),
            "date_received": _time(notice.at),
            "delay": 0,
            "original_text": message.text,
        }
        return self._write(message, "receipts", fields, notice.forged)

    def replies(self, reply: Reply) -> list[Webhook]:
        """Write a reply; a word that opts out sets off a webhook of the account as well."""
        answered = self.store.by_id.get(reply.answers)
        fields = {
            "reply_id": str(uuid5(NAMESPACE_URL, reply.id)),
            "message_id": reply.answers or None,
            "source_number": reply.phone,
            "destination_number": reply.to,
            "content": reply.text,
            "date_received": _time(reply.at),
        }
        written = [self._write(answered, "inbound", fields)]
        if reply.keyword == "stop" and (url := self.settings.webhook(self.name, "inbound")):
            fields.pop("reply_id")
            fields |= {"notification_id": str(uuid5(NAMESPACE_URL, f"{reply.id}/opt-out")), "account_id": "Handset"}
            written.append(self._sign(url, fields | {"metadata": answered.metadata if answered else None}))
        return [webhook for webhook in written if webhook]

    def _write(
        self, message: Message | None, kind: str, fields: dict[str, Any], forged: bool = False
    ) -> Webhook | None:
        """To the callback of the message, else to the account's webhook; a forged callback has lost its query."""
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
        return self._sign(url, fields, forged) if url else None

    def _sign(self, url: str, fields: dict[str, Any], forged: bool = False) -> Webhook:
        """The signature covers the request line, the value of Date and the body, with nothing between them."""
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
        return self.is_basic(request, self.settings.messagemedia_api_key, self.settings.messagemedia_api_secret)

    async def _send(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            items = from_json(body)["messages"]
            mistakes = _judge(items)
        except (ValueError, KeyError, TypeError, AttributeError):
            return _error(400, _UNREADABLE, ["/: is not an object with a list of messages"])
        body_hash = hashlib.sha256(body).hexdigest()
        if mistakes:
            self.store.append(Request(time.time(), "", body_hash, 400, b"", []))
            return _error(400, _UNREADABLE, mistakes)
        messages = [_read(item) for item in items]
        behaviours = [behaviour_for(message.to) for message in messages]
        behaviour = special(behaviours)
        refused = f"{messages[0].to} {body_hash[:16]}"
        if self.refuses(behaviour, refused):
            status, text = _REFUSALS[behaviour]
            self.keep_refusal(refused, body_hash, status)
            response = _error(status, text) if text else web.Response(status=status)
            if behaviour in _WITH_RETRY_AFTER:
                response.headers["Retry-After"] = str(RETRY_AFTER_S)
            return response
        answer = to_json({"messages": [_render(message, "queued") for message in messages]})
        references = [message.reference for message in messages]
        self.store.append(Request(time.time(), "", body_hash, 202, answer, references, messages))
        response = web.Response(status=202, body=answer, content_type="application/json")
        return await self.answer(request, behaviour, messages, response)


def _judge(items: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong, as JSON pointers. Raises TypeError or AttributeError for what is no list of objects."""
    if not 1 <= len(items) <= BATCH_LIMIT:
        return [f"/messages: between 1 and {BATCH_LIMIT} messages are needed"]
    return [f"/messages/{place}/{mistake}" for place, item in enumerate(items) for mistake in _mistakes(item)]


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
    found += [f"{name}: is not valid" for name, holds in checks.items() if not holds()]
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
        sender=str(item.get("source_number") or ""),
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
        "source_number": message.sender or None,
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
