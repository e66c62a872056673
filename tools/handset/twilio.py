"""Emulate Twilio's message resource (https://www.twilio.com/docs/messaging/api/message-resource) under /twilio.

Twilio has no idempotency keys, so a repeated request is a new message. The scenario without credit refuses the account
(20003).
"""

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, ClassVar
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit
from uuid import NAMESPACE_URL, uuid5

from aiohttp import web
from pydantic_core import to_json

from common.sms import measure
from tools.handset.provider import EmulatedProvider
from tools.handset.scenarios import RETRY_AFTER_S, Behaviour, behaviour_for
from tools.handset.store import Message, Reply, Request
from tools.handset.webhooks import DeliveryReceipt, Webhook

_VERSION = "2010-04-01"
_SID = "AC" + "0" * 32
_MAX_BODY = 1600
_MAX_MEDIA = 10
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_AU_LANDLINE = re.compile(r"\+61[2378][0-9]{8}")
# Code → HTTP status and text.
_ERRORS = {
    20003: (401, "Authenticate"),
    20404: (404, "The requested resource was not found"),
    20429: (429, "Too Many Requests"),
    20503: (503, "Service is temporarily unavailable"),
    21211: (400, "The 'To' number is not a valid phone number."),
    21602: (400, "Message body is required."),
    21603: (400, "A 'From' phone number is required."),
    21606: (400, "The From phone number is not a valid, SMS-capable Twilio number"),
    21610: (400, "Attempt to send to unsubscribed recipient"),
    21614: (400, "'To' number is not a valid mobile number"),
    21617: (400, "The concatenated message body exceeds the 1600 character limit"),
    21623: (400, "Number of media files exceeds allowed limit"),
}
_ITEM_ERRORS = {
    Behaviour.BLOCK: 21610,
    Behaviour.REFUSE_NUMBER: 21211,
    Behaviour.REFUSE_SENDER: 21606,
    Behaviour.REFUSE_CONTENT: 21617,
}
_REFUSALS = {
    Behaviour.THROTTLE: 20429,
    Behaviour.THROTTLE_TWICE: 20429,
    Behaviour.BUSY_TWICE: 20503,
    Behaviour.FAIL_ONCE: 0,
    Behaviour.NO_CREDIT: 20003,
}
_WITH_RETRY_AFTER = {Behaviour.THROTTLE, Behaviour.BUSY_TWICE}


class Twilio(EmulatedProvider):
    """One account. Status callbacks go to the address in each message, inbound messages to the account's webhook."""

    name = "twilio"
    title = "Twilio"
    embedded: ClassVar[Mapping[str, str]] = {"TWILIO_ACCOUNT_SID": _SID}
    generated = ("TWILIO_AUTH_TOKEN",)
    statuses: ClassVar[Mapping[str, tuple[str, str]]] = {
        "sent": ("sent", ""),
        "delivered": ("delivered", ""),
        "undelivered": ("undelivered", "30003"),
        "unknown_number": ("undelivered", "30005"),
        "expired": ("undelivered", "30008"),
        "blocked": ("undelivered", "30004"),
        "filtered": ("undelivered", "30007"),
        "opted_out": ("undelivered", "30004"),
    }

    def routes(self) -> list[web.RouteDef]:
        """Return the endpoints."""
        account = f"/twilio/{_VERSION}/Accounts/{{account}}"
        return [
            web.post(f"{account}/Messages.json", self.send),
            web.get(f"{account}/Messages/{{sid}}.json", self.look_up),
            web.get(f"{account}.json", self.account),
        ]

    async def send(self, request: web.Request) -> web.Response:
        """Accept or refuse one message."""
        if not self._is_authorised(request):
            return _error(20003)
        if self.is_full:
            return _error(20429)
        with self.in_flight():
            return await self._send(request)

    async def look_up(self, request: web.Request) -> web.Response:
        """Answer with one message and its status."""
        if not self._is_authorised(request):
            return _error(20003)
        found = self.store.by_id.get(request.match_info["sid"])
        if found is None or found.provider != self.name:
            return _error(20404)
        return _json(200, to_json(self._render(found, request.match_info["account"])))

    async def account(self, request: web.Request) -> web.Response:
        """Answer that the account is active."""
        if not self._is_authorised(request):
            return _error(20003)
        return web.json_response({"sid": request.match_info["account"], "status": "active", "type": "Full"})

    def write_receipt(self, receipt: DeliveryReceipt) -> Webhook | None:
        """Return a status callback."""
        message = receipt.message
        if not message.callback_url:
            return None
        status, code = self.statuses[receipt.status]
        sid = message.id.upper() if receipt.mangled else message.id
        fields = {
            "AccountSid": self._sid,
            "ApiVersion": _VERSION,
            "From": message.sender_id,
            "To": message.to,
            "MessageSid": sid,
            "SmsSid": sid,
            "MessageStatus": status,
            "SmsStatus": status,
            **({"ErrorCode": code} if code else {}),
            **({"RawDlrDoneDate": datetime.fromtimestamp(receipt.at, UTC).strftime("%y%m%d%H%M")} if code else {}),
        }
        return self._sign(message.callback_url, fields, forged=receipt.forged)

    def write_reply(self, reply: Reply) -> list[Webhook]:
        """Return an inbound message."""
        url = self.settings.webhook(self.name, "inbound")
        sid = "SM" + uuid5(NAMESPACE_URL, reply.id).hex
        fields = {
            "AccountSid": self._sid,
            "ApiVersion": _VERSION,
            **dict.fromkeys(("MessageSid", "SmsSid", "SmsMessageSid"), sid),
            "SmsStatus": "received",
            "From": reply.phone,
            "FromCountry": "AU",
            "To": reply.to,
            "ToCountry": "AU",
            "Body": reply.text,
            "NumMedia": "0",
            "NumSegments": str(measure(reply.text).parts),
            **({"OptOutType": reply.keyword.upper()} if reply.keyword else {}),
        }
        return [self._sign(url, fields)] if url else []

    @property
    def _sid(self) -> str:
        return self.variable("TWILIO_ACCOUNT_SID") or _SID

    def _sign(self, url: str, fields: Mapping[str, str], *, forged: bool = False) -> Webhook:
        """Return a signed webhook. The signature covers the address and the parameters, sorted by name."""
        signed = url + "".join(name + fields[name] for name in sorted(fields))
        token = self.variable("TWILIO_AUTH_TOKEN").encode() + (b"?" if forged else b"")
        signature = base64.b64encode(hmac.new(token, signed.encode(), hashlib.sha1).digest()).decode()
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Twilio-Signature": signature,
            "I-Twilio-Idempotency-Token": str(uuid5(NAMESPACE_URL, signed)),
        }
        return Webhook(url, headers, urlencode(fields).encode())

    def _is_authorised(self, request: web.Request) -> bool:
        """Return whether a request has the account's credentials or an API key. Secrets of API keys are not checked."""
        sid = self.variable("TWILIO_ACCOUNT_SID")
        if sid and request.match_info["account"] != sid:
            return False
        header = request.headers.get("Authorization", "")
        try:
            user = base64.b64decode(header.removeprefix("Basic ")).decode()
        except ValueError:
            return False
        return user.startswith("SK") or self.is_basic(request, sid, self.variable("TWILIO_AUTH_TOKEN"))

    async def _send(self, request: web.Request) -> web.Response:
        body = await request.read()
        fields = parse_qs(body.decode(errors="replace"))
        to, behaviour = _one(fields, "To"), behaviour_for(_one(fields, "To"))
        body_hash = hashlib.sha256(body).hexdigest()
        refused = f"{to} {body_hash[:16]}"
        if self.refuses(behaviour, refused):
            response = _error(_REFUSALS[behaviour])
            if behaviour in _WITH_RETRY_AFTER:
                response.headers["Retry-After"] = str(RETRY_AFTER_S)
            self.save_refusal(refused, body_hash, response.status)
            return response
        code = _validate(fields) or _ITEM_ERRORS.get(behaviour) or (self.store.is_opted_out(self.name, to) and 21610)
        message = None if code else _read(fields)
        response = _error(code) if code else web.Response()
        if message:
            response = _json(201, to_json(self._render(message, request.match_info["account"])))
        reference = _reference(_one(fields, "StatusCallback"))
        accepted = [message] if message else []
        entry = Request(
            at=time.time(),
            key="",
            body_hash=body_hash,
            status=response.status,
            answer=bytes(response.body) if isinstance(response.body, bytes) else b"",
            references=[reference],
            messages=accepted,
        )
        self.store.append(entry)
        return await self.answer(request, behaviour, accepted, response)

    def _render(self, message: Message, account: str) -> dict[str, Any]:
        known = self.store.status(message.id)
        status, code = self.statuses[known.status] if known else ("queued", "")
        uri = f"/{_VERSION}/Accounts/{account}/Messages/{message.id}"
        return {
            "sid": message.id,
            "account_sid": account,
            "api_version": _VERSION,
            "body": message.text,
            "date_created": _time(message.received_at),
            "date_sent": _time(known.at) if known else None,
            "date_updated": _time(known.at if known else message.received_at),
            "direction": "outbound-api",
            "error_code": int(code) if code else None,
            "error_message": None,
            "from": message.sender_id or None,
            "messaging_service_sid": None,
            "num_media": str(len(message.media_urls)),
            "num_segments": str(message.parts),
            "price": None,
            "price_unit": "USD",
            "status": status,
            "subresource_uris": {"media": f"{uri}/Media.json"},
            "to": message.to,
            "uri": f"{uri}.json",
        }


def _validate(fields: Mapping[str, list[str]]) -> int:
    """Return the error code of a message, or 0 when it is valid."""
    to, media = _one(fields, "To"), fields.get("MediaUrl", [])
    if not _E164.fullmatch(to):
        return 21211
    if _AU_LANDLINE.fullmatch(to):
        return 21614
    if not (_one(fields, "From") or _one(fields, "MessagingServiceSid")):
        return 21603
    if not (_one(fields, "Body") or media):
        return 21602
    if len(_one(fields, "Body")) > _MAX_BODY:
        return 21617
    return 21623 if len(media) > _MAX_MEDIA else 0


def _read(fields: Mapping[str, list[str]]) -> Message:
    text, media, callback = _one(fields, "Body"), fields.get("MediaUrl", []), _one(fields, "StatusCallback")
    return Message(
        id=("MM" if media else "SM") + secrets.token_hex(16),
        received_at=time.time(),
        provider=Twilio.name,
        sender_id=_one(fields, "From") or _one(fields, "MessagingServiceSid"),
        to=_one(fields, "To"),
        text=text,
        reference=_reference(callback),
        parts=1 if media else measure(text).parts,
        media_urls=media,
        callback_url=callback,
    )


def _one(fields: Mapping[str, list[str]], name: str) -> str:
    return fields.get(name, [""])[0]


def _reference(callback: str) -> str:
    """Return the client's reference. Twilio has no field for it, so it is in the query of the callback address."""
    return next((value for _, value in parse_qsl(urlsplit(callback).query)), "")


def _time(at: float) -> str:
    return format_datetime(datetime.fromtimestamp(at, UTC))


def _json(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json")


def _error(code: int) -> web.Response:
    """Return an error in Twilio's format. Code 0 is a 500 without a body."""
    if not code:
        return web.Response(status=500)
    status, text = _ERRORS[code]
    more = f"https://www.twilio.com/docs/errors/{code}"
    return _json(status, to_json({"code": code, "message": text, "more_info": more, "status": status}))
