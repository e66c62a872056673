"""Twilio Programmable Messaging: SMS and MMS, one message a request.

Over its HTTP interface, by aiohttp: the vendor's package goes to no other address for a rehearsal, and its requests
are made of arguments, not of the bytes that a call is.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit
from uuid import UUID

from common.events import FailureCategory
from delivery.providers.base import (
    AccountError,
    InboundMessage,
    ProviderEvent,
    Outcome,
    OutcomeUnknown,
    OutgoingMessage,
    Provider,
    DeliveryReceipt,
    AccountStatus,
    Throttled,
    WebhookMalformed,
    WebhookRefused,
    WebhookRequest,
)
from delivery.providers.http import Answer, HttpApi, basic, failure_of, is_host_of, read_reason, seconds
from delivery.providers.webhook_parsing import Mark, clean, is_same, need
from delivery.settings import Settings, require

# Codes of refused requests and of receipts → our category (https://www.twilio.com/docs/api/errors).
_CATEGORIES: dict[int, FailureCategory] = {
    21211: "invalid_number",
    21266: "invalid_number",
    21614: "invalid_number",
    21635: "invalid_number",
    21610: "opted_out",
    21612: "unroutable",
    21602: "content_rejected",
    21617: "content_rejected",
    21620: "content_rejected",
    21623: "content_rejected",
    21658: "content_rejected",
    21212: "account_error",  # the sender, which may be one organisation's own: no fault of the whole account
    21606: "account_error",
    21608: "account_error",  # a trial account and a recipient who is not verified
    30001: "rate_limited",
    30002: "account_error",
    30003: "unroutable",
    30004: "blocked",
    30005: "invalid_number",
    30006: "unroutable",
    30007: "content_rejected",
}
_ACCOUNT_FAULTS = frozenset({20003, 21408, 30002})
_THROTTLED = frozenset({20429, 21611, 63017})
_STATUSES: dict[str, Literal["sent", "delivered", "failed"]] = {
    "accepted": "sent",
    "scheduled": "sent",
    "queued": "sent",
    "sending": "sent",
    "sent": "sent",
    "partially_delivered": "sent",
    "delivered": "delivered",
    "read": "delivered",
    "undelivered": "failed",
    "failed": "failed",
    "canceled": "failed",
}
_KEYWORDS: dict[str, Literal["stop", "start", "help"]] = {"STOP": "stop", "START": "start", "HELP": "help"}


class Twilio(Provider):
    """One account. Nothing recognises a repetition, so an unknown outcome waits for its receipt or a look-up."""

    name = "twilio"
    formats = frozenset({"sms", "mms"})
    sends_receipts = True
    can_look_up = True
    handles_opt_outs = True
    webhook_answer = ("text/xml", '<?xml version="1.0" encoding="UTF-8"?><Response></Response>')

    def __init__(self, settings: Settings) -> None:
        self.concurrency = settings.twilio_concurrency
        self.rate = settings.twilio_rate
        self.reaches_people = is_host_of(settings.twilio_base_url, "twilio.com")
        self._mark = Mark(settings)
        self._sender_id = settings.twilio_sender
        self._service = settings.twilio_messaging_service_sid
        self._receipts_url = f"{settings.public_url.rstrip('/')}/api/webhooks/providers/twilio/receipts/"
        self._token = settings.twilio_auth_token.get_secret_value()
        sid = settings.twilio_account_sid
        origin = {"TWILIO_SENDER or TWILIO_MESSAGING_SERVICE_SID": self._sender_id or self._service}
        require(self.name, {"TWILIO_ACCOUNT_SID": sid, "TWILIO_AUTH_TOKEN": self._token, **origin})
        user, secret = sid, self._token
        if settings.twilio_api_key_sid:
            user, secret = settings.twilio_api_key_sid, settings.twilio_api_key_secret.get_secret_value()
        self._account = f"/2010-04-01/Accounts/{sid}"
        self._api = HttpApi(
            settings.twilio_base_url,
            {"Authorization": basic(user, secret)},
            timeout_s=settings.request_timeout_s,
            concurrency=self.concurrency,
        )

    def prepare(self, messages: Sequence[OutgoingMessage]) -> bytes:
        (message,) = messages
        fields = {"To": message.phone, "Body": message.text}
        if message.sender_id or not self._service:
            fields["From"] = message.sender_id or self._sender_id
        else:
            fields["MessagingServiceSid"] = self._service
        if message.media_url:
            fields["MediaUrl"] = message.media_url
        # The receipt may come before the answer with its id, or the answer never: our reference comes back anyway.
        fields["StatusCallback"] = f"{self._receipts_url}?reference={self._mark.write(message.id)}"
        return urlencode(fields).encode()

    async def send(self, key: UUID, body: bytes, references: Sequence[int]) -> list[Outcome]:
        answer = await self._api.post(
            f"{self._account}/Messages.json", body, {"Content-Type": "application/x-www-form-urlencoded"}
        )
        if answer.status in (200, 201):
            return [_read_accepted(answer.fields())]
        return [_read_refused(answer)]

    async def read_webhook(self, request: WebhookRequest) -> Sequence[ProviderEvent]:
        fields = self._verify(request)
        if request.kind == "receipts":
            return _read_receipt(fields, self._mark.read(request.query.get("reference")))
        if request.kind == "inbound":
            return [_read_inbound(fields)]
        raise WebhookRefused(f"twilio has no webhook {request.kind!r}")

    def _verify(self, request: WebhookRequest) -> Mapping[str, str]:
        """The parameters of a request that Twilio signed (https://www.twilio.com/docs/usage/security)."""
        given = request.headers.get("x-twilio-signature", "")
        pairs: list[tuple[str, str]] = []
        body_hash = parse_qs(urlsplit(request.url).query).get("bodySHA256")
        if body_hash is None:
            pairs = parse_qsl(request.body.decode(errors="replace"), keep_blank_values=True)
        elif not is_same(body_hash[0], hashlib.sha256(request.body).hexdigest()):
            raise WebhookRefused("bodySHA256 is not of this body")
        signed = "".join(name + value for name, value in sorted(set(pairs)))
        # Twilio signs the address with or without its port, as it likes.
        if not any(is_same(given, self._sign(url + signed)) for url in _with_and_without_port(request.url)):
            raise WebhookRefused("X-Twilio-Signature does not fit TWILIO_AUTH_TOKEN, PUBLIC_URL and the request")
        return dict(pairs)

    def _sign(self, signed: str) -> str:
        mac = hmac.new(self._token.encode(), signed.encode(errors="replace"), hashlib.sha1)
        return base64.b64encode(mac.digest()).decode()

    async def look_up(self, provider_message_id: str) -> DeliveryReceipt | None:
        answer = await self._api.get(f"{self._account}/Messages/{quote(provider_message_id, safe='')}.json")
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise failure_of(answer, read_reason(answer, "message"))
        fields = answer.fields()
        found = _receipt(str(fields.get("sid") or ""), str(fields.get("status") or ""), fields.get("error_code"))
        if found is None:
            raise OutcomeUnknown("an answer that cannot be read")
        return found

    async def check(self) -> AccountStatus:
        answer = await self._api.get(f"{self._account}.json")
        if answer.status != 200:
            raise failure_of(answer, read_reason(answer, "message"))
        if (status := str(answer.fields().get("status"))) != "active":
            raise AccountError(f"the account is {clean(status)}")
        return AccountStatus(senders=tuple(filter(None, (self._sender_id, self._service))))

    async def close(self) -> None:
        await self._api.close()


def _read_accepted(fields: Mapping[str, Any]) -> Outcome:
    sid, status = str(fields.get("sid") or ""), str(fields.get("status") or "")
    if not sid:
        raise OutcomeUnknown("an answer without an id")
    if _STATUSES.get(status) == "failed":
        category, error = _read_code(fields.get("error_code"), status)
        return Outcome("refused", clean(sid), category, error, raw=clean(status))
    segments = str(fields.get("num_segments") or "")
    # With a messaging service the segments are 0 until a sender is chosen.
    parts = int(segments) or None if segments.isascii() and segments.isdigit() else None
    return Outcome("accepted", clean(sid), parts=parts, raw=clean(status) or None)


def _read_refused(answer: Answer) -> Outcome:
    """One message a request, so that what is refused as a whole is this message."""
    reason = read_reason(answer, "message", "title")
    code = _code(answer)
    told = f"{code} {reason}".strip() if code else reason
    if code in _THROTTLED:
        raise Throttled(told, seconds(answer.retry_after))
    if code in _ACCOUNT_FAULTS:
        raise AccountError(told)
    if answer.status in (400, 413, 422):
        return Outcome("refused", failure_category=_CATEGORIES.get(code, "unknown"), error=told or "Refused.")
    raise failure_of(answer, told)


def _code(answer: Answer) -> int:
    try:
        return int(answer.fields().get("code") or 0)
    except (OutcomeUnknown, TypeError, ValueError):
        return 0


def _read_receipt(fields: Mapping[str, str], reference: int | None) -> list[DeliveryReceipt]:
    sid, status = need(fields, "MessageSid"), need(fields, "MessageStatus")
    receipt = _receipt(sid, status, fields.get("ErrorCode"), reference)
    return [] if receipt is None else [receipt]  # a status that is new to us is no news, and no fault of Twilio's


def _receipt(sid: str, status: str, code: object, reference: int | None = None) -> DeliveryReceipt | None:
    known = _STATUSES.get(status)
    if known is None or not sid:
        return None
    category, error = _read_code(code, status) if known == "failed" else (None, None)
    return DeliveryReceipt(f"{sid}/{status}", known, clean(status), reference, clean(sid), category, error)


def _read_code(code: object, status: str) -> tuple[FailureCategory, str]:
    digits = str(code or "")
    if not (digits.isascii() and digits.isdigit()):
        return "unknown", clean(status)
    return _CATEGORIES.get(int(digits[:9]), "unknown"), clean(f"{status}, code {digits}")


def _read_inbound(fields: Mapping[str, str]) -> InboundMessage:
    sid = need(fields, "MessageSid")
    media = fields.get("NumMedia") or "0"
    if not (media.isascii() and media.isdigit() and int(media) <= 10):
        raise WebhookMalformed("NumMedia: not a number of media")
    return InboundMessage(
        id=sid,
        phone=need(fields, "From"),
        to=need(fields, "To"),
        text=fields.get("Body", ""),
        received_at=datetime.now(UTC),  # Twilio does not say when
        provider_message_id=clean(sid),
        keyword=_KEYWORDS.get(fields.get("OptOutType", "").upper()),
        media_urls=tuple(need(fields, f"MediaUrl{place}") for place in range(int(media))),
    )


def _with_and_without_port(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    host = parts.netloc.rsplit("@")[-1].split(":")[0]
    port = parts.port or (443 if parts.scheme == "https" else 80)
    bare, full = parts._replace(netloc=host), parts._replace(netloc=f"{host}:{port}")
    return bare.geturl(), full.geturl()
